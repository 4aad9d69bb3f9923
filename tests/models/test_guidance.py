"""Guidance of the predicted clean latent, against SciPy's Gaussian filter."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from asuka_modules.guidance import guide


@pytest.fixture
def latents() -> tuple[Tensor, Tensor]:
    x0, target = torch.randn(2, 2, 4, 17, 23, generator=torch.Generator().manual_seed(0))
    return x0, target


@pytest.fixture
def mask() -> Tensor:
    """Two holes, of which one touches the border."""
    mask = torch.zeros(2, 1, 17, 23)
    mask[0, :, 3:12, 5:14] = 1
    mask[1, :, 9:, :8] = 1
    return mask


@pytest.mark.parametrize("detail", [1, 2])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_matches_scipy(latents, mask, detail, strength):
    x0, target = latents
    found = guide(x0, target, mask, strength, detail)
    for i, j in np.ndindex(2, 4):
        hole = mask[i, 0].double().numpy()
        difference = (target - x0)[i, j].double().numpy() * hole
        low, share = (ndimage.gaussian_filter(x, detail, mode="constant", truncate=3) for x in (difference, hole))
        shift = torch.from_numpy(strength * hole * low / share.clip(1e-9)).float()
        torch.testing.assert_close(found[i, j], x0[i, j] + shift, atol=1e-5, rtol=1e-5)


def test_constant_difference_is_removed_up_to_the_edges(latents, mask):
    """Neither the hole's edge nor the image's leaves a part of it."""
    x0, _ = latents
    found = guide(x0, x0 + 3.0, mask, 1.0, 2.0)
    torch.testing.assert_close(found, x0 + 3.0 * mask, atol=1e-5, rtol=1e-5)


def test_high_frequencies_stay_the_models(mask):
    y, x = np.mgrid[:17, :23]
    checkerboard = torch.from_numpy((-1.0) ** (x + y)).float().expand(2, 4, 17, 23)
    changed = guide(checkerboard, torch.zeros(2, 4, 17, 23), mask, 1.0, 1.0) - checkerboard
    inner = changed[0, :, 6:9, 8:11]
    assert inner.abs().max() < 0.01


@pytest.mark.parametrize("value", [7.0, 1e6])
def test_known_cells_stay_and_have_no_influence(latents, mask, value):
    x0, target = latents
    known = mask.expand_as(x0) == 0
    found = guide(x0, target, mask, 1.0, 1.0)
    assert torch.equal(found[known], x0[known])
    assert not torch.isclose(found, x0)[~known].all()
    other = guide(x0.masked_fill(known, value), target.masked_fill(known, -value), mask, 1.0, 1.0)
    assert torch.equal(other[~known], found[~known])


def test_one_by_one_is_the_same_as_a_batch(latents, mask):
    x0, target = latents
    together = guide(x0, target, mask, 0.7, 1.5)
    for i in range(2):
        one = (x[i : i + 1] for x in (x0, target, mask))
        torch.testing.assert_close(guide(*one, 0.7, 1.5)[0], together[i], atol=1e-6, rtol=0)
