"""Closes the color step along a hole's edge by Poisson (gradient-domain) blending (Perez et al. 2003)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import fill_hole

EDGE_WINDOW = 3  # pixels, side of the square over which each side of the edge is averaged, against noise
RELAXATION_STEPS = 8  # at every resolution


def close_seam(fill: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Blend `fill` into the known pixels of `image` by Poisson blending: the difference at the edge is spread over the hole.

    `fill` and `image` are (B, C, H, W); the hole is where `mask` (B, 1, H, W) is above 0.5. Returns float32 (B, C, H, W), not
    clamped, with `fill` unchanged outside the hole. The masked content of `image` is not read. Without an edge nothing changes.
    """
    closed = fill.to(torch.float32, copy=True)
    for i, hole in enumerate(mask > 0.5):
        rows, columns = bounding_box(hole[0])
        cut = [x[i : i + 1, :, rows, columns].float() for x in (fill, image, mask > 0.5)]
        closed[i : i + 1, :, rows, columns] += shift_to_edge(*cut) * cut[2]
    return closed


def bounding_box(hole: Tensor) -> tuple[slice, slice]:
    """Return the bounding box of the hole (H, W) bool plus a margin, so that the cost scales with the hole."""
    found = [hole.any(dim=axis).nonzero()[:, 0].tolist() or [0] for axis in (1, 0)]
    rows, columns = (slice(max(at[0] - EDGE_WINDOW // 2 - 1, 0), at[-1] + EDGE_WINDOW // 2 + 2) for at in found)
    return rows, columns


def shift_to_edge(fill: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Return the shift (1, C, H, W) that makes `fill` match `image` at the edge of the hole (1, 1, H, W), smooth inside it."""
    beside_hole = grow(hole, 1) > hole
    outside = local_mean(fill_hole(image, hole, 0.0), 1 - hole)
    inside = local_mean(fill * hole, hole)
    return membrane(fill_hole(outside - inside, ~beside_hole, 0.0), beside_hole.float())


def grow(mask: Tensor, pixels: int) -> Tensor:
    """Dilate a mask (B, 1, H, W) by `pixels` in every direction, with a square."""
    rows = F.max_pool2d(mask, (2 * pixels + 1, 1), 1, (pixels, 0))
    return F.max_pool2d(rows, (1, 2 * pixels + 1), 1, (0, pixels))


def local_mean(image: Tensor, where: Tensor) -> Tensor:
    """Average `image` (B, C, H, W) around each pixel over the pixels that `where` (B, 1, H, W) marks; it is 0 elsewhere."""
    total, share = (F.avg_pool2d(x, EDGE_WINDOW, 1, EDGE_WINDOW // 2) for x in (image, where))
    return total / share.clamp_min(1e-6)


def membrane(values: Tensor, fixed: Tensor) -> Tensor:
    """Interpolate `values` (B, C, H, W) from where `fixed` (B, 1, H, W) is 1 to a nearly harmonic surface elsewhere.

    This solves Laplace's equation from coarse to fine with few relaxation steps: the shift has to be smooth, not exact.
    `values` must be zero where `fixed` is 0.
    """
    if max(values.shape[-2:]) == 1:
        return values
    share = F.avg_pool2d(fixed, 2, ceil_mode=True)
    coarse = F.avg_pool2d(values, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = membrane(coarse, (share > 0).to(share))
    h, w = values.shape[-2:]
    surface = F.interpolate(coarse, scale_factor=2, mode="bilinear")[
        ..., :h, :w
    ]  # the last coarse pixel may extend beyond the image
    kept = fixed > 0
    for _ in range(RELAXATION_STEPS):
        surface = neighbor_mean(torch.where(kept, values, surface))
    return torch.where(kept, values, surface)


def neighbor_mean(x: Tensor) -> Tensor:
    """Average the four neighbors of each pixel of `x` (B, C, H, W)."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (x[..., 2:, 1:-1] + x[..., :-2, 1:-1] + x[..., 1:-1, 2:] + x[..., 1:-1, :-2]) / 4
