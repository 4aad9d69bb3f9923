"""Where the pixels of a latent lie in the image that it was made from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def near(size: tuple[int, int], cells: tuple[int, int], factor: int) -> bool:
    """Whether a latent of so many cells, each `factor` pixels, can come from an image of that size."""
    return all(abs(cell * factor - side) < factor for cell, side in zip(cells, size, strict=True))


class Window:
    """The part of an image that a latent covers: all of it and up to 7 pixels more at the lower right, as Inpaint Prepare
    pads; or up to 7 pixels less, centred, as ComfyUI's VAE crops."""

    def __init__(self, size: tuple[int, int], cells: tuple[int, int], factor: int):
        covered = tuple(cell * factor for cell in cells)
        if not near(size, cells, factor):
            raise ValueError(
                f"the latent is {covered[1]}x{covered[0]} pixels but the image is {size[1]}x{size[0]}; connect the image that the latent was made from"
            )
        self.after = [max(a - b, 0) for a, b in zip(covered, size, strict=True)]  # padding
        self.before = [(b - a) // 2 if b > a else 0 for a, b in zip(covered, size, strict=True)]  # cropping
        self.size, self.covered = size, covered

    def cut(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, self.after[1], 0, self.after[0]), mode="replicate")
        (top, left), (h, w) = self.before, self.covered
        return x[:, :, top : top + h, left : left + w]

    def back(self, x: Tensor) -> Tensor:
        (top, left), (h, w) = self.before, self.size
        bottom, right = max(h - top - x.shape[-2], 0), max(w - left - x.shape[-1], 0)
        return F.pad(x, (left, right, top, bottom), mode="replicate")[:, :, :h, :w]
