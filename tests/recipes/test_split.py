"""Images held out for evaluation: the rule, and that no recipe of the miniature reads one of them."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from PIL import Image
from test_config import FILES, RECIPES

from training import latent_augment
from training.data import AugmentedImages, DataConfig, Photos, is_held_out
from training.engine import config
from training.engine.config import ConfigError
from training.evaluation.pairs import PairsConfig, open_pairs
from training.latent_augment import LatentAugmentRecipe
from training.masks import MaskConfig

SHARE = 0.1
TRAINED = [path for path in FILES if path.parent.name == "miniature" and "folders:" in path.read_text()]


def number(stem: str) -> float:
    """A name's place between 0 and 1."""
    return int(hashlib.sha256(stem.encode()).hexdigest(), 16) / 2**256


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """200 small images with names of many kinds."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "sub").mkdir()
    for i in range(200):
        name = f"{'sub/' if i % 3 else ''}{'ü ' if i % 5 == 0 else 'image_'}{i:03d}.{('jpg', 'png', 'JPEG')[i % 3]}"
        Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / name, "png")
    return folder


def held_out_stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.rglob("*.*") if number(path.stem) < SHARE}


def stems(config: DataConfig) -> list[str]:
    source = Photos(config, 0).source
    return [Path(source.name(i)).stem for i in range(len(source))]


def test_validation_is_on_the_photos_that_training_leaves_out(folder):
    """Of the same folder; where no share is kept, the folder itself is another one."""
    data = DataConfig((str(folder),), held_out=SHARE)
    assert set(stems(data.of((str(folder),)))) == held_out_stems(folder)
    assert data.of(()) == data
    other = replace(data, folders=("other",), held_out=0.0)
    assert other.of((str(folder),)) == replace(other, folders=(str(folder),))


def test_train_and_held_out_are_parts_of_the_whole(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path / "cache"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed, shard = tmp_path / "images.txt", tmp_path / "images.tar"
    listed.write_text("".join(f"{path}\n" for path in files), encoding="utf-8")
    with tarfile.open(shard, "w") as tar:
        for path in files:
            tar.add(path, f"another/{path.name}")
    expected = held_out_stems(folder)
    assert 5 < len(expected) < 40
    for location in (folder, listed, shard):
        everything = DataConfig((str(location),), 16)
        train, held_out = (stems(replace(everything, held_out=SHARE, split=split)) for split in ("train", "held_out"))
        assert set(held_out) == expected
        assert set(train).isdisjoint(held_out)
        assert sorted(train + held_out) == sorted(stems(everything)) == sorted(path.stem for path in files)


def test_samples_of_a_split_are_its_own_images(folder, tmp_path, monkeypatch):
    """Also from a shard, whose images keep their places."""
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path / "cache"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for path in files:
            tar.add(path, path.name)
    red = {Image.open(path).getpixel((0, 0))[0] for path in files if number(path.stem) < SHARE}
    for location in (folder, tmp_path / "images.tar"):
        for split, expected in (("held_out", red), ("train", set(range(200)) - red)):
            dataset = Photos(DataConfig((str(location),), 16, held_out=SHARE, split=split), 0)
            assert {int(dataset[i]["image"][0, 0, 0]) for i in range(len(dataset.source))} == expected


def test_other_images_change_nothing():
    """Unlike a share of a shuffled list would."""
    assert is_held_out("a/chelsea.jpg", 0.13)
    assert is_held_out("b/chelsea.png", 0.13)
    assert not is_held_out("chelsea.jpg", 0.12)
    assert not is_held_out("chelsea.jpg", 0.0)


def locations(recipe: object) -> Iterator[object]:
    """Every part of a recipe that says where photos to train on are."""
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "folders":
            yield recipe
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from locations(part)


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_no_recipe_of_the_miniature_reads_a_held_out_image(path, folder):
    found = list(locations(config.read(RECIPES[path.stem.split("-")[0]], path)))
    assert found
    for part in found:
        assert part.held_out == SHARE
        if isinstance(part, DataConfig):
            read = stems(replace(part, folders=(str(folder),), augmented=None))
            assert set(read).isdisjoint(held_out_stems(folder))
            assert len(read) == 200 - len(held_out_stems(folder))


def test_ablations_read_what_the_recipes_that_they_extend_read():
    extending = [path for path in FILES if path.parent.name == "miniature" and "extends:" in path.read_text()]
    for path in extending:
        for part in locations(config.read(RECIPES[path.stem.split("-")[0]], path)):
            assert getattr(part, "held_out", SHARE) == SHARE, path


def test_held_out_photos_get_no_twins(photos, base, tmp_path):
    """chelsea's and coffee's names are below 0.3."""
    recipe = LatentAugmentRecipe(
        str(base), (str(photos),), str(tmp_path), max_side=64, batch_size=1, workers=0, held_out=0.3
    )
    twins = AugmentedImages(latent_augment.run(recipe))
    found = {path.stem for path in photos.iterdir() if twins.of(path.read_bytes())}
    assert found == {"astronaut", "rocket"}


def test_benchmark_takes_just_the_held_out_photos(photos, masks):
    drawn = MaskConfig(objects=str(masks), size=64)
    everything = PairsConfig(photos=str(photos), masks=drawn, size=64)
    assert len(open_pairs(everything)) == 4
    assert set(open_pairs(replace(everything, held_out=0.3)).names) == {"chelsea", "coffee"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"held_out": 1.0}, "held_out is 1.0, expected a share from 0 to below 1"),
        ({"held_out": -0.1}, "held_out is -0.1, expected a share"),
        ({"split": "held_out"}, "split is held_out but held_out is 0"),
        ({"split": "test"}, "split is 'test', expected 'train' or 'held_out'"),
    ],
)
def test_splits_that_cannot_be(tmp_path, settings, message):
    (tmp_path / "data.yaml").write_text(json.dumps({"folders": ["a"], **settings}))
    with pytest.raises(ConfigError, match=message):
        config.read(DataConfig, tmp_path / "data.yaml")


def test_a_split_without_images_is_told(photos):
    with pytest.raises(FileNotFoundError, match="none of the 4 images is in the split; change held_out"):
        Photos(DataConfig((str(photos),), held_out=0.1, split="held_out"), 0)
