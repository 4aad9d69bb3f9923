"""RePaint: inpainting with a model that was never trained for it (Lugmayr et al., CVPR 2022).

Noisy latents use ComfyUI's parametrization for eps and v models, x = z + sigma * noise.
"""

from torch import Tensor


def resampling_path(steps: int, jump_length: int, num_resamples: int) -> list[int]:
    """Return the noise levels to visit, as indices into `steps + 1` descending sigmas: 0 is the noisiest, `steps` is clean.

    Every `jump_length` levels the path jumps back by as many levels, `num_resamples - 1` times, which harmonizes generated
    and known content (RePaint, sec. 4.2). A step to a higher index calls the model, a step to a lower one adds noise.
    """
    jumps_left = dict.fromkeys(range(steps - 1, jump_length - 1, -jump_length), num_resamples - 1)
    path, level = [], -1
    while level < steps:
        level += 1
        path.append(level)
        if jumps_left.get(level):
            jumps_left[level] -= 1
            path += range(level - 1, level - jump_length - 1, -1)
            level -= jump_length
    return path


def reverse_step(x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Tensor) -> Tensor:
    """Take one DDPM step (ancestral sampling with eta 1) from noise level `sigma` down to `sigma_next`.

    `x`, the model's prediction `denoised` of the clean latent, and the standard normal `noise` are (B, C, h, w), as is the
    result; the sigmas are scalars.
    """
    sigma_up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt()
    sigma_down = (sigma_next**2 - sigma_up**2).clamp_min(0).sqrt()
    return denoised + (x - denoised) * (sigma_down / sigma) + sigma_up * noise


def forward_step(x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Tensor) -> Tensor:
    """Add noise to `x` (B, C, h, w) to raise it from noise level `sigma` to the higher `sigma_next`."""
    return x + (sigma_next**2 - sigma**2).sqrt() * noise
