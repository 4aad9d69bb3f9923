"""Resizing of pictures and masks against OpenCV's area resampling, and around holes."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from asuka_modules.diffedit import to_latent_mask
from asuka_modules.masking import reduce_mask, resize_area, resize_known

SIZES = [  # height and width, before and after
    ((266, 266), (256, 256)),
    ((281, 300), (256, 256)),
    ((530, 563), (256, 512)),
    ((640, 1500), (219, 512)),
    ((512, 512), (256, 256)),
    ((7, 1000), (1, 3)),
    ((200, 100), (256, 256)),  # cv2 covers areas here, too
    ((96, 96), (96, 96)),
]


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((*size, 3), np.float32)


def as_tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def cover(length: int, onto: int) -> np.ndarray:
    """(onto, length): how much of every pixel lies in each of `onto` equal parts, measured at fine points."""
    fine = 4 * onto * length
    at = (np.arange(fine) + 0.5) / fine
    counts = np.zeros((onto, length))
    np.add.at(counts, ((at * onto).astype(int), (at * length).astype(int)), 1)
    return counts / (fine / onto)


def test_area_of_five_pixels_on_four():
    row = torch.arange(5.0).view(1, 1, 1, 5)
    expected = torch.tensor([0.2, 1.4, 2.6, 3.8]).view(1, 1, 1, 4)
    torch.testing.assert_close(resize_area(row, (1, 4)), expected)
    torch.testing.assert_close(resize_area(row.mT, (4, 1)), expected.mT)


@pytest.mark.parametrize("before, after", SIZES)
def test_area_is_opencvs(before, after):
    image = picture(before)
    expected = cv2.resize(image, after[::-1], interpolation=cv2.INTER_AREA)
    known = torch.zeros(1, 1, *before)
    for found in (resize_area(as_tensor(image), after), resize_known(as_tensor(image), known, after)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, as_tensor(expected), atol=1e-5, rtol=0)


def test_area_where_one_side_grows():
    """OpenCV takes something else than areas then."""
    image = picture((30, 12))
    expected = np.einsum("ij,jkc,lk->ilc", cover(30, 13), image, cover(12, 20)).astype(np.float32)
    torch.testing.assert_close(resize_area(as_tensor(image), (13, 20)), as_tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("before, after", SIZES)
def test_known_pixels_are_averaged_alone(before, after):
    """Against the quotient of OpenCV's areas; what is under the hole leaves no trace, a NaN included."""
    image, (h, w) = picture(before), before
    mask = np.zeros(before, np.float32)
    mask[h // 3 : h // 2 + 1, w // 4 : w // 2 + 1] = 1
    known = cv2.resize(1 - mask, after[::-1], interpolation=cv2.INTER_AREA)[..., None]
    total = cv2.resize(image * (1 - mask[..., None]), after[::-1], interpolation=cv2.INTER_AREA)
    found = []
    for under in (0.0, 1.0, np.nan):
        painted = np.where(mask[..., None] > 0, np.float32(under), image)
        found.append(resize_known(as_tensor(painted), torch.from_numpy(mask)[None, None], after))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    certain = torch.from_numpy(known > 0.01)[None, ..., 0].expand(3, -1, -1)
    expected = as_tensor(total / np.maximum(known, 1e-6))
    torch.testing.assert_close(found[0][0][certain], expected[0][certain], atol=1e-4, rtol=0)
    assert not found[0][0][torch.from_numpy(known == 0)[None, ..., 0].expand(3, -1, -1)].any()


def test_a_sliver_of_a_known_pixel_keeps_its_color():
    """However little of it is covered: a 2001st of a row and of a column here."""
    image, mask = torch.full((1, 1, 2001, 2001), 0.7), torch.ones(1, 1, 2001, 2001)
    mask[..., 1, 1] = 0
    found = resize_known(image, mask, (2000, 2000))[0, 0]
    torch.testing.assert_close(found[:2, :2], torch.full((2, 2), 0.7))
    assert found.count_nonzero() == 4


def test_half_precision_loses_nothing_on_the_way():
    image = picture((1500, 1400)).astype(np.float16)
    found = resize_known(as_tensor(image), torch.zeros(1, 1, 1500, 1400).half(), (512, 478))
    expected = resize_area(as_tensor(image.astype(np.float32)), (512, 478))
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, expected.half(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("before, after", SIZES)
def test_every_cell_that_a_hole_touches_is_hole(before, after):
    mask = (np.random.default_rng(1).random(before) < 0.002).astype(np.float32)
    mask[0, 0] = 1
    rows, columns = cover(before[0], after[0]), cover(before[1], after[1])
    expected = rows @ mask @ columns.T > 0
    assert torch.equal(
        reduce_mask(torch.from_numpy(mask)[None, None], after, "area")[0, 0] > 0, torch.from_numpy(expected)
    )


@pytest.mark.parametrize("size", [(100, 84), (90, 120), (64, 64)])
def test_latent_cells_are_of_the_side_that_covers_more(size):
    mask = (np.random.default_rng(2).random(size) < 0.5).astype(np.float32)
    share = cv2.resize(mask, (12, 10), interpolation=cv2.INTER_AREA)
    found = to_latent_mask(torch.from_numpy(mask)[None], (10, 12))[0, 0].numpy()
    clear = np.abs(share - 0.5) > 1e-4
    assert np.array_equal(found[clear], share[clear] > 0.5)
    assert not to_latent_mask(torch.eye(2).repeat(1, 30, 36), (10, 12)).any()  # a checkerboard: half of every cell
