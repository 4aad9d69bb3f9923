"""Choosing and writing MISATO's pairs, on small sets with features that are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.engine.config import ConfigError
from training.evaluation.coco import Foregrounds
from training.evaluation.misato import MIN_HOLE, MisatoRecipe, nearest_to_centers, run
from training.evaluation.pairs import PairsConfig, open_pairs
from training.masks import MaskConfig, decode_runs

SIZE, COUNT = 64, 3
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))


@pytest.fixture
def recipe(tmp_path, masks) -> MisatoRecipe:
    """Three kinds of colour in each set, seven photos of each; the background has a large object on its left."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for domain in ("outdoor", "background"):
        (tmp_path / domain).mkdir()
        for i in range(7 * COUNT):
            pixels = np.clip(np.array(COLOURS[i % COUNT]) + rng.normal(0, 10, 3), 0, 255)
            Image.new("RGB", (100, 80), tuple(pixels.astype(int).tolist())).save(tmp_path / domain / f"{i:02d}.png")
            images.append({"id": i, "file_name": f"{i:02d}.png"})
            polygon = [0, 0, 40, 0, 40, 80, 0, 80]
            annotations.append({"image_id": i, "segmentation": [polygon], "iscrowd": 0})
    Image.open(tmp_path / "outdoor" / "00.png").save(tmp_path / "outdoor" / "copy.png")
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return MisatoRecipe(
        masks=MaskConfig(objects=str(masks), size=SIZE),
        out=str(tmp_path / "misato"),
        outdoor=str(tmp_path / "outdoor"),
        background=str(tmp_path / "background"),
        coco=str(tmp_path / "coco.json"),
        count=COUNT,
        size=SIZE,
        normalize=False,
    )


def mean_colour(pictures) -> np.ndarray:
    return np.array([picture.mean((0, 1)) for picture in pictures])


def test_photos_nearest_to_the_centers_are_chosen(recipe):
    run(recipe, mean_colour)
    manifest = json.loads(Path(recipe.out, "manifest.json").read_text())
    assert [entry["name"] for entry in manifest] == ["0000", "0001", "0002", "1500", "1501", "1502"]
    for domain, folder in recipe.folders.items():
        chosen = {entry["file"] for entry in manifest if entry["domain"] == domain}
        expected = set()
        for kind in range(COUNT):  # written out: of each colour the photo nearest to the mean one
            files = sorted(Path(folder).glob("[0-9]*.png"))[kind::COUNT]
            colours = mean_colour(np.asarray(Image.open(file)) for file in files)
            expected.add(files[np.linalg.norm(colours - colours.mean(0), axis=1).argmin()].name)
        assert chosen == expected


def test_written_set_reads_as_published(recipe):
    run(recipe, mean_colour)
    manifest = {entry["name"]: entry for entry in json.loads(Path(recipe.out, "manifest.json").read_text())}
    pairs = list(open_pairs(PairsConfig(misato=recipe.out, size=SIZE)))
    assert [pair.name for pair in pairs] == list(manifest)
    for pair in pairs:
        entry = manifest[pair.name]
        assert pair.domain == entry["domain"]
        assert entry["crop"] == [10, 0, 80]
        assert set(np.unique(pair.mask)) == {0, 255}
        assert (pair.mask > 0).mean() == pytest.approx(entry["hole"], abs=1e-4)
        photo = Image.open(Path(recipe.folders[entry["domain"]], entry["file"]))
        assert pair.image[0, 0].tolist() == list(photo.getpixel((10, 0)))


def test_fewer_pairs_are_of_every_domain(recipe):
    run(recipe, mean_colour)
    assert [pair.name for pair in open_pairs(PairsConfig(misato=recipe.out, size=SIZE, count=4))] == [
        "0000",
        "0001",
        "1500",
        "1501",
    ]
    with pytest.raises(ValueError, match="has 6 photos, fewer than count, 7"):
        open_pairs(PairsConfig(misato=recipe.out, size=SIZE, count=7))


def test_1024_pixels_come_from_the_same_manifest_without_background(recipe):
    run(recipe, mean_colour)
    run(replace(recipe, size=1024), mean_colour)
    assert [pair.name for pair in open_pairs(PairsConfig(misato=recipe.out, size=1024))] == ["0000", "0001", "0002"]


