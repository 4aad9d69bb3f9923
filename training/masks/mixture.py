"""The mixture of masks that ASUKA trains with (sec. 3.1)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from ..data import find_photos
from ..engine.config import ConfigError
from ..engine.mask_file import SUFFIXES
from .coco import CocoInstances, open_instances
from .freeform import FREE_FORM
from .lama import LAMA
from .objects import MaskFiles, MaskFolder, Objects
from .regular import SIDES, complement_rectangle, rectangle

Generator = Callable[[np.random.Generator, int], np.ndarray]  # (rng, size) -> (size, size) uint8 in {0, 1}
IRREGULAR: dict[str, Generator] = {**LAMA, **FREE_FORM}
Family = Literal["object", "irregular", "regular"]
FAMILIES: tuple[Family, ...] = ("object", "irregular", "regular")
SHARES = (0.5, 0.9)  # cumulative
MAX_DRAWS = 1000


def patch_ratio(mask: np.ndarray, grid: int = 16) -> float:
    """Share of the grid's patches that the hole touches."""
    covered = cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
    return float((covered > 0).mean())


@dataclass(frozen=True)
class MaskConfig:
    """Where the masks come from: the mixture, or ready-made ones."""

    objects: str | None = None  # folder of object masks, or COCO's instance annotations (.json)
    ready: str | None = None  # folder of whole masks, or a text file that lists them; replaces the mixture
    family: Family | None = None  # draw from this part of the mixture alone
    # Deviates from the paper, which has Co-Mod's masks ("comod") where this has MAT's, of the same generator with fewer strokes:
    # 24 % of Co-Mod's hide no more than `max_patch_ratio`, 83 % of MAT's. configs/sd15/mae-paper.yaml has the paper's.
    irregular: tuple[str, ...] = ("thick-256", "medium-256", "thin-256", "mat-256")
    min_patch_ratio: float = 0.1
    max_patch_ratio: float = 0.75  # so that a top-up to exactly 75 % always exists and never uncovers a hole
    # The paper does not state these four, nor the lower patch ratio; sides are shares of the mask's.
    object_sides: tuple[float, float] = (0.25, 0.85)  # longest side of an object
    object_grow: float = 15 / 256  # at most
    coco_area: tuple[float, float] = (0.005, 0.5)  # of an instance, as a share of its image
    rectangle_sides: tuple[float, float] = SIDES
    size: int = 256

    def __post_init__(self):
        if not self.irregular:
            raise ConfigError(f"masks.irregular is empty, expected some of {', '.join(IRREGULAR)}")
        if unknown := sorted(set(self.irregular) - IRREGULAR.keys()):
            raise ConfigError(f"masks.irregular: no {', '.join(unknown)}, only {', '.join(IRREGULAR)}")


class Mixture:
    """50 % objects (half of them united with an irregular mask), 40 % irregular, 10 % regular (sec. 3.1)."""

    def __init__(self, config: MaskConfig):
        if (config.objects is None) == (config.ready is None):
            raise ConfigError("masks: give either objects or ready")
        self.config = config
        self.ready = ReadyMade(config.ready, config.size) if config.ready is not None else None
        if config.objects is None:
            return
        shapes: CocoInstances | MaskFolder = (
            open_instances(config.objects, config.coco_area)
            if config.objects.endswith(".json")
            else MaskFolder(config.objects)
        )
        self.shapes, self.objects = shapes, Objects(shapes, config.object_sides, config.object_grow)
        sources = [[source[name] for name in config.irregular if name in source] for source in (LAMA, FREE_FORM)]
        self.irregular = [source for source in sources if source]

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """A mask (size, size) uint8 in {0, 1} whose patch ratio is within the config's limits.

        Its kind is drawn first: masks that are rejected are drawn anew, so that the shares stay the paper's.
        """
        low, high = self.config.min_patch_ratio, self.config.max_patch_ratio
        draw = self.ready or self.kind(rng)
        for _ in range(MAX_DRAWS):
            mask = draw(rng)
            if low <= patch_ratio(mask) <= high:
                return mask
        raise ConfigError(
            f"none of {MAX_DRAWS} masks covers {low:.0%} to {high:.0%} of the patches; check {self.config}"
        )

    def fingerprint(self) -> str:
        """Of the masks in files, in their order: with others, the same random numbers draw other holes."""
        shapes = self.ready.masks if self.ready else self.shapes
        if isinstance(shapes, CocoInstances):
            return hashlib.sha256(shapes.points.tobytes() + shapes.lengths.tobytes()).hexdigest()
        files = shapes.masks.files if isinstance(shapes, MaskFolder) else shapes.files
        return hashlib.sha256("\n".join(map(str, files)).encode(errors="surrogateescape")).hexdigest()

    def kind(self, rng: np.random.Generator) -> Callable[[np.random.Generator], np.ndarray]:
        """What draws one of the kinds of masks, with the paper's shares; LaMa's and Co-Mod's (or MAT's) are equally likely."""
        size, family = (
            self.config.size,
            self.config.family or FAMILIES[np.searchsorted(SHARES, rng.random(), side="right")],
        )
        if family == "regular":
            generator = pick(rng, [rectangle, complement_rectangle])
            return lambda rng: generator(rng, size, self.config.rectangle_sides)
        irregular = pick(rng, pick(rng, self.irregular))
        if family == "irregular":
            return lambda rng: irregular(rng, size)
        if rng.random() < 0.5:
            return lambda rng: self.objects(rng, size) | irregular(rng, size)
        return lambda rng: self.objects(rng, size)


def pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


class ReadyMade:
    """Whole masks from files, mirrored at random (such as the authors' released training masks)."""

    def __init__(self, source: str, size: int):
        self.masks, self.size = MaskFiles(find_photos((source,), suffixes=SUFFIXES)), size

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        mask = self.masks[int(rng.integers(len(self.masks)))]
        mask = cv2.resize(mask, (self.size, self.size), interpolation=cv2.INTER_NEAREST)
        flips = rng.random(2) < 0.5
        return np.ascontiguousarray(mask[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1])


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
