"""Mask generators against the statistics measured on the published code."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.draw
import skimage.io
import skimage.transform
from PIL import Image
from scipy.stats import ks_2samp

import training.masks.mixture
from benchmarks.masks import plain
from training.engine.config import ConfigError, read
from training.evaluation.coco import Foregrounds
from training.mae import MAERecipe
from training.masks import IRREGULAR, MaskConfig, Mixture, decode_runs, patch_ratio, top_up
from training.masks.coco import CocoInstances
from training.masks.objects import MaskFolder

DRAWS = 1500
# Mean hole share and its spread over 600 draws of the published generators.
PUBLISHED = {
    ("thin-256", 256): (0.29, 0.13),
    ("medium-256", 256): (0.24, 0.13),
    ("thick-256", 256): (0.40, 0.22),
    ("thin-512", 512): (0.29, 0.14),
    ("medium-512", 512): (0.29, 0.16),
    ("thick-512", 512): (0.46, 0.25),
    ("train-256", 256): (0.35, 0.21),
    ("comod", 256): (0.72, 0.18),
    ("comod", 512): (0.64, 0.19),
    ("mat-256", 256): (0.41, 0.20),
    ("mat-512", 512): (0.39, 0.19),
    ("small-256", 256): (0.21, 0.19),
    ("small-512", 512): (0.22, 0.19),
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_mean_hole_share_is_the_published_one(name, size):
    mean, spread = PUBLISHED[name, size]
    generator = IRREGULAR[name]
    rng = np.random.default_rng(0)
    found = np.mean([generator(rng, size).mean() for _ in range(DRAWS)])
    error = spread * np.sqrt(1 / 600 + 1 / DRAWS)
    assert abs(found - mean) <= 3 * error + 0.005  # published means are rounded to 0.01


@pytest.mark.parametrize("name", IRREGULAR)
def test_masks_are_binary_and_a_function_of_the_seed(name):
    generator = IRREGULAR[name]
    first, again, other = (generator(np.random.default_rng(seed), 256) for seed in (3, 3, 4))
    assert first.shape == (256, 256)
    assert first.dtype == np.uint8
    assert set(np.unique(first)) <= {0, 1}
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("config, mean, kept, of_kept", [("mae-paper", 0.73, 0.24, 0.48), ("mae", 0.41, 0.83, 0.37)])
def test_what_is_told_of_the_masks_that_deviate_from_the_paper(config, mean, kept, of_kept):
    """The README's table; the paper's are Co-Mod's."""
    masks = read(MAERecipe, Path(__file__).parents[2] / "training" / "configs" / "sd15" / f"{config}.yaml").masks
    *lama, name = masks.irregular
    assert lama == ["thick-256", "medium-256", "thin-256"]
    assert name == ("comod" if config == "mae-paper" else "mat-256")
    rng = np.random.default_rng(1)
    drawn = [IRREGULAR[name](rng, 256) for _ in range(800)]
    fitting = [mask for mask in drawn if patch_ratio(mask) <= masks.max_patch_ratio]
    assert np.mean(drawn) == pytest.approx(mean, abs=0.025)
    assert len(fitting) / len(drawn) == pytest.approx(kept, abs=0.05)
    assert np.mean(fitting) == pytest.approx(of_kept, abs=0.03)


