"""DiffEdit: an edit belongs where two prompts disagree about the picture (Couairon et al., ICLR 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import resize_area

CLIP_MODES = ("mean", "percentile", "none")
ROUNDING = 1e-5  # differences of noise predictions up to this size mean that the prompts are the same


def normalize_map(difference: Tensor, clip: str, ratio: float = 3.0) -> Tensor:
    """Mean absolute differences (B, h, w) of noise predictions -> (B, h, w) in [0, 1], each image on its own scale.

    `clip` is how extreme values are removed: "mean" cuts at `ratio` times the mean and divides by that (diffusers),
    "percentile" cuts the lowest and the highest hundredth and stretches the rest (the paper's wording), "none" only
    stretches. Where the prompts do not differ at all the map is zero.
    """
    flat = difference.flatten(1)
    if clip == "mean":
        high = ratio * flat.mean(1, keepdim=True)  # deviates: diffusers takes the mean over the whole batch
        low = torch.zeros_like(high)
    elif clip == "percentile":
        low, high = flat.quantile(flat.new_tensor([0.01, 0.99]), dim=1).unsqueeze(-1)
    else:
        low, high = flat.aminmax(dim=1, keepdim=True)
    normalized = (flat.clamp(low, high) - low) / (high - low).clamp_min(ROUNDING)
    return torch.where(high > ROUNDING, normalized, 0.0).view_as(difference)


def enlarge_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Binary mask (B, h, w) of latent cells -> binary mask (B, H, W) of pixels, its outline smooth instead of stepped."""
    return (F.interpolate(mask.unsqueeze(1), size, mode="bilinear") > 0.5).to(mask.dtype).squeeze(1)


def reduce_to_cells(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask (B, H, W) of pixels -> bool (B, 1, h, w): latent cells of which more than half is masked.

    The inverse of `enlarge_mask`.
    """
    covered = resize_area((mask > 0.5).unsqueeze(1), size)
    return covered.round(decimals=5) > 0.5  # so that half of a cell is half at every ratio


def ddim_step(x: Tensor, denoised: Tensor, sigma: Tensor, after: Tensor) -> Tensor:
    """One step of DDIM (eta 0) from noise level `sigma` to `after`, as ComfyUI writes latents: x = z + sigma * noise for
    eps and v models, x = (1 - sigma) * z + sigma * noise for flow models. `denoised` is the model's estimate of z at x."""
    return denoised + (x - denoised) * (after / sigma)
