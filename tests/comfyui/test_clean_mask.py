"""Clean Mask against scikit-image."""

import sys

import numpy as np
import pytest
import skimage.morphology
import torch
from graphs import ellipse
from scipy import ndimage
from torch import Tensor


@pytest.fixture
def clean(extension):
    return lambda *arguments: (
        sys.modules["asuka_extension.nodes.clean_mask"].ASUKA_CleanMask.execute(*arguments).args[0]
    )


def noisy_mask() -> np.ndarray:
    """An ellipse with pinholes, and specks around it."""
    return ellipse(200, 160, 0.2) ^ (np.random.default_rng(0).random((160, 200)) < 0.02)


def as_mask(*masks: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(masks)).float()


def test_specks_go_and_holes_close(clean):
    mask = noisy_mask()
    found = clean(as_mask(mask, ~mask), 0.005, True, 0.0)
    for expected, result in zip((mask, ~mask), found, strict=True):
        expected = skimage.morphology.remove_small_objects(expected, max_size=0.005 * mask.size - 1, connectivity=2)
        background = skimage.measure.label(~expected, connectivity=1)
        outside = np.isin(background, np.unique(np.concatenate([background[[0, -1]].ravel(), background[:, [0, -1]].ravel()])))  # fmt: skip
        assert torch.equal(result, as_mask(expected | ~outside)[0])
    assert 0 < found[0].sum() < found[0].numel()


def test_growing(clean):
    mask = ellipse(200, 160, 0.2)
    expected = skimage.morphology.dilation(mask, skimage.morphology.disk(10))
    assert torch.equal(clean(as_mask(mask), 0.0, False, 0.05), as_mask(expected))


def test_what_is_switched_off_changes_nothing(clean):
    mask = noisy_mask()
    assert torch.equal(clean(as_mask(mask), 0.0, False, 0.0), as_mask(mask))
    assert torch.equal(clean(0.6 * as_mask(mask)[0], 0.0, False, 0.0), as_mask(mask))


def test_empty_mask_stays_empty(clean):
    assert not clean(torch.zeros(2, 8, 8), 0.005, True, 0.1).any()


def test_mask_of_specks_alone_names_the_remedy(clean):
    specks, object_ = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    specks[10:12, 10:12], object_[10:30, 10:30] = True, True
    with pytest.raises(ValueError, match=r"smaller than min_area, 0\.5% of the image, .* lower min_area"):
        clean(as_mask(specks), 0.005, True, 0.0)
    assert torch.equal(clean(as_mask(specks, object_), 0.005, True, 0.0), as_mask(specks & False, object_))


def test_distances_are_exact_to_the_limit_and_can_be_cancelled(clean):
    """On a picture of several strips, holes at their first and last rows."""
    distance_to = sys.modules["asuka_extension.nodes.distance"].distance_to
    hole = np.zeros((1600, 40), bool)
    hole[3, 5] = hole[511, 20] = hole[1024, 9] = hole[1590, 0] = True
    for limit in (0.5, 7.0, 30.2, 700.0):
        expected, found = ndimage.distance_transform_edt(~hole), distance_to(hole, limit)
        assert np.array_equal(found <= limit, expected <= limit)
        assert np.array_equal(found[expected <= limit], expected[expected <= limit])
    assert np.isinf(distance_to(np.zeros((8, 8), bool), 3)).all()
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        clean(as_mask(hole), 0.0, False, 0.1)


def test_masks_of_other_shapes(clean):
    mask = as_mask(ellipse(200, 160, 0.2))
    expected = clean(mask, 0.0, False, 0.05)
    for other in (mask[..., None], mask[:, None], mask[0], mask > 0.5):
        assert torch.equal(clean(other, 0.0, False, 0.05), expected)


def test_mask_that_leaves_nothing_known_is_warned_of(clean, caplog):
    """A frame, as around a padded photo: its inside is enclosed."""
    frame = np.ones((64, 64), bool)
    frame[8:-8, 8:-8] = False
    clean(as_mask(frame), 0.0, False, 0.0)
    assert not caplog.text
    clean(as_mask(frame), 0.0, True, 0.0)
    assert "the mask leaves no known pixel" in caplog.text


def whole_picture(mask: np.ndarray, min_area: float, fill_holes: bool, grow: float) -> np.ndarray:
    """The same steps on all pixels, by scipy alone."""
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    mask = mask & (np.bincount(regions.ravel()) >= min_area * mask.size)[regions]
    if fill_holes:
        mask = ndimage.binary_fill_holes(mask)
    pixels = grow * max(mask.shape)
    return mask if not mask.any() or not grow else ndimage.distance_transform_edt(~mask) <= pixels


def test_box_gives_what_the_whole_picture_gives(extension):
    """To the bit, for masks at the border, empty and full ones, and growths whose rounding matters (0.29 of 100)."""
    clean = sys.modules["asuka_extension.nodes.clean_mask"].clean
    rng = np.random.default_rng(0)
    for i in range(300):
        h, w = (100, 60) if i % 3 else rng.integers(1, 90, 2)
        mask = rng.random((h, w)) < rng.choice([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
        if i % 2:  # a solid piece somewhere, with pinholes
            top, bottom, left, right = (*sorted(rng.integers(0, h + 1, 2)), *sorted(rng.integers(0, w + 1, 2)))
            mask = np.zeros((h, w), bool)
            mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < 0.9
        settings = rng.choice([0.0, 0.005, 0.3]), bool(i % 4 < 2), rng.choice([0.0, 0.07, 0.29, 0.5, rng.random() / 2])
        assert np.array_equal(clean(mask, *settings), whole_picture(mask, *settings)), (i, settings)
