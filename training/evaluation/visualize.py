"""Images that show where a result fails. All are (H, W, 3) uint8, masks (H, W) uint8 with 255 in the hole."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pixels import is_hole

BRIGHTEST = 64  # gray levels of error
CELL, GAP, TITLE = 256, 4, 28  # of a grid, in pixels


def masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photo with a gray hole."""
    return np.where(is_hole(mask)[..., None], np.uint8(127), image)


def error_map(result: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Mean absolute difference of what the method returned, known pixels and all; white from `BRIGHTEST` on."""
    error = np.abs(result.astype(float) - original).mean(-1) / BRIGHTEST
    return matplotlib.colormaps["inferno"](error.clip(0, 1), bytes=True)[..., :3]


def outline_point(mask: np.ndarray) -> tuple[int, int]:
    """Where to look closely, (y, x): the point of the hole's outline that is nearest to the image's center."""
    hole = is_hole(mask).astype(np.uint8)
    outline = np.argwhere(hole != cv2.erode(hole, np.ones((3, 3), np.uint8)))
    center = np.array(mask.shape) // 2
    return tuple(min(outline, key=lambda point: np.square(point - center).sum(), default=center))


def zoom(image: np.ndarray, point: tuple[int, int], factor: int = 8) -> np.ndarray:
    """The square around a point, an eighth of the image wide, as large as the whole image."""
    h, w = image.shape[:2]
    side = min(h, w) // factor
    y, x = (int(np.clip(p - side // 2, 0, size - side)) for p, size in zip(point, (h, w), strict=True))
    return cv2.resize(image[y : y + side, x : x + side], (w, h), interpolation=cv2.INTER_NEAREST)


def image_grid(titles: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> Image.Image:
    """Square images in rows, a title over every column."""
    size = len(titles) * (CELL + GAP) - GAP, TITLE + len(rows) * (CELL + GAP) - GAP
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(18)
    for column, title in enumerate(titles):
        x = column * (CELL + GAP)
        draw.text((x + CELL / 2, TITLE / 2), title, "black", font, anchor="mm")
        for row, images in enumerate(rows):
            image = Image.fromarray(images[column]).resize((CELL, CELL), Image.Resampling.LANCZOS)
            canvas.paste(image, (x, TITLE + row * (CELL + GAP)))
    return canvas
