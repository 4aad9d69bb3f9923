"""Hole masks: 1 = hole, 0 = known, everywhere. What lies under a hole never reaches a network."""

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
    known = F.interpolate((mask <= 0.5).to(image.dtype), size, mode="area")
    total = F.interpolate(fill_hole(image, mask, 0.0), size, mode="area")
    return total / known.clamp_min(1e-6)


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
