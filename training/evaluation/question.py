"""What every method is asked, and what a method is."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class InpaintInput:
    """An image (H, W, 3) uint8 that is gray in the hole, the hole (H, W) bool, the seed of the noise, and how many other
    seeds the same was asked with before."""

    name: str
    image: np.ndarray
    hole: np.ndarray
    seed: int
    seed_index: int = 0

    @property
    def digest(self) -> str:
        """Of all that an answer depends on."""
        digest = hashlib.sha256(repr((self.image.shape, self.seed)).encode())
        digest.update(self.image.tobytes() + self.hole.tobytes())
        return digest.hexdigest()


class Method(Protocol):
    """Answers a question with an image (H, W, 3) uint8; what it says outside of the hole is not looked at."""

    uses_seed: bool
    weights: dict[str, str]  # file -> SHA-256, or what else tells one version from another

    def __call__(self, question: InpaintInput) -> np.ndarray: ...


def prepare_input(name: str, image: np.ndarray, mask: np.ndarray, seed: int, seed_index: int = 0) -> InpaintInput:
    """The question of a photo and its mask (H, W) uint8: what is under the hole is gone before any method sees it."""
    hole = mask > 127
    return InpaintInput(name, np.where(hole[..., None], np.uint8(127), image), hole, seed, seed_index)
