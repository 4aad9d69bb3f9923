"""Training masks: the mixture of sec. 3.1 and the published generators it draws from. 1 = hole.

Every generator takes a numpy Generator and nothing else that is random, so that a mask is a function of its seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

Generator = Callable[[np.random.Generator, int], np.ndarray]  # (rng, size) -> (size, size) uint8 in {0, 1}


@dataclass(frozen=True)
class Strokes:
    """LaMa's irregular strokes: random walks of thick lines."""

    times: tuple[int, int]
    max_width: int
    max_length: int

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        for stroke in range(rng.integers(self.times[0], self.times[1] + 1, endpoint=True)):
            x, y = rng.integers(0, size, 2)
            for _ in range(1 + rng.integers(5)):
                angle = 0.01 + rng.integers(4)  # whole radians, as published
                if stroke % 2 == 0:
                    angle = 2 * np.pi - angle
                length = 10 + rng.integers(self.max_length)
                width = 5 + int(rng.integers(self.max_width))
                end_x = int(np.clip(x + length * np.sin(angle), 0, size))
                end_y = int(np.clip(y + length * np.cos(angle), 0, size))
                cv2.line(mask, (int(x), int(y)), (end_x, end_y), 1, width)
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
    "train-256": LaMa(Strokes((1, 5), 100, 200), Boxes(10, 30, 150, (1, 4)), box_share=0.5),
}


