"""Hole masks: 1 = hole, 0 = known, everywhere. What lies under a hole never reaches a network."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_hole(image: Tensor, mask: Tensor, value: float) -> Tensor:
    """Paints the hole of `image` (B, C, H, W) with `value`; `mask` (B, 1, H, W), hole above 0.5.

    Selects instead of multiplying, so that even a NaN under the hole leaves no trace.
    """
    return image.masked_fill(mask > 0.5, value)


def resize_known(image: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Area-resizes `image` (B, C, H, W) to `size` (h, w), averaging known pixels only; 0 where none is known.

    Where no hole is near this is plain area resampling; at a hole's edge nothing bleeds out of it.
    """
    known = resize_area((mask <= 0.5).float(), size)
    total = resize_area(fill_hole(image, mask, 0.0), size)
    return torch.where(known > 0, total / known, 0.0).to(image.dtype)


def resize_area(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of `image` (B, C, H, W) over what every pixel of `size` (h, w) covers, as OpenCV's INTER_AREA; float32.

    A source pixel counts by the part of it that is covered; `F.interpolate(mode="area")` counts it in full.
    """
    return resize_axis(resize_axis(image, -2, size[0]), -1, size[1])


def resize_axis(image: Tensor, axis: int, length: int) -> Tensor:
    """Of n source pixels, i to i + 1 in units of which the results are n / length long: summed tap by tap."""
    n = image.shape[axis]
    if n == length:
        return image.float()
    edges = torch.arange(length + 1) * n  # in units of 1 / length of a source pixel, so that they are exact
    start, end = edges[:-1], edges[1:]
    first = start // length
    total = 0.0
    for i in (first + tap for tap in range(-(-n // length) + 1)):
        covered = (torch.minimum(end, (i + 1) * length) - torch.maximum(start, i * length)).clamp_min(0) / n
        weight = covered.to(image.device).view((-1,) + (1,) * (-1 - axis))
        total = total + image.index_select(axis, i.clamp_max(n - 1).to(image.device)).float() * weight
    return total


def reduce_mask(mask: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Reduces a binary mask (B, 1, H, W) to `size` (h, w), still binary.

    "nearest" samples (Asymmetric VQGAN, diffusers); "area" marks every cell that any hole pixel touches (ASUKA-FLUX).
    """
    if mode == "nearest":
        return F.interpolate(mask, size, mode="nearest")
    return (F.interpolate(mask, size, mode="area") > 0).to(mask.dtype)


def hidden_patches(mask: Tensor, grid: int) -> Tensor:
    """Binary mask (B, 1, S, S) -> (B, grid * grid) bool: a patch is hidden if any of its pixels is hole (sec. 3.1)."""
    return reduce_mask(mask, (grid, grid), "area").flatten(1) > 0


def partial_patches(mask: Tensor, grid: int) -> Tensor:
    """Binary mask (B, 1, S, S) -> (B, grid * grid) bool: patches with both hole and known pixels (MAE-FAR)."""
    covered = F.interpolate(mask, (grid, grid), mode="area").flatten(1)
    return (covered > 0) & (covered < 1)
