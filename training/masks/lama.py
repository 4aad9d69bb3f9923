"""LaMa's masks: random walks of thick strokes, and boxes."""

from dataclasses import dataclass
from math import cos, sin

import cv2
import numpy as np

MAX_SEGMENTS = 5  # of a stroke
ANGLES = [0.01 + radians for radians in range(4)]  # whole radians, as published, and mirrored for every other stroke
DIRECTIONS = [[(sign * sin(angle), cos(angle)) for angle in ANGLES] for sign in (-1, 1)]


@dataclass(frozen=True)
class Strokes:
    """LaMa's irregular strokes: random walks of thick lines."""

    times: tuple[int, int]
    max_width: int
    max_length: int

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        count = int(
            rng.integers(self.times[0], self.times[1] + 1, endpoint=True)
        )  # one more than it says, as published
        draw = iter(rng.random(3 * count * (1 + MAX_SEGMENTS)).tolist()).__next__  # all at once: NumPy is slow to begin
        for stroke in range(count):
            x, y = int(size * draw()), int(size * draw())
            for _ in range(1 + int(MAX_SEGMENTS * draw())):
                step_x, step_y = DIRECTIONS[stroke % 2][int(4 * draw())]
                length, width = 10 + int(self.max_length * draw()), 5 + int(self.max_width * draw())
                end_x = int(min(max(x + length * step_x, 0), size))
                end_y = int(min(max(y + length * step_y, 0), size))
                cv2.line(mask, (x, y), (end_x, end_y), 1, width)
                x, y = end_x, end_y
        return mask


@dataclass(frozen=True)
class Boxes:
    """LaMa's boxes."""

    margin: int
    min_size: int
    max_size: int
    times: tuple[int, int]

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        largest = min(self.max_size, size - 2 * self.margin)
        smallest = min(self.min_size, largest)
        count, free = int(rng.integers(self.times[0], self.times[1], endpoint=True)), size - 2 * self.margin
        for a, b, c, d in rng.random((count, 4)).tolist():
            w, h = (smallest + int((largest - smallest + 1) * share) for share in (a, b))
            x, y = self.margin + int((free - w + 1) * c), self.margin + int((free - h + 1) * d)
            mask[y : y + h, x : x + w] = 1
        return mask


@dataclass(frozen=True)
class LaMa:
    """Strokes, or with probability `box_share` boxes."""

    strokes: Strokes
    boxes: Boxes | None = None
    box_share: float = 0.3 / 1.3

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        if self.boxes and rng.random() < self.box_share:
            return self.boxes(rng, size)
        return self.strokes(rng, size)


LAMA = {
    "thin-256": LaMa(Strokes((4, 50), 10, 40)),
    "medium-256": LaMa(Strokes((4, 5), 50, 100), Boxes(0, 10, 50, (1, 5))),
    "thick-256": LaMa(Strokes((1, 5), 100, 200), Boxes(10, 30, 150, (1, 3))),
    "thin-512": LaMa(Strokes((4, 70), 20, 100)),
    "medium-512": LaMa(Strokes((4, 10), 100, 200), Boxes(0, 30, 150, (1, 5))),
    "thick-512": LaMa(Strokes((1, 5), 250, 450), Boxes(10, 30, 300, (1, 4))),
    "abl-02-thin-bb": LaMa(Strokes((4, 12), 40, 80), Boxes(0, 30, 128, (1, 1)), box_share=0.5),
    "train-256": LaMa(Strokes((1, 5), 100, 200), Boxes(10, 30, 150, (1, 4)), box_share=0.5),
}
