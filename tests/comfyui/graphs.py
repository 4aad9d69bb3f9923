"""Small helpers for tests that run graphs on the server."""

from pathlib import Path

import numpy as np
from PIL import Image

from scripts.comfy_server import Server


def put_image(server: Server, name: str, pixels: np.ndarray, hole: np.ndarray | None = None) -> str:
    """Writes (H, W, 3) uint8 into the input folder; a hole (H, W) bool goes into alpha, as the mask editor does it."""
    image = Image.fromarray(pixels)
    if hole is not None:
        image.putalpha(Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)))
    image.save(server.base / "input" / name)
    return name


def read(server: Server, outputs: dict, node: str, index: int = 0) -> np.ndarray:
    """A saved picture, (H, W, 3) uint8."""
    return np.asarray(Image.open(server.image_file(outputs[node]["images"][index])).convert("RGB"))


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """The sample photo resized, with a little noise so that no two pixels are alike."""
    sample = Image.open(Path(__file__).parents[2] / "demo" / "sample.jpg").convert("RGB").resize((width, height))
    noise = np.random.default_rng(seed).integers(-6, 7, (height, width, 3))
    return np.clip(np.asarray(sample).astype(int) + noise, 0, 255).astype(np.uint8)


def ellipse(width: int, height: int, scale: float = 0.3) -> np.ndarray:
    """A hole (H, W) bool a little off the center."""
    y, x = np.mgrid[:height, :width]
    return ((x - 0.45 * width) / (scale * width)) ** 2 + ((y - 0.55 * height) / (scale * height)) ** 2 < 1