def test_no_background_hole_covers_an_object(recipe):
    run(recipe, mean_colour)
    for number in range(1500, 1500 + COUNT):
        mask = np.asarray(Image.open(Path(recipe.out, str(SIZE), "mask", f"{number:04d}.png"))) > 0
        assert not mask[:, : SIZE * 30 // 80].any()  # 40 pixels of the photo less the 10 cropped
        assert mask.mean() >= MIN_HOLE


def test_holes_are_off_the_objects_of_photos_that_exif_turns(recipe):
    """The object is black."""
    turned = Image.Exif()
    turned[274] = 6
    for file in Path(recipe.background).iterdir():
        with Image.open(file) as photo:
            photo.paste((0, 0, 0), (0, 0, 40, 80))
            photo.save(file, exif=turned)
    run(recipe, mean_colour)
    pairs = [pair for pair in open_pairs(PairsConfig(misato=recipe.out, size=SIZE)) if pair.domain == "background"]
    assert len(pairs) == COUNT
    for pair in pairs:
        black = pair.image.max(-1) < 10
        assert 0.3 < black.mean() < 0.45
        assert not (black & (pair.mask > 0)).any()


@pytest.mark.parametrize("domain", ["outdoor", "background"])
def test_unreadable_photos_are_skipped_and_counted(recipe, caplog, domain):
    run(recipe, mean_colour)
    first = Path(recipe.out, "manifest.json").read_text()
    for i, content in enumerate((b"", b"no picture")):
        Path(recipe.folders[domain], f"broken {i}.jpg").write_bytes(content)
    other = replace(recipe, out=recipe.out + "-other")
    run(other, mean_colour)
    assert Path(other.out, "manifest.json").read_text() == first
    for i in range(2):
        assert f"broken {i}.jpg: not a readable image, skipped ({i + 1} so far)" in caplog.text


def test_photos_without_room_for_a_hole_give_way_to_the_next(recipe):
    annotations = json.loads(Path(recipe.coco).read_text())
    run(recipe, mean_colour)
    first = [entry["file"] for entry in json.loads(Path(recipe.out, "manifest.json").read_text())[COUNT:]]
    for annotation in annotations["annotations"]:
        if f"{annotation['image_id']:02d}.png" == first[0]:
            annotation["segmentation"] = [[0, 0, 100, 0, 100, 80, 0, 80]]
    Path(recipe.coco).write_text(json.dumps(annotations))
    other = replace(recipe, out=recipe.out + "-other")
    run(other, mean_colour)
    second = [entry["file"] for entry in json.loads(Path(other.out, "manifest.json").read_text())[COUNT:]]
    assert second[0] != first[0]
    assert int(second[0][:2]) % COUNT == int(first[0][:2]) % COUNT  # of the same cluster
    assert second[1:] == first[1:]


def test_manifest_is_enough_and_is_checked(recipe):
    run(recipe, mean_colour)
    copy = replace(recipe, out=recipe.out + "-copy")
    Path(copy.out).mkdir()
    Path(recipe.out, "manifest.json").rename(Path(copy.out, "manifest.json"))
    run(copy, None)
    ours, theirs = (sorted(Path(r.out, str(SIZE)).rglob("*.png")) for r in (recipe, copy))
    assert len(ours) == 4 * COUNT
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
    for file in Path(recipe.outdoor).iterdir():
        Image.new("RGB", (100, 80)).save(file)
    with pytest.raises(ValueError, match=r"not the manifest's .*; it is another photo"):
        run(copy, None)


def test_manifest_of_other_masks_or_sets_is_refused(recipe, monkeypatch):
    run(recipe, mean_colour)
    with pytest.raises(ValueError, match="its mask is not the manifest's"):
        run(replace(recipe, masks=replace(recipe.masks, irregular=("thick-512",))), None)
    with pytest.raises(ConfigError, match=r"manifest.json has no indoor; remove it"):
        run(replace(recipe, indoor=recipe.outdoor), None)
    with pytest.raises(ConfigError, match="background needs coco"):
        replace(recipe, coco=None)


def test_parts_of_an_object_that_overlap_are_one(tmp_path):
    squares = [[0, 0, 5, 0, 5, 5, 0, 5], [3, 3, 8, 3, 8, 8, 3, 8]]
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segmentation": squares}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert Foregrounds(str(tmp_path / "coco.json")).crop("a.jpg", (10, 10), 10)[4, 4] == 1


def test_too_few_photos():
    with pytest.raises(ValueError, match="4 different photos are too few for 5 clusters"):
        nearest_to_centers(np.zeros((4, 2)), 5, 0)


def test_crowds_are_foreground_too(tmp_path):
    """Run lengths go down the columns, zeros first."""
    runs = {"size": [4, 5], "counts": [4, 2, 14]}
    expected = np.zeros((4, 5), np.uint8)
    expected[:2, 1] = 1
    assert np.array_equal(decode_runs(runs), expected)
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segmentation": runs}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    foregrounds = Foregrounds(str(tmp_path / "coco.json"))
    assert np.array_equal(foregrounds.crop("a.jpg", (4, 5), 4), expected[:, :4])
    with pytest.raises(ValueError, match=r"b\.jpg is none of the 1 photos that .*coco\.json is about"):
        foregrounds.crop("b.jpg", (4, 5), 4)
