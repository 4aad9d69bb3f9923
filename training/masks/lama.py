"""LaMa's masks: random walks of thick strokes, and boxes."""

from dataclasses import dataclass

import cv2
import numpy as np

MAX_SEGMENTS = 5  # of a stroke


@dataclass(frozen=True)
class Strokes:
    """LaMa's irregular strokes: random walks of thick lines."""

    times: tuple[int, int]
    max_width: int
    max_length: int

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        count = rng.integers(self.times[0], self.times[1] + 1, endpoint=True)  # one more than it says, as published
        segments = rng.integers(1, 6, count)
        angles = 0.01 + rng.integers(0, 4, (MAX_SEGMENTS, count))  # whole radians, as published
        angles[:, ::2] = 2 * np.pi - angles[:, ::2]
        lengths = rng.integers(10, 10 + self.max_length, (MAX_SEGMENTS, count))
        widths = rng.integers(5, 5 + self.max_width, (MAX_SEGMENTS, count))
        points = np.empty((MAX_SEGMENTS + 1, count, 2), np.int32)
        points[0] = rng.integers(0, size, (count, 2))
        for i in range(MAX_SEGMENTS):
            step = lengths[i, :, None] * np.stack([np.sin(angles[i]), np.cos(angles[i])], axis=1)
            points[i + 1] = np.clip(points[i] + step, 0, size)
        starts, ends, widths = points[:-1].tolist(), points[1:].tolist(), widths.tolist()
        for stroke, length in enumerate(segments.tolist()):
            for i in range(length):
                cv2.line(mask, starts[i][stroke], ends[i][stroke], 1, widths[i][stroke])
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
        for _ in range(rng.integers(self.times[0], self.times[1], endpoint=True)):
            w, h = rng.integers(min(self.min_size, largest), largest + 1, 2)
            x = rng.integers(self.margin, size - self.margin - w + 1)
            y = rng.integers(self.margin, size - self.margin - h + 1)
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
