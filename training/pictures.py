"""Sample grids: pictures where people would rather look than read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def to_uint8(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> (H, W, 3) uint8."""
    return (image.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def save_rows(path: Path, rows: Sequence[Tensor], gap: int = 4) -> None:
    """Saves batches (B, 3, H, W) of one size as the rows of one picture."""
    cells = [[to_uint8(image) for image in row] for row in rows]
    h, w = cells[0][0].shape[:2]
    canvas = np.full((len(cells) * (h + gap) - gap, len(cells[0]) * (w + gap) - gap, 3), 255, np.uint8)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            canvas[i * (h + gap) : i * (h + gap) + h, j * (w + gap) : j * (w + gap) + w] = cell
    Image.fromarray(canvas).save(path)
