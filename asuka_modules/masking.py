"""Hole masks: 1 = hole, 0 = known, everywhere. The masked content never reaches a network."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_hole(image: Tensor, mask: Tensor, value: float) -> Tensor:
    """Fill the hole of `image` (B, C, H, W) with `value`. The hole is where `mask` (B, 1, H, W) is above 0.5.

    Values are selected, not multiplied, so that not even a NaN in the hole leaves a trace.
    """
    return image.masked_fill(mask > 0.5, value)


def resize_known(image: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `image` (B, C, H, W) to `size` (h, w) by averaging known pixels only; 0 if there are none.

    The hole is where `mask` (B, 1, H, W) is above 0.5. Away from it this is plain area resampling; at its edge nothing
    bleeds out of it.
    """
    known = resize_area((mask <= 0.5).float(), size)
    total = resize_area(fill_hole(image, mask, 0.0), size)
    return torch.where(known > 0, total / known, 0.0).to(image.dtype)


def resize_area(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `image` (B, C, H, W) to float32 (B, C, h, w) of `size` (h, w) by area, exactly as OpenCV's INTER_AREA does.

    A source pixel counts by the fraction of it that is covered; `F.interpolate(mode="area")` counts it in full.
    """
    return _resize_axis(_resize_axis(image, -2, size[0]), -1, size[1])


def _resize_axis(image: Tensor, axis: int, length: int) -> Tensor:
    """Resize one axis from n to `length` pixels: each result is the mean over n / length source pixels, added tap by tap."""
    n = image.shape[axis]
    if n == length:
        return image.float()
    edges = torch.arange(length + 1) * n  # integers, in units of 1 / length of a source pixel, and so exact
    start, end = edges[:-1], edges[1:]
    first = start // length
    total = 0.0
    for i in (first + tap for tap in range(-(-n // length) + 1)):
        covered = (torch.minimum(end, (i + 1) * length) - torch.maximum(start, i * length)).clamp_min(0) / n
        weight = covered.to(image.device).view((-1,) + (1,) * (-1 - axis))
        total = total + image.index_select(axis, i.clamp_max(n - 1).to(image.device)).float() * weight
    return total


def reduce_mask(mask: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Reduce a binary mask (B, 1, H, W) to a binary mask (B, 1, h, w) of `size` (h, w).

    "nearest" samples it (Asymmetric VQGAN, diffusers); "area" gives 1 if any hole pixel is covered (ASUKA-FLUX).
    """
    if mode == "nearest":
        return F.interpolate(mask, size, mode="nearest")
    return (F.interpolate(mask, size, mode="area") > 0).to(mask.dtype)


def hidden_patches(mask: Tensor, grid: int) -> Tensor:
    """Return which patches contain a hole pixel of `mask` (B, 1, S, S), as (B, grid * grid) bool (ASUKA, sec. 3.1)."""
    return reduce_mask(mask, (grid, grid), "area").flatten(1) > 0


def partial_patches(mask: Tensor, grid: int) -> Tensor:
    """Return which patches contain both hole and known pixels of `mask` (B, 1, S, S), as (B, grid * grid) bool (MAE-FAR)."""
    coverage = F.interpolate(mask, (grid, grid), mode="area").flatten(1)
    return (coverage > 0) & (coverage < 1)