@pytest.mark.parametrize("name", ["thin-256", "medium-256", "thick-256", "comod", "mat-256", "mat-512"])
def test_masks_are_distributed_as_the_originals_are(name):
    """By area, length of outline and where the hole lies; of both 2,000, of which a fast generator may draw no others."""
    size, rng, older = (
        int(name[-3:]) if name[-3:].isdecimal() else 256,
        np.random.default_rng(5),
        np.random.RandomState(5),
    )

    def measured(masks) -> np.ndarray:
        rows = [(m.mean(), (m[1:] != m[:-1]).mean(), m[: size // 4].mean(), m[:, : size // 4].mean()) for m in masks]
        return np.array(rows).T

    ours = measured(IRREGULAR[name](rng, size) for _ in range(2000))
    originals = measured(plain(name)(older, size) for _ in range(2000))
    for a, b in zip(ours, originals, strict=True):
        assert ks_2samp(a, b).pvalue > 0.001


def test_mixture_respects_the_patch_ratio(masks):
    mixture = Mixture(MaskConfig(objects=str(masks)))
    rng = np.random.default_rng(0)
    ratios = [patch_ratio(mixture(rng)) for _ in range(200)]
    assert min(ratios) >= 0.1
    assert max(ratios) <= 0.75


def test_mixture_has_the_papers_shares(masks, monkeypatch):
    """50 % object, half of these united with an irregular mask, 40 % irregular, 10 % regular: of the masks that are kept."""
    mixture = Mixture(MaskConfig(objects=str(masks)))
    drawn = []

    def watched(name, generator):
        return lambda *arguments: drawn.append(name) or generator(*arguments)

    monkeypatch.setattr(mixture, "objects", watched("object", mixture.objects))
    sources = [
        [watched(name, g) for g in source] for name, source in zip(("lama", "comod"), mixture.irregular, strict=True)
    ]
    monkeypatch.setattr(mixture, "irregular", sources)
    for name in ("rectangle", "complement_rectangle"):
        monkeypatch.setattr(training.masks.mixture, name, watched(name, getattr(training.masks.mixture, name)))
    rng, kinds = np.random.default_rng(0), []
    for _ in range(4000):
        drawn.clear()
        mixture(rng)
        kinds.append("+".join(sorted(set(drawn))))
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    united = {"lama+object": 0.125, "comod+object": 0.125}
    expected = {"object": 0.25, **united, "lama": 0.2, "comod": 0.2, "rectangle": 0.05, "complement_rectangle": 0.05}
    assert shares == pytest.approx(expected, abs=0.025)


def test_what_the_paper_does_not_state_can_be_chosen(masks):
    config = MaskConfig(objects=str(masks), family="regular", rectangle_sides=(0.5, 0.501), max_patch_ratio=0.8)
    rng = np.random.default_rng(0)
    shares = {round(float(Mixture(config)(rng).mean()), 2) for _ in range(20)}
    assert shares == {0.25, 0.75}
    config = MaskConfig(objects=str(masks), family="object", object_sides=(0.5, 0.501), object_grow=0.0)
    mixture = Mixture(config)
    longest = {max(np.ptp(np.nonzero(mixture.objects(rng, 200)), axis=1)) + 1 for _ in range(20)}
    assert longest == {100}


def test_free_form_masks_are_neither_empty_nor_full():
    rng = np.random.default_rng(0)
    assert all(0 < IRREGULAR["mat-256"](rng, 64).mean() < 1 for _ in range(400))


def test_object_masks_stay_in_memory_as_bits_and_not_all(masks, tmp_path, monkeypatch):
    shapes = MaskFolder(shutil.copytree(masks, tmp_path / "masks"))
    monkeypatch.setattr(MaskFolder, "KEPT", 2)
    first = list(shapes)
    assert first[0].shape == (39, 79)  # an ellipse of half axes 20 and 40
    assert sum(bits.nbytes for _, bits in shapes.kept.values()) == math.ceil(39 * 79 / 8) + math.ceil(89 * 49 / 8)
    Image.new("L", (5, 5), 255).save(tmp_path / "masks" / "0.png")
    Image.new("L", (5, 5), 255).save(tmp_path / "masks" / "2.png")
    again = list(shapes)
    assert all(map(np.array_equal, first[:2], again[:2]))
    assert again[2].shape == (5, 5)  # read anew


@pytest.fixture
def faulty(masks, tmp_path) -> Path:
    """Between two masks one that is cut off and one that is black, and one that claims too many pixels."""
    folder = tmp_path / "faulty"
    folder.mkdir()
    for name in ("0.png", "3.png"):
        shutil.copy(masks / "0.png", folder / name)
    (folder / "1.png").write_bytes((masks / "1.png").read_bytes()[:40])
    skimage.io.imsave(folder / "2.png", np.zeros((8, 8), np.uint8), check_contrast=False)
    png = bytearray((masks / "1.png").read_bytes())
    png[16:24] = (100_000).to_bytes(4, "big") * 2  # width and height, in the header
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    (folder / "4.png").write_bytes(png)
    return folder


@pytest.mark.parametrize("source", ["objects", "ready"])
def test_mask_that_cannot_be_used_is_named_and_the_next_taken(faulty, source, caplog):
    mixture = Mixture(MaskConfig(**{source: str(faulty)}, family="object"))
    masks = mixture.objects.shapes if source == "objects" else mixture.ready.masks
    assert len(masks) == 5
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    problems = ["1.png: not a readable image", "2.png: black all over", "4.png: more than 89 million pixels"]
    expected = [f"{faulty}/{problem}, skipped ({i} so far)" for i, problem in enumerate(problems, start=1)]
    assert [record.getMessage() for record in caplog.records] == expected
    for seed in range(20):
        assert mixture(np.random.default_rng(seed)).any()
    for name in ("0.png", "3.png"):
        (faulty / name).unlink()
    with pytest.raises(ConfigError, match=r"none of 3 masks can be used, such as .*\.png; expected white in the hole"):
        Mixture(MaskConfig(**{source: str(faulty)}, family="object"))(np.random.default_rng(0))


def test_listed_masks_that_are_not_there_are_told_at_once(masks, tmp_path, caplog):
    listed = tmp_path / "masks.txt"
    listed.write_text(f"{masks / '0.png'}\nnone.png\n{masks / '1.png'}\nnowhere.png\n")
    ready = Mixture(MaskConfig(ready=str(listed))).ready.masks
    assert caplog.messages == ["none.png, nowhere.png: no such file, skipped (2 of 4 masks)"]
    assert np.array_equal(ready[1], ready[2])
    assert np.array_equal(ready[3], ready[0])
    assert len(caplog.messages) == 1
    listed.write_text("none.png\nnowhere.png\n")
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file, and none of the 2 masks is there"):
        Mixture(MaskConfig(ready=str(listed)))
    listed.write_text("")
    with pytest.raises(FileNotFoundError, match=r"masks\.txt: no images"):
        Mixture(MaskConfig(ready=str(listed)))


def test_top_up_hides_exactly_three_quarters_and_uncovers_nothing():
    rng = np.random.default_rng(0)
    for holes in (0, 1, 100, 192):
        hidden = np.zeros(256, bool)
        hidden[rng.choice(256, holes, replace=False)] = True
        result = top_up(hidden, rng)
        assert result.sum() == 192
        assert result[hidden].all()


def test_top_up_refuses_to_leak():
    hidden = np.ones(256, bool)
    hidden[:32] = False
    with pytest.raises(ValueError, match="224 of 256 patches are holes"):
        top_up(hidden, np.random.default_rng(0))


def test_coco_instances_are_object_shapes(tmp_path):
    """The polygons of one instance unite, also where they overlap; crowds, specks and what fills the picture are left out."""
    triangle, square = [10, 10, 40, 10, 10, 40], [60, 60, 80, 60, 80, 80, 60, 80]
    upper = [10, 10, 30, 10, 30, 25, 10, 25]  # within the triangle, nearly all of it
    annotations = [
        {"image_id": 1, "iscrowd": 0, "area": 900, "segmentation": [triangle, square, upper]},
        {"image_id": 1, "iscrowd": 1, "area": 900, "segmentation": {"counts": [], "size": [100, 100]}},
        {"image_id": 1, "iscrowd": 0, "area": 10, "segmentation": [square]},
        {"image_id": 1, "iscrowd": 0, "area": 9000, "segmentation": [square]},
        {"image_id": 1, "area": 441, "segmentation": [square]},  # as some tools write it, without iscrowd
    ]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": [{"id": 1, "width": 100, "height": 100}], "annotations": annotations}))
    shapes = CocoInstances(path, (0.005, 0.5))
    assert [shape.shape for shape in shapes] == [(71, 71), (21, 21)]
    assert shapes[1].all()
    reference = np.zeros((101, 101), bool)
    for polygon in (triangle, square, upper):
        corners = np.reshape(polygon, (-1, 2))
        reference |= skimage.draw.polygon2mask(reference.shape, corners[:, ::-1])
    agreement = (shapes[0] > 0) == reference[10:81, 10:81]
    assert agreement.mean() > 0.98  # the two rasterisers treat edges differently
    mixture = Mixture(MaskConfig(objects=str(path)))
    assert 0 < mixture(np.random.default_rng(0)).mean() < 1
    with pytest.raises(ConfigError, match="no usable instance"):
        Mixture(MaskConfig(objects=str(path), coco_area=(0.95, 1.0)))


SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]
GOOD = {"id": 7, "image_id": 1, "area": 900, "segmentation": [SQUARE]}
RUNS = {"size": [100, 100], "counts": [500, 500, 9000]}
ODD = {  # what is wrong with an annotation, and how it is told
    "no segmentation": {"segmentation": ...},
    "null": {"segmentation": None},
    "empty": {"segmentation": []},
    "caption": {"segmentation": ..., "caption": "a square"},
    "no area": {"area": ...},
    "null area": {"area": None},
    "unlisted image": {"image_id": 3},
    "no image": {"image_id": ...},
    "image as a list": {"image_id": [1]},
    "image without size": {"image_id": 2},
    "odd number of coordinates": {"segmentation": [SQUARE[:7]]},
    "two points": {"segmentation": [SQUARE[:4]]},
    "flat polygon": {"segmentation": SQUARE},
    "words": {"segmentation": [["a"] * 8]},
    "text": {"segmentation": "a square"},
    "nulls": {"segmentation": [[None] * 8]},
    "points": {"segmentation": [[[10, 10], [40, 10], [40, 40], [10, 40], [10, 20], [10, 10]]]},
    "far away": {"segmentation": [[10, 10, 1e9, 10, 40, 40]]},
    "number beyond floats": {"segmentation": [[10, 10, 10**400, 10, 40, 40]]},
    "not a number": {"segmentation": [[10, 10, float("nan"), 10, 40, 40]]},
    "runs too short": {"segmentation": {**RUNS, "counts": [500, 500]}},
    "runs of another size": {"segmentation": {"size": [50, 50], "counts": [500, 500, 1500]}},
    "negative runs": {"segmentation": {**RUNS, "counts": [500, -500, 10000]}},
    "runs without size": {"segmentation": {"counts": [500, 500, 9000]}},
    "runs of nothing": {"segmentation": {**RUNS, "counts": [10000]}},
    "compressed runs": {"segmentation": {**RUNS, "counts": "PPYo1k0N2"}},
}
TOLD = {"caption": "a caption but no segmentation", "null": "no segmentation", "empty": "no segmentation"}
TOLD |= {
    "null area": "no area",
    "unlisted image": "an image that is not listed",
    "no image": "an image that is not listed",
}
TOLD |= {"image as a list": "an image that is not listed", "image without size": "an image without height and width"}
TOLD |= {"runs of another size": "run lengths of another size than the image's", "runs of nothing": "an empty shape"}
TOLD |= {"compressed runs": r"compressed run lengths \(PPYo1k0N2\.\.\.\), expected numbers"}
TOLD |= dict.fromkeys(
    ("runs too short", "negative runs", "runs without size"), "run lengths that do not fill their size"
)
TOLD |= {name: name for name in ("no segmentation", "no area")}


def write_coco(path: Path, *annotations: object) -> str:
    images = [{"id": 1, "width": 100, "height": 100, "file_name": "a.jpg"}, {"id": 2}, {"width": 5}, None]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return str(path)


@pytest.mark.parametrize("name", ODD)
def test_odd_annotation_spoils_no_file(name, tmp_path, caplog):
    annotation = {key: value for key, value in {**GOOD, "id": 12, **ODD[name]}.items() if value is not ...}
    told = TOLD.get(name, "an odd polygon")
    path = write_coco(tmp_path / "instances.json", annotation, GOOD, annotation)
    (shape,) = CocoInstances(path, (0, 1))
    assert shape.shape == (31, 31)
    (message,) = caplog.messages
    assert re.search(rf"instances\.json: 2 of 3 annotations skipped: 2 with {told}.* \(such as id 12\)$", message)
    with pytest.raises(
        ConfigError, match=rf"instances\.json: no usable instance .*: 1 with {told}.* \(such as id 12\)$"
    ):
        CocoInstances(write_coco(tmp_path / "instances.json", annotation), (0, 1))


def test_annotations_without_fields_or_id_are_numbered(tmp_path, caplog):
    nameless = {"image_id": 1}
    assert len(CocoInstances(write_coco(tmp_path / "instances.json", None, nameless, GOOD), (0, 1))) == 1
    assert "1 with something else than fields (such as number 0); 1 with no area (such as number 1)" in caplog.text
    with pytest.raises(ConfigError, match="among its 1 annotations: all are crowds, or of another size than asked for"):
        CocoInstances(write_coco(tmp_path / "instances.json", {**GOOD, "iscrowd": 1}), (0, 1))


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "no lists of images and annotations"),
        ("no JSON", "not JSON"),
        ("\xff", "not JSON"),
        ("[1, 2]", "no lists of images and annotations"),
        ('{"images": [], "annotations": {}}', "no lists of images and annotations"),
    ],
)
def test_what_is_no_coco_file_is_told_in_one_line(text, problem, tmp_path):
    path = tmp_path / "captions.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"captions\.json: {problem}.*; expected COCO's instance annotations"):
        Mixture(MaskConfig(objects=str(path)))


