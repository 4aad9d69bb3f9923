"""Co-Mod's and MAT's free-form masks."""

from dataclasses import dataclass

import cv2
import numpy as np

MAX_VERTICES = 17  # of a brush stroke


@dataclass(frozen=True)
class FreeForm:
    """Co-Mod's and MAT's free-form masks: small rectangles, large rectangles and brush strokes, fewer than so many each.

    Masks that are empty or full are drawn anew.
    """

    small: int
    large: int
    brushes: int

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        while not 0 < cv2.countNonZero(mask := self.draw(rng, size)) < mask.size:
            pass
        return mask

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        for count, largest in ((self.small, size // 2), (self.large, size)):
            self.fill(rng, mask, count, largest)
        self.paint(rng, mask, int(rng.integers(self.brushes)))
        flip = int(rng.integers(-1, 3))  # both axes, rows, columns, none
        return mask if flip == 2 else cv2.flip(mask, flip)

    @staticmethod
    def fill(rng: np.random.Generator, mask: np.ndarray, count: int, largest: int) -> None:
        size, n = len(mask), rng.integers(count)
        for a, b, c, d in rng.random((n, 4)).tolist():
            w, h = int(largest * a), int(largest * b)
            x, y = int((size - w + 2 * (w // 2)) * c) - w // 2, int((size - h + 2 * (h // 2)) * d) - h // 2
            mask[max(y, 0) : y + h, max(x, 0) : x + w] = 1  # may leave the frame

    @staticmethod
    def paint(rng: np.random.Generator, mask: np.ndarray, brushes: int) -> None:
        size, radius = len(mask), len(mask) * np.sqrt(2) / 8
        below, above = 2 * np.pi / 15 * rng.random((2, brushes, 1))
        angles = 2 * np.pi / 5 - below + (below + above) * rng.random((brushes, MAX_VERTICES))
        angles[:, ::2] = 2 * np.pi - angles[:, ::2]
        lengths = np.clip(radius + radius // 2 * rng.standard_normal(angles.shape), 0, 2 * radius)
        steps = zip((lengths * np.cos(angles)).tolist(), (lengths * np.sin(angles)).tolist(), strict=True)
        starts, widths = rng.integers(0, size, (brushes, 2)).tolist(), rng.uniform(12, 48, brushes).tolist()
        vertices = rng.integers(4, MAX_VERTICES + 1, brushes).tolist()
        for (x, y), (along_x, along_y), count, width in zip(starts, steps, vertices, widths, strict=True):
            points = [(x, y)]
            for dx, dy in zip(along_x[:count], along_y[:count], strict=True):  # few numbers: NumPy is slow to begin
                x, y = int(min(max(x + dx, 0), size)), int(min(max(y + dy, 0), size))
                points.append((x, y))
            line = np.array(points, np.int32)
            cv2.polylines(mask, [line], False, 1, int(width) - 1)  # OpenCV's lines are a pixel wider, ends round


FREE_FORM = {
    "comod": FreeForm(10, 5, 20),
    "mat-256": FreeForm(4, 2, 8),
    "mat-512": FreeForm(5, 3, 9),
    "small-256": FreeForm(2, 2, 3),
    "small-512": FreeForm(3, 2, 4),
}
