"""Regular masks: a rectangle, or everything but one."""

import numpy as np


def rectangle(rng: np.random.Generator, size: int) -> np.ndarray:
    """One rectangle with sides of 0.2 to 0.8 of the image's."""
    mask = np.zeros((size, size), np.uint8)
    w, h = (rng.uniform(0.2, 0.8, 2) * size).astype(int)
    x, y = rng.integers(0, size - w + 1), rng.integers(0, size - h + 1)
    mask[y : y + h, x : x + w] = 1
    return mask


def complement_rectangle(rng: np.random.Generator, size: int) -> np.ndarray:
    return 1 - rectangle(rng, size)
