"""The dataset of every recipe: endless shuffled views of photos."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .sources import open_source, read_photo, twin_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and which views of them."""

    folders: tuple[str, ...]  # folders, list files (.txt), or tar shards: data-{000..099}.tar, s3://..., https://...
    size: int = 256  # side of the square view, in pixels
    scale: tuple[float, float] = (1.0, 1.0)  # side of the crop as a share of the short side, before resizing to `size`
    native: bool = False  # crop `size` pixels as they are instead of a share of the photo
    tone: float = 0.0  # views are raised to a power from exp(-tone) to exp(tone): brighter, darker than the photos are
    cache: bool = False  # keep decoded photos in memory, for small sets
    augmented: str | None = None  # folder of the photos' latent-augmented twins (training.latent_augment)


def random_view(photo: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """A random square view (size, size, C) of a photo (H, W, C), mirrored half of the time."""
    h, w = photo.shape[:2]
    side = min(h, w)
    side = min(side, config.size) if config.native else max(1, round(side * rng.uniform(*config.scale)))
    y, x = rng.integers(0, h - side + 1), rng.integers(0, w - side + 1)
    view = photo[y : y + side, x : x + side]
    if config.tone:  # before the resizing, which hides how far apart brightened dark levels are
        power = np.exp(rng.uniform(-config.tone, config.tone))
        view = (255 * (np.arange(256) / 255) ** power).round().astype(np.uint8)[view]
    if side != config.size:
        interpolation = cv2.INTER_AREA if side > config.size else cv2.INTER_CUBIC
        view = cv2.resize(view, (config.size, config.size), interpolation=interpolation)
    return view[:, ::-1] if rng.random() < 0.5 else view


class Photos(Dataset):
    """Endless shuffled views of a set of photos; `extend` adds what a recipe needs beside the image.

    Item i is {"image": (3, S, S) in [0, 1], ...}, with the same view of its latent-augmented twin as "augmented" if
    there is one. Unreadable files are named and counted in the log and replaced by the next photo.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        extend: Callable[[dict[str, Tensor], np.random.Generator, int], None] = lambda sample, rng, index: None,
    ):
        self.config, self.seed, self.extend = config, seed, extend
        if config.augmented and not Path(config.augmented).is_dir():
            raise FileNotFoundError(f"{config.augmented}: no such folder; make it with training.latent_augment")
        self.source = open_source(config.folders)
        self.decoded: dict[int, np.ndarray] = {}
        self.epoch, self.order = -1, np.empty(0)
        self.unreadable: set[int] = set()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        view = random_view(self.photo(index), self.config, rng)
        pictures = torch.from_numpy(np.ascontiguousarray(view)).permute(2, 0, 1).float() / 255
        sample = dict(zip(("image", "augmented"), pictures.split(3), strict=False))
        self.extend(sample, rng, index)
        return sample

    def photo(self, index: int) -> np.ndarray:
        """The photo that sample `index` shows: every photo once an epoch. Raises OSError where none is readable."""
        epoch, position = divmod(index, len(self.source))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = self.source.order(np.random.default_rng([self.seed, epoch, 0xE70C]))
        for attempt in range(len(self.source)):
            i = int(self.order[(position + attempt) % len(self.source)])
            photo = self.decoded[i] if i in self.decoded else self.read(i)
            if photo is not None:
                if self.config.cache:
                    self.decoded[i] = photo
                return photo
            if i not in self.unreadable:
                self.unreadable.add(i)
                log.warning(
                    "%s: not a readable picture, skipped (%d so far)", self.source.name(i), len(self.unreadable)
                )
        raise OSError(f"none of the {len(self.source)} photos is readable")

    def read(self, i: int) -> np.ndarray | None:
        photo = self.source.read(i)
        twin = read_photo(twin_of(self.config.augmented, self.source.name(i))) if self.config.augmented else None
        if photo is None or twin is None or twin.shape != photo.shape:
            return photo
        return np.concatenate([photo, twin], axis=2)  # one array, so that both get the same view


def held_out(dataset: Dataset, count: int) -> dict[str, Tensor]:
    """A fixed batch of samples that training never draws: indices far beyond any run's."""
    return torch.utils.data.default_collate([dataset[2**40 + i] for i in range(count)])
