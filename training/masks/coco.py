"""COCO's instance annotations: what cannot be used is skipped, counted and told."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import cv2
import numpy as np

from ..engine.config import ConfigError
from ..engine.mask_file import MAX_PIXELS, TOO_LARGE
from .shapes import crop

log = logging.getLogger(__name__)
T = TypeVar("T")


class Unusable(ConfigError):
    """What is wrong with an annotation."""


class CocoFile:
    """The images of a COCO file by id, and its annotations.

    Raises ConfigError for what is no COCO file, FileNotFoundError if there is none.
    """

    def __init__(self, path: str | Path):
        self.path = path
        try:
            coco = json.loads(Path(path).read_bytes() or b"null")
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not JSON ({error}); {EXPECTED}") from error
        images, annotations = (coco.get(key) if isinstance(coco, dict) else None for key in ("images", "annotations"))
        if not isinstance(images, list) or not isinstance(annotations, list):
            raise ConfigError(f"{path}: no lists of images and annotations in it; {EXPECTED}")
        self.annotations = annotations
        self.images = {image["id"]: image for image in images if isinstance(image, dict) and is_name(image.get("id"))}

    def usable(self, use: Callable[[dict, dict], T | None]) -> Iterator[T]:
        """What `use(annotation, image)` makes of every annotation, unless that is None.

        Those for which it raises `Unusable` are skipped and told in the end. Raises ConfigError if nothing is left then.
        """
        count, skipped = 0, defaultdict(list)
        for number, annotation in enumerate(self.annotations):
            try:
                used = use(annotation, self.image_of(annotation))
            except Unusable as problem:
                name = annotation.get("id") if isinstance(annotation, dict) else None
                skipped[str(problem)].append(f"number {number}" if name is None else f"id {name}")
                continue
            if used is not None:
                count += 1
                yield used
        total = sum(map(len, skipped.values()))
        text = "; ".join(f"{len(ids)} with {problem} (such as {ids[0]})" for problem, ids in skipped.items())
        if not count:
            found = text or "all are crowds, or of another size than asked for"
            raise ConfigError(f"{self.path}: no usable instance among its {len(self.annotations)} annotations: {found}")
        if skipped:
            log.warning("%s: %d of %d annotations skipped: %s", self.path, total, len(self.annotations), text)

    def image_of(self, annotation: dict) -> dict:
        """The image that an annotation is of. Raises Unusable."""
        if not isinstance(annotation, dict):
            raise Unusable("something else than fields")
        name = annotation.get("image_id")
        if not is_name(name) or name not in self.images:
            raise Unusable("an image that is not listed")
        return self.images[name]


EXPECTED = "expected COCO's instance annotations, such as instances_train2017.json"


class CocoInstances(Sequence):
    """The instances of a COCO annotation file that are no crowds and cover such a share of their image."""

    def __init__(self, path: str | Path, area: tuple[float, float]):
        def polygons(annotation: dict, image: dict) -> list[np.ndarray] | None:
            if annotation.get("iscrowd"):
                return None
            h, w = size_of(image)
            if not is_number(annotation.get("area")):
                raise Unusable("no area")
            return outlines(annotation, (h, w)) if area[0] <= annotation["area"] / (h * w) <= area[1] else None

        instances = list(CocoFile(path).usable(polygons))
        # Flat arrays, so that data workers share the memory.
        self.points = np.concatenate([points for instance in instances for points in instance])
        self.lengths = np.array([len(points) for instance in instances for points in instance])
        self.starts = np.concatenate([[0], self.lengths.cumsum()])
        self.first = np.concatenate([[0], np.cumsum([len(instance) for instance in instances])])

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        polygons = [
            self.points[self.starts[j] : self.starts[j] + self.lengths[j]]
            for j in range(self.first[i], self.first[i + 1])
        ]
        corner = np.min([points.min(0) for points in polygons], axis=0)
        w, h = np.ceil(np.max([points.max(0) for points in polygons], axis=0) - corner).astype(int) + 1
        mask = np.zeros((h, w), np.uint8)
        for points in polygons:  # one by one: together, where two overlap nothing is filled
            cv2.fillPoly(mask, [np.round(points - corner).astype(np.int32)], 1)
        return crop(mask)


def open_instances(path: str | Path, area: tuple[float, float]) -> CocoInstances:
    """Read once by a process, until the file is written anew: COCO's takes half a minute and 2.6 GB."""
    path = Path(path).resolve()
    return read_instances(path, path.stat().st_mtime_ns, area)


@lru_cache(maxsize=4)
def read_instances(path: Path, written: int, area: tuple[float, float]) -> CocoInstances:
    return CocoInstances(path, area)


def outlines(annotation: dict, size: tuple[int, int]) -> list[np.ndarray]:
    """The polygons (N, 2) float32 of an instance; of run lengths the outer ones, so that holes in the object are filled.
    Raises Unusable."""
    segmentation = segmentation_of(annotation, size)
    if isinstance(segmentation, np.ndarray):
        contours = cv2.findContours(segmentation, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        if not contours:
            raise Unusable("an empty shape")
        return [contour.reshape(-1, 2).astype(np.float32) for contour in contours]
    return segmentation


def segmentation_of(annotation: dict, size: tuple[int, int] | None = None) -> list[np.ndarray] | np.ndarray:
    """An annotation's polygons, (N, 2) float32 each in pixels, or its mask of run lengths, (H, W) uint8.

    Raises Unusable, also for what lies far outside of an image of this size, (H, W).
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise Unusable("a caption but no segmentation" if "caption" in annotation else "no segmentation")
    if isinstance(segmentation, dict):
        mask = decode_runs(segmentation)
        if size and mask.shape != size:
            raise Unusable("run lengths of another size than the image's")
        return mask
    found = [read_polygon(polygon) for polygon in segmentation] if isinstance(segmentation, list) else [None]
    polygons = [polygon for polygon in found if polygon is not None]
    if len(polygons) < len(found) or (size and any(p.min() < -max(size) or p.max() > 2 * max(size) for p in polygons)):
        raise Unusable("an odd polygon")
    return polygons


def read_polygon(numbers: object) -> np.ndarray | None:
    """(N, 2) float32; None for what are no coordinates of three points or more."""
    if not isinstance(numbers, list) or len(numbers) < 6 or len(numbers) % 2:
        return None
    try:
        points = np.array(numbers, np.float32)
    except (TypeError, ValueError, OverflowError):
        return None
    return points.reshape(-1, 2) if points.ndim == 1 and np.isfinite(points).all() else None


def decode_runs(segmentation: dict) -> np.ndarray:
    """COCO's run lengths, column by column and zeros first -> (H, W) uint8 in {0, 1}.

    Raises Unusable, for compressed ones, too.
    """
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if isinstance(counts, str):
        raise Unusable(f"compressed run lengths ({counts[:20]}...), expected numbers; convert them with pycocotools")
    if not is_counts(size) or len(size) != 2 or not is_counts(counts) or sum(counts) != size[0] * size[1]:
        raise Unusable("run lengths that do not fill their size")
    if sum(counts) > MAX_PIXELS:
        raise Unusable(f"run lengths of {TOO_LARGE}")
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).astype(np.uint8).reshape(size, order="F")


def is_counts(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def is_name(value: object) -> bool:
    return isinstance(value, int | str)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63  # no NaN, either


def size_of(image: dict) -> tuple[int, int]:
    """Height and width in pixels. Raises Unusable."""
    size: tuple[Any, Any] = image.get("height"), image.get("width")
    if not all(is_number(side) and side >= 1 for side in size):
        raise Unusable("an image without height and width")
    return size
