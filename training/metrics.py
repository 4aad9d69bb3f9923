"""Measures of inpainting that need no pretrained network. Images are (B, 3, H, W) in [0, 1], masks (B, 1, H, W), 1 = hole.

`result` may be what the decoder returns or have the known pixels pasted (as training.evaluation has it), which halves a seam's
color offset; differences are in gray levels of 255.
"""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from asuka_modules.seams import grow


def hole_psnr(result: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over the hole's pixels, (B,) dB, 70 at most."""
    error = ((result.clamp(0, 1) - original).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return -10 * (error + 1e-7).log10()


def seed_spread(results: Tensor, mask: Tensor) -> Tensor:
    """Context stability: standard deviation over seeds, root-mean-square over the hole. (S, B, 3, H, W) -> (B,)."""
    variance = (results.clamp(0, 1) * 255).var(0)
    return ((variance * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))).sqrt()


def band(mask: Tensor, width: int) -> Tensor:
    """Pixels within `width` of the hole's edge, on either side, (B, 1, H, W)."""
    return grow(mask, width) + grow(1 - mask, width) - 1


def color_offset(result: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Color shifts: mean length of the low-passed RGB difference within 8 pixels of the hole's edge, (B,)."""
    difference = (result.clamp(0, 1) - original) * 255
    low = F.avg_pool2d(difference, 9, 1, 4, count_include_pad=False)
    return weighted_mean(low.norm(dim=1, keepdim=True), band(mask, 8))


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of a - b over images and its 95 % percentile interval."""
    difference = np.asarray(a) - np.asarray(b)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(difference), len(difference)) for _ in range(resamples))  # one by one: little memory
    means = np.array([difference[draw].mean() for draw in draws])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)
