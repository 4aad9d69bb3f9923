"""Regular masks: a rectangle, or everything but one."""

import numpy as np

SIDES = (0.2, 0.8)


def rectangle(rng: np.random.Generator, size: int, sides: tuple[float, float] = SIDES) -> np.ndarray:
    """One rectangle, its sides within a range of shares of the mask's."""
    mask = np.zeros((size, size), np.uint8)
    w, h = (rng.uniform(*sides, 2) * size).astype(int)
    x, y = rng.integers(0, size - w + 1), rng.integers(0, size - h + 1)
    mask[y : y + h, x : x + w] = 1
    return mask


def complement_rectangle(rng: np.random.Generator, size: int, sides: tuple[float, float] = SIDES) -> np.ndarray:
    return 1 - rectangle(rng, size, sides)
