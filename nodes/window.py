"""Which pixels of an image its latent covers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def near(size: tuple[int, int], latent_size: tuple[int, int], factor: int) -> bool:
    """Return whether a latent of `latent_size` (h, w) can come from an image of `size` (H, W), `factor` times as large."""
    return all(abs(n * factor - side) < factor for n, side in zip(latent_size, size, strict=True))


class Window:
    """The part of an image of `size` (H, W) that a latent of `latent_size` (h, w) covers.

    That is the image with up to 7 pixels of padding at the lower right, as Inpaint Prepare adds, or without up to 7 pixels
    at its sides, as ComfyUI's VAE crops. Raises ValueError if the latent does not fit the image.
    """

    def __init__(self, size: tuple[int, int], latent_size: tuple[int, int], factor: int):
        covered = tuple(n * factor for n in latent_size)
        if not near(size, latent_size, factor):
            raise ValueError(
                f"the latent is {covered[1]}x{covered[0]} pixels but the image is {size[1]}x{size[0]}; connect the image that the latent was made from"
            )
        self.after = [max(a - b, 0) for a, b in zip(covered, size, strict=True)]  # padding
        self.before = [(b - a) // 2 if b > a else 0 for a, b in zip(covered, size, strict=True)]  # cropping
        self.size, self.covered = size, covered

    def cut(self, x: Tensor) -> Tensor:
        """Crop or pad `x` (B, C, H, W) of the image's size to the part that the latent covers."""
        x = pad(x, 0, self.after[1], 0, self.after[0])
        (top, left), (h, w) = self.before, self.covered
        return x[:, :, top : top + h, left : left + w]

    def back(self, x: Tensor) -> Tensor:
        """Crop or pad `x` (B, C, h * factor, w * factor), decoded from the latent, to the image's size."""
        (top, left), (h, w) = self.before, self.size
        bottom, right = max(h - top - x.shape[-2], 0), max(w - left - x.shape[-1], 0)
        return pad(x, left, right, top, bottom)[:, :, :h, :w]


def pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Repeat the outermost pixels of `x` (B, C, H, W) so many times on each side; `x` itself, not a copy, if that is never."""
    sides = left, right, top, bottom
    return F.pad(x, sides, mode="replicate") if any(sides) else x
