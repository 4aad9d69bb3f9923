"""DiffEdit: the region to edit is where two prompts disagree about the image (Couairon et al., ICLR 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import resize_area

CLIP_MODES = ("mean", "percentile", "none")
_MIN_DIFFERENCE = 1e-5  # of two noise predictions; below it the prompts count as equal


def normalize_map(difference: Tensor, clip: str, ratio: float = 3.0) -> Tensor:
    """Normalize mean absolute differences (B, h, w) of noise predictions to [0, 1], each image by itself.

    `clip` says how outliers are removed (DiffEdit, sec. 3.2): "mean" clips at `ratio` times the mean and divides by that
    value (as diffusers does), "percentile" clips at the 1st and 99th percentile and rescales (the paper's wording), "none"
    only rescales. If the prompts do not differ at all, the map is zero.
    """
    flat = difference.flatten(1)
    if clip == "mean":
        high = ratio * flat.mean(1, keepdim=True)  # deviates: diffusers takes the mean over the whole batch
        low = torch.zeros_like(high)
    elif clip == "percentile":
        low, high = flat.quantile(flat.new_tensor([0.01, 0.99]), dim=1).unsqueeze(-1)
    else:
        low, high = flat.aminmax(dim=1, keepdim=True)
    normalized = (flat.clamp(low, high) - low) / (high - low).clamp_min(_MIN_DIFFERENCE)
    return torch.where(high > _MIN_DIFFERENCE, normalized, 0.0).view_as(difference)


def enlarge_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample a binary latent mask (B, h, w) to a binary mask (B, H, W) of `size` (H, W), with a smooth outline."""
    return (F.interpolate(mask.unsqueeze(1), size, mode="bilinear") > 0.5).to(mask.dtype).squeeze(1)


def to_latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Reduce a mask (B, H, W) to a bool latent mask (B, 1, h, w) of `size` (h, w): true if more than half is masked.

    This is the inverse of `enlarge_mask`. Mask values above 0.5 count.
    """
    coverage = resize_area((mask > 0.5).unsqueeze(1), size)
    return coverage.round(decimals=5) > 0.5  # rounded, so that exactly half is never above half


def ddim_step(x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Take one DDIM step (eta 0) of `x` (B, C, h, w) from noise level `sigma` to `sigma_next`.

    `denoised` (B, C, h, w) is the model's prediction of the clean latent z at `x`. Latents use ComfyUI's parametrization:
    x = z + sigma * noise for eps and v models, x = (1 - sigma) * z + sigma * noise for flow models.
    """
    return denoised + (x - denoised) * (sigma_next / sigma)