@dataclass(frozen=True)
class FreeForm:
    """Co-Mod's and MAT's free-form masks: small rectangles, large rectangles and brush strokes, fewer than so many each."""

    small: int
    large: int
    brushes: int

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
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
        size = len(mask)
        for _ in range(rng.integers(count)):
            w, h = rng.integers(largest, size=2)
            x = rng.integers(-(w // 2), size - w + w // 2)
            y = rng.integers(-(h // 2), size - h + h // 2)
            mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1

    @staticmethod
    def brush(rng: np.random.Generator, mask: np.ndarray) -> None:
        size = len(mask)
        mean = 2 * np.pi / 5
        low, high = mean - rng.uniform(0, 2 * np.pi / 15), mean + rng.uniform(0, 2 * np.pi / 15)
        vertices = rng.integers(4, 18)
        angles = rng.uniform(low, high, vertices)
        angles[::2] = 2 * np.pi - angles[::2]
        radius = size * np.sqrt(2) / 8
        steps = np.clip(rng.normal(radius, radius // 2, vertices), 0, 2 * radius)
        width = int(rng.uniform(12, 48))
        x, y = rng.integers(0, size, 2)
        points = [(int(x), int(y))]
        for angle, step in zip(angles, steps, strict=True):
            x = np.clip(x + step * np.cos(angle), 0, size)
            y = np.clip(y + step * np.sin(angle), 0, size)
            points.append((int(x), int(y)))
        cv2.polylines(mask, [np.array(points, np.int32)], False, 1, width)
        for point in points:
            cv2.circle(mask, point, width // 2, 1, -1)


FREE_FORM = {
    "comod": FreeForm(10, 5, 20),
    "mat-256": FreeForm(4, 2, 8),
    "mat-512": FreeForm(5, 3, 9),
}


def rectangle(rng: np.random.Generator, size: int) -> np.ndarray:
    """One rectangle with sides of 0.2 to 0.8 of the image's."""
    mask = np.zeros((size, size), np.uint8)
    w, h = (rng.uniform(0.2, 0.8, 2) * size).astype(int)
    x, y = rng.integers(0, size - w + 1), rng.integers(0, size - h + 1)
    mask[y : y + h, x : x + w] = 1
    return mask


def complement_rectangle(rng: np.random.Generator, size: int) -> np.ndarray:
    return 1 - rectangle(rng, size)


class Objects:
    """Object-shaped masks from a folder of mask pictures: moved, mirrored, scaled and slightly grown."""

    def __init__(self, folder: str | Path, max_grow: float = 15 / 256):
        self.files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".png", ".jpg"})
        if not self.files:
            raise FileNotFoundError(f"{folder}: no mask pictures (.png or .jpg) in it")
        self.max_grow = max_grow
        self.shapes: dict[int, np.ndarray] = {}

    def shape(self, i: int) -> np.ndarray:
        """The i-th object, cropped to its bounding box."""
        if i not in self.shapes:
            picture = cv2.imread(str(self.files[i]), cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise OSError(f"{self.files[i]}: not a readable picture")
            x, y, w, h = cv2.boundingRect((picture > 127).astype(np.uint8))
            self.shapes[i] = (picture[y : y + h, x : x + w] > 127).astype(np.uint8)
        return self.shapes[i]

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        shape = self.shape(int(rng.integers(len(self.files))))
        if rng.random() < 0.5:
            shape = shape[:, ::-1]
        longest = rng.uniform(0.25, 0.85) * size
        scale = longest / max(shape.shape)
        w, h = max(1, round(shape.shape[1] * scale)), max(1, round(shape.shape[0] * scale))
        shape = cv2.resize(np.ascontiguousarray(shape), (w, h), interpolation=cv2.INTER_NEAREST)
        mask = np.zeros((size, size), np.uint8)
        x, y = rng.integers(0, size - w + 1), rng.integers(0, size - h + 1)
        mask[y : y + h, x : x + w] = shape
        grow = int(rng.integers(int(self.max_grow * size) + 1))
        if grow:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
            mask = cv2.dilate(mask, kernel)
        return mask


def patch_ratio(mask: np.ndarray, grid: int = 16) -> float:
    """Share of the grid's patches that the hole touches."""
    patch = len(mask) // grid
    return float(mask.reshape(grid, patch, grid, patch).max(axis=(1, 3)).mean())


@dataclass(frozen=True)
class MaskConfig:
    """Where the mixture's masks come from."""

    objects: str  # folder of object masks
    irregular: tuple[str, ...] = ("thick-256", "medium-256", "thin-256", "mat-256")
    min_patch_ratio: float = 0.1
    max_patch_ratio: float = 0.75  # so that a top-up to exactly 75 % always exists and never uncovers a hole
    size: int = 256


class Mixture:
    """50 % objects (half of them united with an irregular mask), 40 % irregular, 10 % regular (sec. 3.1)."""

    def __init__(self, config: MaskConfig):
        self.config = config
        self.objects = Objects(config.objects)
        self.irregular = [{**LAMA, **FREE_FORM}[name] for name in config.irregular]

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """A mask (size, size) uint8 in {0, 1} whose patch ratio is within the config's limits."""
        low, high = self.config.min_patch_ratio, self.config.max_patch_ratio
        while True:
            mask = self.draw(rng)
            if low <= patch_ratio(mask) <= high:
                return mask

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        kind, size = rng.random(), self.config.size
        if kind < 0.5:
            mask = self.objects(rng, size)
            return mask | self.pick(rng, self.irregular) if rng.random() < 0.5 else mask
        if kind < 0.9:
            return self.pick(rng, self.irregular)
        return self.pick(rng, [rectangle, complement_rectangle])

    def pick(self, rng: np.random.Generator, generators: Sequence[Generator]) -> np.ndarray:
        return generators[rng.integers(len(generators))](rng, self.config.size)


def top_up(hidden: np.ndarray, rng: np.random.Generator, ratio: float = 0.75) -> np.ndarray:
    """Hides random further patches until exactly `ratio` of the flat boolean `hidden` are: holes stay hidden.

    Raises ValueError where more than `ratio` are hidden already: uncovering a hole would leak what is under it.
    """
    target = round(ratio * hidden.size)
    visible = np.flatnonzero(~hidden)
    extra = target - (hidden.size - visible.size)
    if extra < 0:
        raise ValueError(
            f"{hidden.size - visible.size} of {hidden.size} patches are holes, more than {ratio:.0%}; draw another mask"
        )
    hidden = hidden.copy()
    hidden[rng.choice(visible, extra, replace=False)] = True
    return hidden
