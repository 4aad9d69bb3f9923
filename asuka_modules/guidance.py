"""Guidance by a prior image, without a trained alignment: what is painted keeps the low frequencies of that image's latent."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def guide(x0: Tensor, target: Tensor, mask: Tensor, strength: float, detail: float) -> Tensor:
    """x0 + strength * m * G(target - x0): the predicted clean latent, its low frequencies in the hole moved to the target's.

    `x0` and `target` (B, C, h, w) latents in the model's scale, `mask` (B, 1, h, w) the binary latent mask m, `strength` in
    [0, 1]. G is a Gaussian with a standard deviation of `detail` latent cells, over the hole's cells alone and with weights
    that sum to 1 there: whatever the known cells hold, and wherever the image ends, a constant difference stays constant.
    """
    difference = gaussian_blur((target - x0) * mask, detail) / gaussian_blur(mask, detail).clamp_min(1e-6)
    return x0 + strength * mask * difference


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Convolves (B, C, h, w) with a Gaussian of standard deviation `sigma` > 0, zeros around it."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = (-(offsets**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum())[None, None, None]
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(planes, kernel, padding=(0, reach))
    return F.conv2d(planes, kernel.mT, padding=(reach, 0)).view_as(x)
