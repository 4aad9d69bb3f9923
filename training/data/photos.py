"""The dataset of every recipe: endless shuffled crops of photos."""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augmented import AugmentedImages
from .decoding import decode_photo, problem
from .sources import open_source
from .split import Split, selects

log = logging.getLogger(__name__)
WARN_AT = (1, 10, 100, 1000, 10000)  # photos without an augmented copy


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and which crops of them."""

    folders: tuple[str, ...]  # folders, list files (.txt), or tar shards: data-{000..099}.tar, s3://..., https://...
    size: int = 256  # side of the square crop, in pixels
    scale: tuple[float, float] = (1.0, 1.0)  # side of the crop as a share of the short side, before resizing to `size`
    native: bool = False  # crop `size` pixels as they are instead of a share of the photo
    tone: float = 0.0  # crops are raised to a power from exp(-tone) to exp(tone): brighter, darker than the photos are
    cache: bool = False  # keep decoded photos in memory, for small sets
    suffix: str | None = (
        None  # of the photos in tar shards with several images a key: "image.jpg", or "image.jpg;image.png"
    )
    augmented: str | None = None  # folder of the photos' latent-augmented copies (training.latent_augment)
    held_out: float = 0.0  # share of the photos, chosen by their names, that is kept for evaluation
    split: Split = "train"  # all the others; or "held_out": those alone, for validation

    def __post_init__(self):
        selects(self.held_out, self.split)

    @property
    def enough(self) -> int | None:
        """Pixels on the short side of a photo from which on more would not show; None where every pixel counts."""
        every = self.native or self.tone or self.augmented  # an augmented copy is as large as its photo
        return None if every else ceil(self.size / self.scale[0])

    def of(self, validation: tuple[str, ...]) -> "DataConfig":
        """The same crops of photos for validation: those that `held_out` keeps, where it keeps any. Without a folder, of
        these photos, as examples."""
        if not validation:
            return self
        return replace(self, folders=validation, split="held_out" if self.held_out else "train")


def random_crop(photo: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """A random square crop (size, size, C) of a photo (H, W, C), mirrored half of the time."""
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
        images = np.split(view, view.shape[2] // 3, axis=2)  # OpenCV resizes no more than four channels at once
        resized = [cv2.resize(image, (config.size, config.size), interpolation=interpolation) for image in images]
        view = np.concatenate(resized, axis=2)
    return view[:, ::-1] if rng.random() < 0.5 else view


class Photos(Dataset):
    """Endless shuffled crops of a set of photos; `transform` adds what a recipe needs beside the image.

    Item i is {"image": (3, S, S) uint8, ...}, with the same crop of its latent-augmented copy as "augmented" if there is
    one; `to_float` makes floats of a batch. Unreadable files are named and counted in the log and replaced by the next photo.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        transform: Callable[[dict[str, Tensor], np.random.Generator, int], None] = lambda sample, rng, index: None,
    ):
        self.config, self.seed, self.transform = config, seed, transform
        self.copies = AugmentedImages(config.augmented) if config.augmented else None
        self.source = open_source(config.folders, selects(config.held_out, config.split), config.suffix)
        self.decoded: dict[int, np.ndarray] = {}
        self.epoch, self.order = -1, np.empty(0)
        self.unreadable: set[int] = set()
        self.without_copy = 0

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        view = random_crop(self.photo(index), self.config, rng)
        images = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
        sample = dict(zip(("image", "augmented"), images.split(3), strict=False))
        self.transform(sample, rng, index)
        return sample

    def fingerprint(self) -> str:
        """Of the photos' names in their order: with other photos, sample i shows another one."""
        digest = hashlib.sha256()
        for i in range(len(self.source)):
            digest.update(os.fsencode(self.source.name(i)) + b"\n")
        return digest.hexdigest()

    def lists(self) -> dict[str, str]:
        """Fingerprints of all that samples are drawn from, by what it is: the photos and, where there are any, the masks."""
        mixture = getattr(self.transform, "mixture", None)
        masks = {"list of masks": mixture.fingerprint()} if mixture else {}
        return {"list of photos": self.fingerprint(), **masks}

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
                reason = problem(self.source.data(i))
                log.warning("%s: %s, skipped (%d so far)", self.source.name(i), reason, len(self.unreadable))
        raise OSError(f"none of the {len(self.source)} photos is readable")

    def read(self, i: int) -> np.ndarray | None:
        data = self.source.data(i)
        photo = decode_photo(data, enough=self.config.enough)
        if photo is None or self.copies is None:
            return photo
        copy = decode_photo(self.copies.of(data) or b"")
        if copy is None or copy.shape != photo.shape:
            self.without_copy += 1
            if self.without_copy in WARN_AT:
                log.warning(
                    "%s: no latent-augmented copy in %s (%d photos so far), used as it is; run training.latent_augment",
                    self.source.name(i),
                    self.config.augmented,
                    self.without_copy,
                )
            return photo
        return np.concatenate([photo, copy], axis=2)  # one array, so that both get the same view


def to_float(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Images and masks come from the data workers as bytes, a quarter of the memory: uint8 -> float32 in [0, 1]."""
    return {key: value.float().div_(255) if value.dtype == torch.uint8 else value for key, value in batch.items()}


def preview_batch(dataset: Dataset | Callable[[int], dict[str, Tensor]], count: int) -> dict[str, Tensor]:
    """A fixed batch of samples to look at, unpacked, from indices far beyond any run's: with a dataset of training photos these
    are photos that training sees, cut in another way, and with encoded ones the very crops that it sees.
    """
    sample = dataset if callable(dataset) else dataset.__getitem__
    return to_float(torch.utils.data.default_collate([sample(2**40 + i) for i in range(count)]))
