"""RePaint: inpainting with a model that was never trained for it (Lugmayr et al., CVPR 2022).

Noisy latents are written as ComfyUI writes them for eps and v models, x = z + sigma * noise.
"""

from torch import Tensor


def resampling_path(steps: int, jump_length: int, resamples: int) -> list[int]:
    """The noise levels to visit, as indices into `steps + 1` descending ones, from 0 (most noise) to `steps` (none).

    Every `jump_length` levels the way goes that far back, `resamples - 1` times, so that what is generated and what is
    known get used to each other (sec. 4.2). A step to a higher index asks the model, one to a lower index adds noise.
    """
    left = dict.fromkeys(range(steps - 1, jump_length - 1, -jump_length), resamples - 1)
    path, level = [], -1
    while level < steps:
        level += 1
        path.append(level)
        if left.get(level):
            left[level] -= 1
            path += range(level - 1, level - jump_length - 1, -1)
            level -= jump_length
    return path


def reverse_step(x: Tensor, denoised: Tensor, sigma: Tensor, after: Tensor, noise: Tensor) -> Tensor:
    """One step of DDPM from noise level `sigma` to `after`, with the posterior's variance; `denoised` is the model's
    estimate of z at x."""
    fresh = (after**2 * (sigma**2 - after**2) / sigma**2).sqrt()
    kept = (after**2 - fresh**2).clamp_min(0).sqrt()
    return denoised + (x - denoised) * (kept / sigma) + fresh * noise


def forward_step(x: Tensor, sigma: Tensor, after: Tensor, noise: Tensor) -> Tensor:
    """Back to the higher noise level `after`."""
    return x + (after**2 - sigma**2).sqrt() * noise
