"""Closing the step in colour along a hole's edge, as gradient-domain cloning does (Perez et al. 2003)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import fill_hole

REACH = 3  # pixels, the square in which either side of the edge is averaged, against noise
ROUNDS = 8  # of relaxation at every resolution


def close_seam(fill: Tensor, photo: Tensor, mask: Tensor) -> Tensor:
    """Shifts what fills a hole so that it meets the known pixels: by their difference at the edge, spread over the hole.

    `fill` and `photo` (B, C, H, W), `mask` (B, 1, H, W), hole above 0.5 -> (B, C, H, W) float32, not clamped; outside of
    the hole the fill as it was. The photo in the hole is not read. Without any edge nothing is shifted.
    """
    shift = torch.zeros_like(fill, dtype=torch.float32)
    for i, hole in enumerate(mask > 0.5):
        rows, columns = around(hole[0])
        cut = [x[i : i + 1, :, rows, columns].float() for x in (fill, photo, mask > 0.5)]
        shift[i : i + 1, :, rows, columns] = shift_to_edge(*cut) * cut[2]
    return fill.float() + shift


def around(hole: Tensor) -> tuple[slice, slice]:
    """The part of a picture, hole (H, W) bool, that decides on the shift: it costs what the hole costs."""
    found = [hole.any(dim=axis).nonzero()[:, 0].tolist() or [0] for axis in (1, 0)]
    rows, columns = (slice(max(at[0] - REACH // 2 - 1, 0), at[-1] + REACH // 2 + 2) for at in found)
    return rows, columns


def shift_to_edge(fill: Tensor, photo: Tensor, hole: Tensor) -> Tensor:
    """What to add to `fill` (1, C, H, W) in the hole (1, 1, H, W), and the difference on the pixels beside it."""
    beside_hole = grow(hole, 1) > hole
    outside = local_mean(fill_hole(photo, hole, 0.0), 1 - hole)
    inside = local_mean(fill * hole, hole)
    return membrane(fill_hole(outside - inside, ~beside_hole, 0.0), beside_hole.float())


def grow(mask: Tensor, pixels: int) -> Tensor:
    """The hole and so many pixels around it, in a square."""
    rows = F.max_pool2d(mask, (2 * pixels + 1, 1), 1, (pixels, 0))
    return F.max_pool2d(rows, (1, 2 * pixels + 1), 1, (0, pixels))


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
    h, w = values.shape[-2:]
    surface = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :h, :w]  # the last cell may be half outside
    for _ in range(ROUNDS):
        surface = neighbours(torch.where(fixed > 0, values, surface))
    return torch.where(fixed > 0, values, surface)


def neighbours(x: Tensor) -> Tensor:
    """Mean of the four pixels beside each one."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (x[..., 2:, 1:-1] + x[..., :-2, 1:-1] + x[..., 1:-1, 2:] + x[..., 1:-1, :-2]) / 4