def test_foregrounds_of_coco_skip_odd_annotations_too(tmp_path, caplog):
    odd = [{key: value for key, value in {**GOOD, **changes}.items() if value is not ...} for changes in ODD.values()]
    foregrounds = Foregrounds(write_coco(tmp_path / "instances.json", *odd, GOOD))
    expected = np.zeros((100, 100), np.uint8)
    expected[10:41, 10:41] = 1
    found = foregrounds.crop("a.jpg", (100, 100), 100)
    assert np.array_equal(found & expected, expected)
    assert "annotations skipped" in caplog.text
    with pytest.raises(ConfigError, match="no usable instance"):
        Foregrounds(write_coco(tmp_path / "instances.json", {**GOOD, "segmentation": None}))


def test_coco_annotations_are_read_once(tmp_path, monkeypatch):
    """By a process, for all mixtures; with another area, or of a file that is written anew, others are."""
    square = {"image_id": 1, "area": 441, "segmentation": [[60, 60, 80, 60, 80, 80, 60, 80]]}
    path = tmp_path / "instances.json"

    def write(annotations: list[dict]) -> None:
        path.write_text(json.dumps({"images": [{"id": 1, "width": 100, "height": 100}], "annotations": annotations}))

    def shapes(name: str, area: tuple[float, float] = (0.005, 0.5)) -> CocoInstances:
        return Mixture(MaskConfig(objects=name, coco_area=area)).objects.shapes

    write([square])
    first = shapes(str(path))
    monkeypatch.chdir(tmp_path)
    assert shapes("instances.json") is first
    assert shapes(str(path), (0.01, 0.5)) is not first
    write([square, square])
    os.utime(path, (0, 0))
    assert len(shapes(str(path))) == 2


