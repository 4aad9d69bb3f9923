"""Photos and their holes: MISATO, or a folder with drawn masks."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from training.engine.config import ConfigError
from training.evaluation.pairs import PairsConfig, open_pairs
from training.masks import MaskConfig


@pytest.mark.parametrize("size, mask_name", [(512, "{}.png"), (1024, "00{}.png")])
def test_misato_in_its_published_layout(tmp_path, size, mask_name):
    names = ["0000", "0500", "1499"] + ["1500"] * (size == 512)
    for kind in ("image", "mask"):
        (tmp_path / str(size) / kind).mkdir(parents=True)
    for i, name in enumerate(names):
        mask = np.zeros((size, size), np.uint8)
        mask[: 100 + i] = 255
        Image.new("RGB", (size, size), (10 * i, 0, 0)).save(tmp_path / str(size) / "image" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / str(size) / "mask" / mask_name.format(name))
    pairs = list(open_pairs(PairsConfig(misato=str(tmp_path), size=size)))
    assert [pair.name for pair in pairs] == names
    assert [pair.domain for pair in pairs] == ["outdoor", "indoor", "building", "background"][: len(names)]
    assert [int(pair.image[0, 0, 0]) for pair in pairs] == [10 * i for i in range(len(names))]
    assert [(pair.mask[:, 0] > 0).sum() for pair in pairs] == [100 + i for i in range(len(names))]


def test_photos_with_drawn_masks(photos, masks, tmp_path):
    drawn = MaskConfig(objects=str(masks), size=96)
    config = PairsConfig(photos=str(photos), masks=drawn, size=96, count=3, hole=(0.1, 0.4))
    pairs, again = list(open_pairs(config)), open_pairs(config)
    assert len({pair.name for pair in pairs}) == 3
    for i, pair in enumerate(pairs):
        assert pair.image.shape == (96, 96, 3)
        assert 0.1 <= (pair.mask == 255).mean() <= 0.4
        assert np.array_equal(pair.mask, again[i].mask)
    with pytest.raises(ValueError, match="has 4 photos, fewer than count, 9"):
        open_pairs(replace(config, count=9))
    (tmp_path / "photos").mkdir()
    for suffix in (".png", ".jpg"):
        Image.new("RGB", (96, 96)).save(tmp_path / "photos" / f"same{suffix}")
    with pytest.raises(ValueError, match="photos of the same name"):
        open_pairs(replace(config, photos=str(tmp_path / "photos"), count=None))
    with pytest.raises(ValueError, match="either mask_folder or masks"):
        open_pairs(replace(config, masks=None))


@pytest.fixture
def wide(tmp_path) -> PairsConfig:
    """A photo of 300x256, its mask to be written."""
    for folder in ("photos", "masks/below"):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (256, 300, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    return PairsConfig(photos=str(tmp_path / "photos"), mask_folder=str(tmp_path / "masks"), size=256)


@pytest.fixture
def hole() -> np.ndarray:
    y, x = np.mgrid[:256, :300]
    return ((x - 120) / 70.3) ** 2 + ((y - 140) / 50.7) ** 2 < 1


@pytest.mark.parametrize("size", [256, 128])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "below/a.WEBP"])
def test_masks_are_cropped_as_their_photos_are(wide, hole, tmp_path, name, size):
    image = Image.fromarray(np.repeat(hole[..., None] * np.uint8(255), 3, axis=2))
    image.save(tmp_path / "masks" / name, quality=95)
    (pair,) = open_pairs(replace(wide, size=size))
    square = hole[:, 22:278].astype(float)
    blocks = square.reshape(size, 256 // size, size, 256 // size).mean((1, 3))
    assert (pair.image.shape[:2], pair.mask.shape) == ((size, size), (size, size))
    assert np.array_equal(pair.mask, (blocks >= 0.5) * np.uint8(255))


def test_masks_that_are_square_already_stay(wide, hole, tmp_path):
    """In alpha, as ComfyUI's mask editor writes them."""
    square = hole[:, 22:278][::2, ::2]
    alpha = np.dstack([np.zeros((128, 128, 3), np.uint8), np.where(square, 0, 255).astype(np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "masks" / "a.png")
    (pair,) = open_pairs(replace(wide, size=128))
    assert np.array_equal(pair.mask > 0, square)


def test_masks_that_fit_no_photo_are_told(wide, hole, tmp_path):
    path = tmp_path / "masks" / "a.png"
    Image.fromarray(hole[:200]).save(path)
    with pytest.raises(ConfigError, match=f"{path} is 300x200; expected 300x256, as its photo, or 256x256"):
        open_pairs(wide)[0]
    Image.fromarray(hole).save(tmp_path / "masks" / "below" / "a.bmp")
    with pytest.raises(ConfigError, match=f"{path} and .*a.bmp are both masks of a; remove one"):
        open_pairs(wide)
