"""COCO's objects as one mask per photo."""

import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from ..config import ConfigError
from ..data import decode_photo, read_bytes
from ..masks import decode_runs
from .pairs import centre_square


def read_stored(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB as it is stored, whichever way up EXIF has it shown: annotations are about that. None where it is
    no readable picture."""
    return decode_photo(read_bytes(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


class Foregrounds:
    """The union of all annotated objects of a photo, crowds among them."""

    def __init__(self, annotations: str):
        self.annotations = annotations
        with open(annotations) as file:
            coco = json.load(file)
        self.ids = {image["file_name"]: image["id"] for image in coco["images"]}
        self.segmentations = defaultdict(list)
        for annotation in coco["annotations"]:
            self.segmentations[annotation["image_id"]].append(annotation["segmentation"])

    def crop(self, name: str, shape: tuple[int, int], size: int) -> np.ndarray:
        """(size, size) uint8 in {0, 1}: the foreground of a photo (H, W) in its central square, any touched pixel.

        Raises ConfigError for a photo that the annotations are not about.
        """
        if name not in self.ids:
            raise ConfigError(f"{name} is none of the {len(self.ids)} photos that {self.annotations} is about")
        mask = np.zeros(shape, np.uint8)
        for segmentation in self.segmentations[self.ids[name]]:
            if isinstance(segmentation, dict):
                mask |= decode_runs(segmentation)
            else:
                for polygon in segmentation:  # one by one: together, where two overlap nothing is filled
                    cv2.fillPoly(mask, [np.round(np.reshape(polygon, (-1, 2))).astype(np.int32)], 1)
        square = centre_square(mask).astype(np.float32)
        interpolation = cv2.INTER_AREA if len(square) > size else cv2.INTER_LINEAR
        return (cv2.resize(square, (size, size), interpolation=interpolation) > 0).astype(np.uint8)
