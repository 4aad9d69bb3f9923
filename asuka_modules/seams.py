"""Closing the step in colour along a hole's edge, as gradient-domain cloning does (Perez et al. 2003)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import fill_hole

REACH = 3  # pixels, the square in which either side of the edge is averaged, against noise
ROUNDS = 4  # of relaxation at every resolution


def close_seam(fill: Tensor, photo: Tensor, mask: Tensor) -> Tensor:
    """Shifts what fills a hole so that it meets the known pixels: by their difference at the edge, spread over the hole.

    `fill` and `photo` (B, C, H, W), `mask` (B, 1, H, W), hole above 0.5 -> (B, C, H, W) float32, not clamped; outside of
    the hole the fill as it was. The photo in the hole is not read. Without any edge nothing is shifted.
    """
    fill, hole = fill.float(), (mask > 0.5).float()
    beside_hole = grow(hole, 1) > hole
    outside = local_mean(fill_hole(photo.float(), hole, 0.0), 1 - hole)
    inside = local_mean(fill * hole, hole)
    shift = membrane(fill_hole(outside - inside, ~beside_hole, 0.0), beside_hole.float())
    return torch.where(hole > 0, fill + shift, fill)


def grow(mask: Tensor, pixels: int) -> Tensor:
    """The hole and so many pixels around it, in a square."""
    return F.max_pool2d(mask, 2 * pixels + 1, 1, pixels)


def local_mean(image: Tensor, where: Tensor) -> Tensor:
    """Mean over the pixels around each one that are marked; elsewhere `image` is zero."""
    total, share = (F.avg_pool2d(x, REACH, 1, REACH // 2) for x in (image, where))
    return total / share.clamp_min(1e-6)


def membrane(values: Tensor, fixed: Tensor) -> Tensor:
    """The surface through `values` (B, C, H, W) where `fixed` (B, 1, H, W) is 1, and nearly harmonic elsewhere.

    Laplace's equation from coarse to fine, with few rounds: a fill needs its shift to be smooth, not exact. `values` are
    zero where nothing is fixed.
    """
    if max(values.shape[-2:]) == 1:
        return values
    share = F.avg_pool2d(fixed, 2, ceil_mode=True)
    coarse = F.avg_pool2d(values, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = membrane(coarse, (share > 0).to(share))
    surface = F.interpolate(coarse, values.shape[-2:], mode="bilinear")
    for _ in range(ROUNDS):
        surface = neighbours(torch.where(fixed > 0, values, surface))
    return torch.where(fixed > 0, values, surface)


def neighbours(x: Tensor) -> Tensor:
    """Mean of the four pixels beside each one."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (x[..., 2:, 1:-1] + x[..., :-2, 1:-1] + x[..., 1:-1, 2:] + x[..., 1:-1, :-2]) / 4
