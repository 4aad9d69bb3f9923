"""Distances to the hole, to grow and feather it. Their cost depends on the hole's bounding box, not on the image."""

import math
from collections.abc import Iterator

import numpy as np
from comfy.model_management import throw_exception_if_processing_interrupted
from scipy import ndimage

from .regions import bounding_box

ROWS = 512  # at a time, so that an image of 12 megapixels can be cancelled within a second


def distance_to(hole: np.ndarray, limit: float) -> np.ndarray:
    """Return the distance in pixels, (H, W) float64, to the nearest pixel of `hole` (H, W) bool; above `limit`, any value above it."""
    distance = np.full(hole.shape, np.inf)
    for strip, squared in squared_distances(hole, math.ceil(limit)):
        distance[strip] = np.sqrt(squared)
    return distance


def within(hole: np.ndarray, limit: float) -> np.ndarray:
    """Return `hole` (H, W) bool grown by all pixels that are at most `limit` pixels away from it."""
    grown = np.zeros_like(hole)
    largest = int(limit * limit) + 1
    while math.sqrt(largest) > limit:  # whole numbers compare exactly, and faster than their roots
        largest -= 1
    for strip, squared in squared_distances(hole, math.ceil(limit)):
        grown[strip] = squared <= largest
    return grown


def squared_distances(hole: np.ndarray, reach: int) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Yield strips that together cover everything within `reach` pixels of `hole`, each with its squared distances, int32."""
    rows, columns = bounding_box(hole, reach)
    step = max(ROWS, 2 * reach)
    for top in range(rows.start, rows.stop, step):
        throw_exception_if_processing_interrupted()
        bottom, start = min(top + step, rows.stop), max(top - reach, 0)
        near = hole[start : bottom + reach, columns]
        if near.any():
            y, x = ndimage.distance_transform_edt(~near, return_distances=False, return_indices=True)
            y, x = y[top - start : bottom - start], x[top - start : bottom - start]
            y -= np.arange(top - start, bottom - start, dtype=y.dtype)[:, None]
            x -= np.arange(x.shape[1], dtype=x.dtype)
            y *= y
            x *= x
            y += x
            yield (slice(top, bottom), columns), y
