"""Draws assets/icon.png and assets/banner.png, which the Comfy registry shows: python -m scripts.pictures.emblem"""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

from scripts.comfy_server import ROOT

SMOOTH = 4  # drawn so many times larger, then reduced
SKY = (33, 52, 92), (244, 176, 128)  # top, horizon
HILLS = (  # color; height, and how far it rises and falls, as shares of the image; waves in an image as wide as high
    ((92, 88, 132), 0.60, 0.07, 1.1),
    ((58, 64, 104), 0.70, 0.05, 1.7),
    ((28, 36, 66), 0.82, 0.04, 0.9),
)


def landscape(width: int, height: int) -> Image.Image:
    """Hills under an evening sky: nothing in them tells where something was removed."""
    top, horizon = SKY
    sky = Image.new("RGB", (1, height))
    for y in range(height):
        share = min(1.0, y / (0.7 * height))
        sky.putpixel((0, y), tuple(round(a + (b - a) * share) for a, b in zip(top, horizon, strict=True)))
    picture = sky.resize((width, height))
    draw = ImageDraw.Draw(picture)
    for colour, level, rise, waves in HILLS:
        line = [
            (x, height * (level + rise * math.sin(2 * math.pi * waves * x / height + level * 9))) for x in range(width)
        ]
        draw.polygon([(0, height), *line, (width, height)], fill=colour)
    return picture


def mark_hole(picture: Image.Image, center: tuple[float, float], radius: float) -> None:
    """The dashed line of a selection, around what is no longer there."""
    box = [center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius]
    for start in range(0, 360, 20):
        ImageDraw.Draw(picture).arc(box, start, start + 11, fill="white", width=max(1, round(radius / 11)))


def icon(side: int = 400) -> Image.Image:
    large = landscape(side * SMOOTH, side * SMOOTH)
    mark_hole(large, (0.5 * large.width, 0.52 * large.height), 0.3 * large.width)
    corners = Image.new("L", large.size)
    ImageDraw.Draw(corners).rounded_rectangle([0, 0, *large.size], 0.18 * large.width, fill=255)
    large.putalpha(corners)
    return large.resize((side, side), Image.Resampling.LANCZOS)


def banner(width: int = 1260, height: int = 540) -> Image.Image:
    large = landscape(width * SMOOTH, height * SMOOTH)
    mark_hole(large, (0.8 * large.width, 0.5 * large.height), 0.3 * large.height)
    draw, left = ImageDraw.Draw(large), 0.06 * large.width
    for text, y, size in (("ASUKA Inpaint", 0.29, 0.17), ("Removes objects. Keeps every other pixel.", 0.44, 0.062)):
        draw.text((left, y * large.height), text, "white", ImageFont.load_default(size * large.height), anchor="lm")
    return large.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    for draw in (icon, banner):
        draw().save(ROOT / "assets" / f"{draw.__name__}.png", optimize=True)
