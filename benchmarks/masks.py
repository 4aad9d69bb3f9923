"""How fast the masks are made: ours and the originals as one would write them down, one number and one line at a time."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch

from training.masks import IRREGULAR, MaskConfig, Mixture
from training.masks.freeform import FreeForm
from training.masks.lama import LaMa

from .timing import medians

COUNT, REPEATS = 300, 5
SHOWN = ("thin-256", "medium-256", "thick-256", "comod", "mat-256")


def plain_lama(generator: LaMa, rng: np.random.RandomState, size: int) -> np.ndarray:
    """LaMa's strokes or boxes."""
    mask, boxes, strokes = np.zeros((size, size), np.float32), generator.boxes, generator.strokes
    if boxes and rng.uniform() < generator.box_share:
        largest = min(boxes.max_size, size - 2 * boxes.margin)
        for _ in range(rng.randint(boxes.times[0], boxes.times[1] + 1)):
            w, h = rng.randint(boxes.min_size, largest + 1), rng.randint(boxes.min_size, largest + 1)
            x = rng.randint(boxes.margin, size - boxes.margin - w + 1)
            y = rng.randint(boxes.margin, size - boxes.margin - h + 1)
            mask[y : y + h, x : x + w] = 1
        return mask
    for stroke in range(rng.randint(strokes.times[0], strokes.times[1] + 2)):
        x, y = rng.randint(size), rng.randint(size)
        for _ in range(1 + rng.randint(5)):
            angle = 0.01 + rng.randint(4)
            angle = 2 * np.pi - angle if stroke % 2 == 0 else angle
            length, width = 10 + rng.randint(strokes.max_length), 5 + rng.randint(strokes.max_width)
            end_x = int(np.clip(x + length * np.sin(angle), 0, size))
            end_y = int(np.clip(y + length * np.cos(angle), 0, size))
            cv2.line(mask, (x, y), (end_x, end_y), 1.0, width)
            x, y = end_x, end_y
    return mask


def plain_free_form(generator: FreeForm, rng: np.random.RandomState, size: int) -> np.ndarray:
    """Co-Mod's and MAT's: rectangles and brushes, a disc on every vertex."""
    mask = np.zeros((size, size), np.float32)
    for count, largest in ((generator.small, size // 2), (generator.large, size)):
        for _ in range(rng.randint(count)):
            w, h = rng.randint(largest), rng.randint(largest)
            x, y = rng.randint(-(w // 2), size - w + w // 2), rng.randint(-(h // 2), size - h + h // 2)
            mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1
    for _ in range(rng.randint(generator.brushes)):
        mean, radius = 2 * np.pi / 5, size * np.sqrt(2) / 8
        low, high = mean - rng.uniform(0, 2 * np.pi / 15), mean + rng.uniform(0, 2 * np.pi / 15)
        points, width = [(rng.randint(size), rng.randint(size))], int(rng.uniform(12, 48))
        for i in range(rng.randint(4, 18)):
            angle = rng.uniform(low, high)
            angle = 2 * np.pi - angle if i % 2 == 0 else angle
            step = np.clip(rng.normal(radius, radius // 2), 0, 2 * radius)
            x = int(np.clip(points[-1][0] + step * np.cos(angle), 0, size))
            y = int(np.clip(points[-1][1] + step * np.sin(angle), 0, size))
            cv2.line(mask, points[-1], (x, y), 1.0, width - 1)
            cv2.circle(mask, (x, y), width // 2, 1.0, -1)
            points.append((x, y))
    for axis in (0, 1):
        if rng.uniform() < 0.5:
            mask = np.flip(mask, axis)
    return mask if 0 < mask.mean() < 1 else plain_free_form(generator, rng, size)


def plain(name: str) -> Callable[[np.random.RandomState, int], np.ndarray]:
    """The mask generator of that name, written down plainly; with NumPy's older random numbers, as the originals."""
    generator = IRREGULAR[name]
    return partial(plain_lama if isinstance(generator, LaMa) else plain_free_form, generator)


def measure_masks(masks: str) -> dict[str, dict[str, float]]:
    """Masks a second on one core."""
    cv2.setNumThreads(1)
    rng, older, device = np.random.default_rng(0), np.random.RandomState(0), torch.device("cpu")
    results = {}
    for name in SHOWN:
        calls = {
            "ours": lambda f=IRREGULAR[name]: [f(rng, 256) for _ in range(COUNT)],
            "plain": lambda f=plain(name): [f(older, 256) for _ in range(COUNT)],
        }
        rates = {key: COUNT / seconds for key, seconds in medians(calls, device, REPEATS).items()}
        results[name] = {**rates, "ratio": rates["ours"] / rates["plain"]}
    mixture = Mixture(MaskConfig(objects=masks))
    seconds = medians({"mixture": lambda: [mixture(rng) for _ in range(COUNT)]}, device, REPEATS)["mixture"]
    return {**results, "the whole mixture": {"ours": COUNT / seconds}}
