"""Texture without an adversary: the hole's patches shall be distributed as the true photo's are, wherever each of them is.

The L1 loss punishes detail that is not where the photo has it, so it blurs what cannot be known. The sliced Wasserstein
distance asks for detail of the right strength, shape and color alone: patches of the Laplacian pyramid's levels are
projected on random directions, as in Karras et al., ICLR 2018, and the sorted projections are compared.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS, DIRECTIONS, PATCH = 3, 24, 5  # of the pyramid; for each image and level; pixels of a patch's side


def random_directions(rng: np.random.Generator) -> Tensor:
    """Directions of length 1 in the space of patches, (LEVELS, DIRECTIONS, 3, PATCH, PATCH)."""
    directions = torch.from_numpy(rng.standard_normal((LEVELS, DIRECTIONS, 3, PATCH, PATCH), "float32"))
    return F.normalize(directions.flatten(2), dim=2).view_as(directions)


def texture_distance(fake: Tensor, real: Tensor, mask: Tensor, directions: Tensor, strength: float = 1.0) -> Tensor:
    """Mean distance over the pyramid's levels, (B,), of the patches around the hole's pixels.

    With a `strength` below 1 the texture asked for is that much weaker than the real one, which costs less in L1. Images (B, 3, H, W), mask (B, 1, H, W), directions (B, LEVELS, DIRECTIONS, 3, PATCH, PATCH).
    """
    distances = []
    with torch.autocast(fake.device.type, enabled=False):
        for level in directions.unbind(1):
            distances.append(sliced_wasserstein(band(fake), strength * band(real), mask, level))
            fake, real, mask = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2), F.max_pool2d(mask, 2)
    return torch.stack(distances).mean(0)


def band(image: Tensor) -> Tensor:
    """What an image of half the size does not show."""
    return image - F.interpolate(F.avg_pool2d(image, 2), image.shape[-2:], mode="bilinear")


def sliced_wasserstein(a: Tensor, b: Tensor, mask: Tensor, directions: Tensor) -> Tensor:
    """Wasserstein-1 distance of the patches around the hole's pixels, mean over directions, (B,); 0 without a hole.

    `a`, `b` (B, C, H, W), `mask` (B, 1, H, W), `directions` (B, K, C, k, k), k odd.
    """
    distances = []
    for x, y, hole, kernels in zip(a, b, mask[:, 0] > 0.5, directions, strict=True):
        x, y = (project(image, kernels)[:, hole].sort(1).values for image in (x, y))  # (K, pixels of the hole)
        distances.append((x - y).abs().sum(1).mean() / hole.sum().clamp_min(1))
    return torch.stack(distances)


def project(image: Tensor, directions: Tensor) -> Tensor:
    """The patch around each pixel of (C, H, W), mirrored at the border, on each direction: (K, H, W)."""
    margin = [directions.shape[-1] // 2] * 4
    return F.conv2d(F.pad(image[None], margin, mode="reflect"), directions)[0]
