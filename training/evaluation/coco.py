"""COCO's objects as one mask per photo."""

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from ..data import decode_photo, read_bytes
from ..engine.config import ConfigError
from ..masks.coco import CocoFile, segmentation_of, size_of
from .pairs import center_square


def read_stored(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB as it is stored, whichever way up EXIF has it shown: annotations are about that. None where it is
    no readable image."""
    return decode_photo(read_bytes(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def checked(annotation: dict, image: dict) -> dict:
    """The annotation, as it is in the file: decoded, crowds take much memory. Raises Unusable."""
    segmentation_of(annotation, size_of(image) if image.get("height") else None)  # the photo itself has a size, too
    return annotation


class Foregrounds:
    """The union of all annotated objects of a photo, crowds among them."""

    def __init__(self, annotations: str):
        self.annotations = annotations
        coco = CocoFile(annotations)
        self.ids = {image.get("file_name"): name for name, image in coco.images.items()}
        self.segmentations = defaultdict(list)
        for annotation in coco.usable(checked):
            self.segmentations[annotation["image_id"]].append(annotation)

    def crop(self, name: str, shape: tuple[int, int], size: int) -> np.ndarray:
        """(size, size) uint8 in {0, 1}: the foreground of a photo (H, W) in its central square, any touched pixel.

        Raises ConfigError for a photo that the annotations are not about.
        """
        if name not in self.ids:
            raise ConfigError(f"{name} is none of the {len(self.ids)} photos that {self.annotations} is about")
        mask = np.zeros(shape, np.uint8)
        for annotation in self.segmentations[self.ids[name]]:
            segmentation = segmentation_of(annotation)
            if isinstance(segmentation, np.ndarray):
                if segmentation.shape != shape:
                    raise ConfigError(f"{name} is {shape}, but {self.annotations} has it as {segmentation.shape}")
                mask |= segmentation
            else:
                for polygon in segmentation:  # one by one: together, where two overlap nothing is filled
                    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
        square = center_square(mask).astype(np.float32)
        interpolation = cv2.INTER_AREA if len(square) > size else cv2.INTER_LINEAR
        return (cv2.resize(square, (size, size), interpolation=interpolation) > 0).astype(np.uint8)
