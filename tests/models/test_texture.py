"""Texture transfer against scipy's Gaussian, an exhaustive search, and images whose right filling is known."""

import numpy as np
import pytest
import skimage.data
import torch
from scipy import ndimage

from asuka_modules import texture
from asuka_modules.texture import RADIUS, Search, keep_low, known_patches, transfer_texture

SIZE = 96


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).float().movedim(-1, 0)[None]


def details(image: torch.Tensor, sigma: float = 2.0) -> np.ndarray:
    image = image[0].movedim(0, -1).numpy().astype(np.float64)
    return image - ndimage.gaussian_filter(image, (sigma, sigma, 0))


@pytest.fixture
def mask() -> torch.Tensor:
    y, x = np.mgrid[:SIZE, :SIZE]
    return torch.from_numpy(((y - 50) ** 2 + (x - 40) ** 2 < 22**2).astype(np.float32))[None, None]


@pytest.fixture
def noise() -> torch.Tensor:
    """Gray with a fine random texture."""
    return to_tensor(0.5 + np.random.default_rng(0).normal(0, 0.1, (SIZE, SIZE, 3)).clip(-0.4, 0.4))


def test_known_pixels_are_kept_and_the_result_is_always_the_same(noise, mask):
    flat = torch.where(mask > 0, 0.5, noise)
    result = transfer_texture(flat, mask, 8)
    assert torch.equal(torch.where(mask > 0, 0.0, result), torch.where(mask > 0, 0.0, noise))
    assert torch.equal(result, transfer_texture(flat, mask, 8))


def test_a_flat_fill_gets_the_texture_around_it(noise, mask):
    flat = torch.where(mask > 0, 0.5, noise)
    inside = ndimage.binary_erosion(mask[0, 0].numpy() > 0, iterations=3)
    found = details(transfer_texture(flat, mask, 8))[inside].std()
    assert details(flat)[inside].std() < 0.02 * details(noise)[inside].std()
    assert found > 0.5 * details(noise)[inside].std()


def test_coarse_content_stays_the_fills(mask):
    """A ramp of brightness in the fill is still there, where the known pixels have none."""
    y = np.linspace(0.2, 0.8, SIZE)[:, None, None]
    known = 0.5 + np.random.default_rng(0).normal(0, 0.05, (SIZE, SIZE, 3))
    image = torch.where(mask > 0, to_tensor(np.broadcast_to(y, (SIZE, SIZE, 3)).copy()), to_tensor(known.clip(0, 1)))
    result = transfer_texture(image, mask, 6)
    before, after = (ndimage.gaussian_filter(x[0, 0].numpy().astype(np.float64), 6) for x in (image, result))
    inside = ndimage.binary_erosion(mask[0, 0].numpy() > 0, iterations=6)
    assert np.abs(after - before)[inside].max() < 0.03


def test_stripes_go_on_through_the_hole(mask):
    stripes = np.zeros((SIZE, SIZE, 3))
    stripes[:, np.arange(SIZE) % 8 < 4] = 1.0
    right = to_tensor(stripes)
    blurred = torch.from_numpy(ndimage.gaussian_filter(stripes, (2.0, 2.0, 0))).float().movedim(-1, 0)[None]
    fill = torch.where(mask > 0, blurred, right)
    result = transfer_texture(fill, mask, 4)
    errors = [((x - right).square() * mask).sum() / mask.sum() for x in (fill, result)]
    assert errors[1] < 0.1 * errors[0]


def test_matches_come_near_those_of_an_exhaustive_search(mask):
    """Against all known patches by brute force in numpy; on a photo nearly as good, a random match is ten times worse."""
    image = skimage.data.coffee()[100 : 100 + SIZE, 200 : 200 + SIZE].astype(np.float32) / 255
    torch.manual_seed(0)
    photo = to_tensor(image)
    search = Search(photo, mask, torch.Generator().manual_seed(0))
    start = search.distance(search.flatten(photo), search.index(search.y, search.x), search.source_y, search.source_x)
    for _ in range(6):
        found = search.improve(photo)

    padded = np.pad(image, ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1)).reshape(SIZE, SIZE, 3, 25)
    sources = windows[known_patches(mask)[0, 0].numpy()]
    rows = range(0, len(search.y), 40)
    best = []
    for row in rows:
        difference = windows[search.y[row], search.x[row]] - sources
        squares = np.square(difference).sum((1, 2))
        mean = 25 * np.square(difference.mean(-1)).sum(1)
        best.append((squares - (1 - texture.MEAN_WEIGHT) * mean).min())
    best, found = np.array(best), found[list(rows)].numpy()
    assert (found >= best - 1e-3).all()
    assert found.mean() < 1.6 * best.mean()
    assert start.mean() > 10 * found.mean()


def test_low_frequencies_are_put_back_as_scipys_gaussian_has_them(noise, mask):
    fill, other = noise, noise.flip(-1)
    expected = other + to_tensor(
        ndimage.gaussian_filter(
            (fill - other)[0].movedim(0, -1).numpy().astype(np.float64), (3, 3, 0), mode="nearest", truncate=3
        )
    )
    torch.testing.assert_close(
        keep_low(other, fill, mask, 3.0), torch.where(mask > 0, expected.float(), fill), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("covered", [1.0, 0.0])
def test_without_known_pixels_or_without_a_hole_nothing_changes(noise, covered):
    mask = torch.full((1, 1, SIZE, SIZE), covered)
    assert torch.equal(transfer_texture(noise, mask, 8), noise)


def test_matches_touch_no_hole(noise, mask):
    """Nor the image's border, by looking at every pixel of every match."""
    mask[..., :20, 70:] = 1
    search = Search(noise, mask, torch.Generator().manual_seed(0))
    for _ in range(2):
        search.improve(noise)
    hole = np.pad(mask[0, 0].numpy() > 0, RADIUS, constant_values=True)
    patches = np.lib.stride_tricks.sliding_window_view(hole, (5, 5)).any((2, 3))
    assert not patches[search.source_y.numpy(), search.source_x.numpy()].any()