def test_coco_instances_may_be_run_lengths(tmp_path):
    """Column by column, zeros first; a hole in the object is filled."""
    mask = np.zeros((40, 50), np.uint8)
    mask[5:25, 10:30] = 1
    mask[12:15, 18:22] = 0
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"))) + 1
    runs = {"size": [40, 50], "counts": np.diff([0, *changes, mask.size]).tolist()}
    annotation = {"image_id": 1, "iscrowd": 0, "area": int(mask.sum()), "segmentation": runs}
    path = tmp_path / "instances.json"
    coco = {"images": [{"id": 1, "width": 50, "height": 40}], "annotations": [annotation]}
    path.write_text(json.dumps(coco))
    assert np.array_equal(decode_runs(runs), mask)
    (shape,) = CocoInstances(path, (0, 1))
    assert shape.shape == (20, 20)
    assert shape.all()
    runs["counts"] = "PPYo1k0N2"
    path.write_text(json.dumps(coco))
    with pytest.raises(ValueError, match=r"compressed run lengths \(PPYo1k0N2\.\.\.\), expected numbers"):
        CocoInstances(path, (0, 1))


def test_ready_made_masks_replace_the_mixture(masks, tmp_path):
    listed = tmp_path / "masks.txt"
    listed.write_text(f"{masks / '2.png'}\n")
    mask = Mixture(MaskConfig(ready=str(listed), size=64))(np.random.default_rng(0))
    expected = skimage.transform.resize(skimage.io.imread(masks / "2.png") > 127, (64, 64), order=0)
    assert (mask.astype(bool) == expected).mean() > 0.97  # a disc, so mirroring changes nothing
    with pytest.raises(ValueError, match="either objects or ready"):
        Mixture(MaskConfig(objects="a", ready="b"))


