"""The membrane against a sparse solver's exact solution of Laplace's equation, and what it does to a step in colour."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
import torch.nn.functional as F
from torch import Tensor

from asuka_modules.seams import close_seam, grow, membrane


@pytest.fixture
def mask() -> Tensor:
    """A hole with a corner, an island in it, and a side at the picture's own border, where nothing is known."""
    mask = torch.zeros(1, 1, 75, 61)
    mask[..., 12:60, 8:61] = 1
    mask[..., 40:60, 8:20] = 0
    mask[..., 25:32, 30:39] = 0
    return mask


def waves(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    return torch.stack([y.sin(), (2 * x).cos(), (x + y).sin() / 2])[None]


def exact_membrane(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(C, H, W), (H, W) bool -> (C, number of hole pixels): every one is the mean of its neighbours in the picture."""
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    matrix = scipy.sparse.lil_matrix((hole.sum(), hole.sum()))
    right = np.zeros((hole.sum(), len(values)))
    for y, x in zip(*hole.nonzero(), strict=True):
        i = number[y, x]
        for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not all(0 <= a < n for a, n in zip(at, hole.shape, strict=True)):
                continue
            matrix[i, i] += 1
            if number[at] >= 0:
                matrix[i, number[at]] -= 1
            else:
                right[i] += values[(slice(None), *at)]
    return scipy.sparse.linalg.spsolve(matrix.tocsc(), right).T


def test_membrane_is_near_the_exact_one(mask):
    values, edge = waves(75, 61), F.max_pool2d(mask, 3, 1, 1) - mask
    hole = mask[0, 0].numpy() > 0
    exact = exact_membrane(values[0].numpy(), hole)
    found = membrane(values * edge, edge)[0].numpy()
    assert np.array_equal(found[:, edge[0, 0].numpy() > 0], values[0].numpy()[:, edge[0, 0].numpy() > 0])
    error = np.abs(found[:, hole] - exact)
    assert error.mean() < 0.04 * np.ptp(exact)
    assert error.max() < 0.2 * np.ptp(exact)


@pytest.mark.parametrize("height, width", [(65, 33), (75, 61), (69, 73)])
def test_slope_comes_back_at_any_size(height, width):
    """The membrane through a plane is that plane: also where the picture's sides do not halve evenly, on either side."""
    plane = (torch.linspace(0, 0.4, width) + torch.linspace(0, 0.2, height)[:, None]).expand(1, 3, height, width)
    mask = torch.zeros(1, 1, height, width)
    mask[..., 4:-4, 4:-4] = 1
    closed = close_seam(torch.zeros_like(plane), plane, mask)
    assert ((closed - plane) * mask).abs().max() < 0.03 * 0.6


def test_a_hole_costs_what_its_part_of_the_picture_costs():
    """Bit for bit what closing it in that part alone gives."""
    photo, fill, mask = torch.rand(1, 3, 75, 61), torch.rand(1, 3, 75, 61), torch.zeros(1, 1, 75, 61)
    mask[..., 31:42, 20:25] = 1
    part = (..., slice(29, 44), slice(18, 27))
    assert torch.equal(close_seam(fill, photo, mask)[part], close_seam(fill[part], photo[part], mask[part]))


def test_grown_holes_are_squares():
    mask = (torch.rand(2, 1, 40, 30) > 0.98).float()
    assert torch.equal(grow(mask, 4), F.max_pool2d(mask, 9, 1, 4))


def test_step_is_closed_and_texture_kept(mask):
    """A fill with another tint, one that changes over the hole, loses it; what only the fill has stays."""
    photo, texture = waves(75, 61) / 5, torch.zeros(1, 3, 75, 61)
    texture[..., 48:54, 30:50] = 0.2
    slope = torch.linspace(-0.2, 0.3, 75)[:, None].expand(1, 3, 75, 61)
    for tint in (torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1), slope):
        closed = close_seam(photo + texture + tint, photo, mask)
        error = closed - torch.where(mask > 0, photo + texture, photo + texture + tint)
        assert error.abs().max() < 0.2 * tint.abs().max()


def test_what_the_photo_has_in_the_hole_is_not_read(mask):
    photo, fill = torch.rand(1, 3, 75, 61), torch.rand(1, 3, 75, 61)
    assert torch.equal(close_seam(fill, torch.where(mask > 0, torch.nan, photo), mask), close_seam(fill, photo, mask))


def test_without_an_edge_nothing_is_shifted():
    photo, fill = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    for mask in (torch.ones(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)):
        assert torch.equal(close_seam(fill, photo, mask), fill)


def test_batch_is_its_pictures(mask):
    photo, fill = torch.rand(2, 3, 75, 61), torch.rand(2, 3, 75, 61)
    masks = torch.cat([mask, 1 - mask])
    alone = [close_seam(*(x[i : i + 1] for x in (fill, photo, masks))) for i in range(2)]
    assert torch.equal(close_seam(fill, photo, masks), torch.cat(alone))
