"""Guidance by a prior image, without a trained alignment: the hole keeps the low frequencies of that image's latent."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def guide(x0: Tensor, target: Tensor, mask: Tensor, strength: float, detail: float) -> Tensor:
    """Return x0 + strength * m * G(target - x0): the predicted clean latent with the target's low frequencies in the hole.

    `x0` and `target` are (B, C, h, w) in the model's scale, the binary latent mask m is `mask` (B, 1, h, w), `strength` is in
    [0, 1]. G is a Gaussian with a standard deviation of `detail` latent pixels. Its weights are normalized over the hole, so
    that a constant difference stays constant, whatever is outside the hole or beyond the image.
    """
    difference = gaussian_blur((target - x0) * mask, detail) / gaussian_blur(mask, detail).clamp_min(1e-6)
    return x0 + strength * mask * difference


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Convolve `x` (B, C, h, w), zero-padded, with a Gaussian of standard deviation `sigma` > 0 in latent pixels."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = (-(offsets**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum())[None, None, None]
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(planes, kernel, padding=(0, radius))
    return F.conv2d(planes, kernel.mT, padding=(radius, 0)).view_as(x)
