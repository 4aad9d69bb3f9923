"""Photos and their holes: MISATO, or a folder with drawn masks."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

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
