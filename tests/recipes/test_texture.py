"""The texture loss against SciPy's and OpenCV's own computations."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from training.texture import DIRECTIONS, LEVELS, PATCH, band, random_directions, sliced_wasserstein, texture_distance


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def images(rng) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pictures of noise, one of them rougher, and holes of two sizes."""
    a, b = (torch.from_numpy(rng.normal(0, spread, (2, 3, 32, 32)).astype("float32")) for spread in (0.2, 0.5))
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, :, 4:20, 8:30] = 1
    mask[1, :, 28:, :3] = 1  # at the picture's border
    return a, b, mask


def projections(picture: torch.Tensor, mask: torch.Tensor, direction: torch.Tensor) -> np.ndarray:
    """Each patch around a pixel of the hole, times the direction, added up."""
    k = direction.shape[-1]
    padded = np.pad(picture.numpy(), [(0, 0), (k // 2, k // 2), (k // 2, k // 2)], mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))  # (C, H, W, k, k)
    return np.einsum("cnij,cij->n", patches[:, mask[0].numpy() > 0], direction.numpy())


@pytest.mark.parametrize("k", [1, 5])
def test_distance_is_scipys_on_every_direction(images, rng, k):
    a, b, mask = images
    directions = torch.from_numpy(rng.standard_normal((2, 4, 3, k, k)).astype("float32"))
    found = sliced_wasserstein(a, b, mask, directions)
    for i in range(2):
        expected = [wasserstein_distance(*(projections(x[i], mask[i], d) for x in (a, b))) for d in directions[i]]
        np.testing.assert_allclose(found[i], np.mean(expected), rtol=1e-4)


def test_distance_over_the_pyramid(images, rng):
    """Its levels by OpenCV."""
    a, b, mask = images
    directions = torch.stack([random_directions(rng), random_directions(rng)])
    found = texture_distance(a, b, mask, directions)
    for i in range(2):
        pictures, hole, distances = [x[i].permute(1, 2, 0).numpy() for x in (a, b)], mask[i, 0].numpy(), []
        for level in range(LEVELS):
            side = hole.shape[0]
            smaller = [cv2.resize(x, (side // 2, side // 2), interpolation=cv2.INTER_AREA) for x in pictures]
            larger = [cv2.resize(x, (side, side), interpolation=cv2.INTER_LINEAR) for x in smaller]
            bands = [torch.from_numpy(x - y).permute(2, 0, 1)[None] for x, y in zip(pictures, larger, strict=True)]
            where = torch.from_numpy(hole)[None, None]
            distances.append(sliced_wasserstein(*bands, where, directions[i, level][None]))
            pictures = smaller
            hole = (cv2.resize(hole, (side // 2, side // 2), interpolation=cv2.INTER_AREA) > 0).astype("float32")
        torch.testing.assert_close(found[i], torch.stack(distances).mean())


def test_directions_are_of_length_one_and_of_the_seed():
    directions = random_directions(np.random.default_rng(3))
    assert directions.shape == (LEVELS, DIRECTIONS, 3, PATCH, PATCH)
    torch.testing.assert_close(directions.flatten(2).norm(dim=2), torch.ones(LEVELS, DIRECTIONS))
    assert torch.equal(directions, random_directions(np.random.default_rng(3)))


def test_blur_costs_more_than_the_same_texture_elsewhere(images, rng):
    """Which is the other way round in L1."""
    _, real, mask = images
    mask = torch.ones_like(mask)
    elsewhere = real.roll((5, 7), (2, 3))
    blurred = torch.from_numpy(gaussian_filter(real.numpy(), (0, 0, 2, 2)))
    directions = torch.stack([random_directions(rng), random_directions(rng)])
    distances = [texture_distance(x, real, mask, directions) for x in (elsewhere, blurred)]
    assert (5 * distances[0] < distances[1]).all()
    assert F.l1_loss(elsewhere, real) > F.l1_loss(blurred, real)


def test_strength_asks_for_so_much_of_the_texture(images, rng):
    """About the mean, which is no texture."""
    _, real, mask = images
    mask = torch.ones_like(mask)
    directions = torch.stack([random_directions(rng), random_directions(rng)])
    distances = [texture_distance(0.3 + share * real, real, mask, directions, 0.6) for share in (0.3, 0.6, 1.0)]
    assert (distances[1] < 1e-6).all()
    torch.testing.assert_close(distances[2], 4 / 3 * distances[0])


def test_gradient_reaches_the_hole_alone(images, rng):
    fake, real, mask = images
    fake.requires_grad_()
    directions = torch.stack([random_directions(rng), random_directions(rng)])
    pasted = torch.where(mask > 0.5, fake, real)
    texture_distance(pasted, real, mask, directions).sum().backward()
    reached = (fake.grad != 0).any(1, keepdim=True)
    assert not reached[mask == 0].any()
    assert reached[mask == 1].float().mean() > 0.9


def test_no_hole_no_distance(images, rng):
    fake, real, _ = images
    directions = torch.stack([random_directions(rng), random_directions(rng)])
    assert not texture_distance(fake, real, torch.zeros(2, 1, 32, 32), directions).any()


def test_flat_areas_have_no_texture():
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, 32).expand(1, 3, 32, 32)
    assert band(ramp)[..., 1:-1].abs().max() < 1e-6
