"""Distances to the hole, to grow and feather it."""

import math

import numpy as np
from comfy.model_management import throw_exception_if_processing_interrupted
from scipy import ndimage

ROWS = 512  # at a time, so that an image of 12 megapixels can be cancelled within a second


def distance_to(hole: np.ndarray, limit: float) -> np.ndarray:
    """Return the distance in pixels, (H, W) float64, to the nearest pixel of `hole` (H, W) bool; above `limit`, any value above it."""
    distance, reach = np.full(hole.shape, np.inf), math.ceil(limit)
    step = max(ROWS, 2 * reach)
    for top in range(0, len(hole), step):
        throw_exception_if_processing_interrupted()
        start = max(top - reach, 0)
        near = hole[start : top + step + reach]
        if near.any():
            distance[top : top + step] = ndimage.distance_transform_edt(~near)[top - start :][:step]
    return distance