def test_contact_sheet(masks, tmp_path):
    out = tmp_path / "masks.png"
    command = [sys.executable, "-m", "training.masks", "--preview", str(out), "--objects", str(masks)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    sheet = skimage.io.imread(out)
    assert sheet.shape[0] == 134 * (len(IRREGULAR) + 4)
    assert sheet.std() > 20


def test_contact_sheet_comes_with_a_report_of_the_masks(masks, faulty, tmp_path):
    """Of a folder with every kind of odd file, and of a COCO file."""
    shutil.copy(masks / "0.png", faulty / "5.tif.png")
    Image.open(masks / "0.png").save(faulty / "6.tif")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")).save(faulty / "7.jpg")
    command = [sys.executable, "-m", "training.masks", "--preview", str(tmp_path / "masks.png"), "--objects"]
    result = subprocess.run(
        [*command, faulty], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert result.stdout == "8 masks, 4 of them not usable\n"
    for problem in (
        "1.png: not a readable",
        "2.png: black all over",
        "4.png: more than 89 million",
        r"7.jpg: .* colors; expected",
    ):
        assert re.search(problem, result.stderr)
    coco = write_coco(tmp_path / "coco.json", {**GOOD, "segmentation": None}, GOOD, GOOD)
    result = subprocess.run([*command, coco], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert result.stdout == "2 instances\n"
    assert "1 of 3 annotations skipped: 1 with no segmentation (such as id 7)" in result.stderr


def test_unknown_generators_are_named():
    with pytest.raises(ValueError, match=r"masks.irregular: no thick-265, only thin-256, "):
        MaskConfig(objects="a", irregular=("thick-265", "mat-256"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--preview", "none/masks.png"], "No such file or directory"),
        (["--preview", "masks.png", "--objects", "none"], "none: no such folder or list"),
    ],
)
def test_contact_sheet_that_cannot_be_made(arguments, message):
    command = [sys.executable, "-m", "training.masks", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "annotation, reason",
    [
        ({"segmentation": {"counts": [10**12], "size": [10**6, 10**6]}}, "run lengths of more than 89 million pixels"),
        ({"area": 10**400}, "no area"),
        ({"area": float("nan")}, "no area"),
    ],
)
def test_absurd_numbers_of_coco_are_named(tmp_path, annotation, reason):
    shape = {"id": 7, "image_id": 1, "area": 900, "segmentation": [[9, 9, 39, 9, 39, 39]], **annotation}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [{"id": 1, "width": 100, "height": 100}], "annotations": [shape]}))
    with pytest.raises(ConfigError, match=re.escape(f"1 with {reason} (such as id 7)")):
        Mixture(MaskConfig(objects=str(path)))
