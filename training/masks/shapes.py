"""Masks as shapes of their own."""

import cv2
import numpy as np


def crop(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) uint8 cut to the bounding box of what is not 0."""
    x, y, w, h = cv2.boundingRect(mask)
    return mask[y : y + h, x : x + w]
