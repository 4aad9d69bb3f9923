"""Sample grids: images where people would rather look than read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from asuka_modules.atomic import atomic_write

LINE = 16  # pixels of a line of text


def to_uint8(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> (H, W, 3) uint8."""
    return (image.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def save_rows(path: Path, title: str, rows: Mapping[str, Tensor], gap: int = 4) -> None:
    """Saves batches (B, 3, H, W) of one size as the rows of one PNG, each below its name, and all below a title."""
    font = ImageFont.load_default(LINE - 4)
    tiles = [[Image.fromarray(to_uint8(image)) for image in row] for row in rows.values()]
    w, h = tiles[0][0].size
    width = max(len(tiles[0]) * (w + gap) - gap, *(int(font.getlength(text)) + 1 for text in (title, *rows)))
    canvas = Image.new("RGB", (width, LINE + len(tiles) * (LINE + h)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((0, 0), title, "black", font)
    for i, (name, row) in enumerate(zip(rows, tiles, strict=True)):
        top = LINE + i * (LINE + h)
        draw.text((0, top), name, "black", font)
        for j, tile in enumerate(row):
            canvas.paste(tile, (j * (w + gap), top + LINE))
    with atomic_write(path) as partial:
        canvas.save(partial, "png")


def sheet_title(validation: object) -> str:
    """Which images the sample sheets of a recipe show: those of its `validation`, if it is set."""
    return "validation images" if validation else "training images, for validation is not set"
