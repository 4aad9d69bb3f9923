"""Co-Mod's and MAT's free-form masks."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class FreeForm:
    """Co-Mod's and MAT's free-form masks: small rectangles, large rectangles and brush strokes, fewer than so many each.

    Masks that are empty or full are drawn anew.
    """

    small: int
    large: int
    brushes: int

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        while not 0 < (mask := self.draw(rng, size)).mean() < 1:
            pass
        return mask

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        for count, largest in ((self.small, size // 2), (self.large, size)):
            self.fill(rng, mask, count, largest)
        for _ in range(rng.integers(self.brushes)):
            self.brush(rng, mask)
        if rng.random() < 0.5:
            mask = mask[::-1]
        if rng.random() < 0.5:
            mask = mask[:, ::-1]
        return np.ascontiguousarray(mask)

    @staticmethod
    def fill(rng: np.random.Generator, mask: np.ndarray, count: int, largest: int) -> None:
        size, n = len(mask), rng.integers(count)
        sides = rng.integers(largest, size=(n, 2))
        corners = rng.integers(-(sides // 2), size - sides + sides // 2)  # may leave the frame
        for (x, y), (w, h) in zip(corners.tolist(), sides.tolist(), strict=True):
            mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1

    @staticmethod
    def brush(rng: np.random.Generator, mask: np.ndarray) -> None:
        size = len(mask)
        mean, spread = 2 * np.pi / 5, rng.uniform(0, 2 * np.pi / 15, 2)
        vertices = rng.integers(4, 18)
        angles = rng.uniform(mean - spread[0], mean + spread[1], vertices)
        angles[::2] = 2 * np.pi - angles[::2]
        radius = size * np.sqrt(2) / 8
        lengths = np.clip(rng.normal(radius, radius // 2, vertices), 0, 2 * radius)
        steps = np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)
        points = [rng.integers(0, size, 2).tolist()]
        for dx, dy in steps.tolist():  # in plain Python: NumPy takes longer to begin with two numbers than to be done
            x, y = points[-1]
            points.append([int(min(max(x + dx, 0), size)), int(min(max(y + dy, 0), size))])
        width = int(rng.uniform(12, 48)) - 1  # OpenCV's lines are a pixel wider, ends round
        cv2.polylines(mask, [np.array(points, np.int32)], False, 1, width)


FREE_FORM = {
    "comod": FreeForm(10, 5, 20),
    "mat-256": FreeForm(4, 2, 8),
    "mat-512": FreeForm(5, 3, 9),
    "small-256": FreeForm(2, 2, 3),
    "small-512": FreeForm(3, 2, 4),
}
