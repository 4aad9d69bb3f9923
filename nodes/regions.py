"""Connected regions of a mask, at a cost that depends on the mask's bounding box, not on the image."""

import numpy as np
from scipy import ndimage


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns of a mask (H, W) bool with a margin around it, inside the image; both are empty if the mask is."""

    def span(axis: int, size: int) -> slice:
        there = np.flatnonzero(mask.any(axis=axis))
        return slice(max(there[0] - margin, 0), min(there[-1] + 1 + margin, size)) if len(there) else slice(0, 0)

    return span(1, mask.shape[0]), span(0, mask.shape[1])


def drop_small(mask: np.ndarray, pixels: float) -> np.ndarray:
    """Return a mask (H, W) bool without its regions of fewer than `pixels` pixels. Regions that touch at a corner count as one."""
    box, kept = bounding_box(mask), np.zeros_like(mask)
    regions, _ = ndimage.label(mask[box], structure=np.ones((3, 3)))
    large = np.bincount(regions.ravel(), minlength=1) >= pixels
    large[0] = False  # the background
    kept[box] = large[regions]
    return kept


def fill_enclosed(mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) bool filled: everything except the background that reaches the border."""
    box, filled = bounding_box(mask), np.zeros_like(mask)
    background, _ = ndimage.label(np.pad(~mask[box], 1, constant_values=True))
    filled[box] = (background != background[0, 0])[1:-1, 1:-1]
    return filled
