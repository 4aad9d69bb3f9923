"""Distances to the hole, for growing and feathering it."""

import math

import numpy as np
from comfy.model_management import throw_exception_if_processing_interrupted
from scipy import ndimage

ROWS = 512  # at a time, so that a photo of 12 megapixels can be cancelled within a second


def distance_to(hole: np.ndarray, limit: float) -> np.ndarray:
    """(H, W) bool -> (H, W) float64, pixels to the nearest of the hole; beyond `limit` any number above it."""
    distance, reach = np.full(hole.shape, np.inf), math.ceil(limit)
    step = max(ROWS, 2 * reach)
    for top in range(0, len(hole), step):
        throw_exception_if_processing_interrupted()
        start = max(top - reach, 0)
        near = hole[start : top + step + reach]
        if near.any():
            distance[top : top + step] = ndimage.distance_transform_edt(~near)[top - start :][:step]
    return distance
