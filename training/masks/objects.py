"""Object-shaped masks, and the folder of mask images that they may come from."""

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data import find_photos
from ..engine.config import ConfigError
from ..engine.mask_file import EXPECTED, SUFFIXES, MaskError, read_mask
from .shapes import crop

log = logging.getLogger(__name__)


class Objects:
    """Object shapes, moved, mirrored, scaled to a longest side and grown by up to `max_grow`, shares of the mask's side."""

    def __init__(self, shapes: Sequence[np.ndarray], sides: tuple[float, float], max_grow: float):
        self.shapes, self.sides, self.max_grow = shapes, sides, max_grow

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        shape = self.shapes[int(rng.integers(len(self.shapes)))]
        if rng.random() < 0.5:
            shape = shape[:, ::-1]
        longest = rng.uniform(*self.sides) * size
        scale = longest / max(shape.shape)
        w, h = max(1, round(shape.shape[1] * scale)), max(1, round(shape.shape[0] * scale))
        shape = cv2.resize(np.ascontiguousarray(shape), (w, h), interpolation=cv2.INTER_NEAREST)
        grow = int(rng.integers(int(self.max_grow * size) + 1))
        shape = cv2.copyMakeBorder(shape, grow, grow, grow, grow, cv2.BORDER_CONSTANT)
        shape = (cv2.distanceTransform(1 - shape, cv2.DIST_L2, 3) <= grow).astype(np.uint8)
        mask = np.zeros((size + 2 * grow, size + 2 * grow), np.uint8)
        x, y = rng.integers(0, size - w + 1), rng.integers(0, size - h + 1)
        mask[y : y + h + 2 * grow, x : x + w + 2 * grow] = shape
        return np.ascontiguousarray(mask[grow : grow + size, grow : grow + size])


class MaskFiles(Sequence):
    """The masks in files, (H, W) uint8 in {0, 1}. One that cannot be used is named and counted in the log, and the next
    taken for it. Raises FileNotFoundError where there is none of the files."""

    def __init__(self, files: list[Path]):
        self.files, self.unusable = files, {i for i, file in enumerate(files) if not file.is_file()}
        missing = [str(files[i]) for i in sorted(self.unusable)]
        if len(missing) == len(files):
            raise FileNotFoundError(f"{missing[0]}: no such file, and none of the {len(files)} masks is there")
        if missing:
            named = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            log.warning("%s: no such file, skipped (%d of %d masks)", named, len(missing), len(files))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        """Raises ConfigError where no mask can be used."""
        if i >= len(self):
            raise IndexError(i)  # ends an iteration
        for attempt in range(len(self)):
            mask = self.read((i + attempt) % len(self))
            if mask is not None:
                return mask
        raise ConfigError(f"none of {len(self)} masks can be used, such as {self.files[i]}; {EXPECTED}")

    def read(self, i: int) -> np.ndarray | None:
        if i in self.unusable:
            return None
        try:
            mask = read_mask(self.files[i])
            if mask.any():
                return mask
            problem = f"{self.files[i]}: black all over"
        except (MaskError, OSError) as error:
            problem = str(error)
        self.unusable.add(i)
        log.warning("%s, skipped (%d so far)", problem, len(self.unusable))
        return None


class MaskFolder(Sequence):
    """The shapes in a folder of mask images, white on black, each cropped to its bounding box."""

    KEPT = 4096  # shapes that stay in memory, as bits: every data worker has its own

    def __init__(self, folder: str | Path):
        self.masks = MaskFiles(find_photos((str(folder),), suffixes=SUFFIXES))
        self.kept: dict[int, tuple[tuple[int, int], np.ndarray]] = {}  # (h, w), bits

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, i: int) -> np.ndarray:
        if i in self.kept:
            (h, w), bits = self.kept[i]
            return np.unpackbits(bits, count=h * w).reshape(h, w)
        shape = crop(self.masks[i])
        if len(self.kept) < self.KEPT:
            self.kept[i] = shape.shape, np.packbits(shape)
        return shape
