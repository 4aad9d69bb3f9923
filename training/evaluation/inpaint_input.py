"""The input of every method, and what a method is."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class InpaintInput:
    """An image (H, W, 3) uint8 that is gray in the hole, the hole (H, W) bool, the seed of the noise, and which of the
    image's seeds that is, from 0."""

    name: str
    image: np.ndarray
    hole: np.ndarray
    seed: int
    seed_index: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the result depends on."""
        digest = hashlib.sha256(repr((self.image.shape, self.seed)).encode())
        digest.update(self.image.tobytes() + self.hole.tobytes())
        return digest.hexdigest()


class Method(Protocol):
    """Fills a hole: returns an image (H, W, 3) uint8, of which only the hole is used."""

    uses_seed: bool
    weights: dict[str, str]  # file -> SHA-256, or what else tells one version from another

    def __call__(self, inputs: InpaintInput) -> np.ndarray: ...


def prepare_input(name: str, image: np.ndarray, mask: np.ndarray, seed: int, seed_index: int = 0) -> InpaintInput:
    """Make the input from an image (H, W, 3) and its mask (H, W), both uint8. The masked content is removed here, before any method sees it."""
    hole = mask > 127
    return InpaintInput(name, np.where(hole[..., None], np.uint8(127), image), hole, seed, seed_index)
