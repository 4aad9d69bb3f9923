"""Image files -> pixels: whole images or none."""

import io
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..engine.config import ConfigError
from ..engine.jpeg import flaw
from ..engine.mask_file import MAX_PIXELS, TOO_LARGE

OPENCV = (4, 13)  # older ones decode half a JPEG, with gray for the rest, and do not turn a WebP
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
PADDING = 64  # zero bytes at the end of a WebP, from which on they are no part of its code


def require_opencv() -> None:
    """Raises ConfigError for an OpenCV that would give other pixels than a file's without saying so."""
    if tuple(map(int, cv2.__version__.split(".")[:2])) < OPENCV:
        raise ConfigError(
            f"OpenCV {cv2.__version__} reads half a JPEG and ignores how a WebP is turned; expected 4.13 or newer: "
            "pip install -U opencv-python-headless, and remove opencv-python if there is an older one"
        )


def read_photo(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None where the file is no readable image."""
    return decode_photo(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """A file; empty where it cannot be read, or is a pipe or device, from which reading might never end."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def decode_photo(data: bytes, flags: int = cv2.IMREAD_COLOR, enough: int | None = None) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB; None where it is no readable image, a damaged one, or one of more than MAX_PIXELS.

    A JPEG that would still have `enough` pixels on its short side is read at a half, a quarter or an eighth of its size.
    """
    return decode(data, flags, enough)[0]


def problem(data: bytes) -> str | None:
    """Why `decode_photo` gives None for a file; None where it does not."""
    return decode(data, cv2.IMREAD_COLOR)[1]


def decode(data: bytes, flags: int, enough: int | None = None) -> tuple[np.ndarray, None] | tuple[None, str]:
    """The pixels, or what keeps them from being read."""
    if not data:
        return None, "empty, or not readable"
    kind, (width, height) = header(data)
    if width * height > MAX_PIXELS:
        return None, TOO_LARGE
    if kind == "WEBP" and data.endswith(bytes(PADDING)):
        return None, "damaged: its end is missing"
    if enough and kind == "JPEG":
        flags = next((flag for by, flag in REDUCED.items() if min(width, height) // by >= enough), flags)
    if kind in ("JPEG", "MPO") and (damage := flaw(data)):
        return None, damage
    image = None
    with suppress(cv2.error):  # a header that promises too many pixels
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        return None, "not a readable image"
    if kind in ("JPEG", "MPO") and lost_rows(image):
        return None, "damaged: its last rows are missing"
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), None


def header(data: bytes) -> tuple[str | None, tuple[int, int]]:
    """Pillow's name of the format, width and height; of what Pillow does not know, None and none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format, image.size
    except Image.DecompressionBombError:
        return None, (MAX_PIXELS + 1, 1)
    except Exception:  # Pillow raises errors of a dozen kinds for damaged files; what they are, decoding tells
        return None, (0, 0)


def lost_rows(image: np.ndarray) -> bool:
    """Whether one edge of a JPEG is of the medium gray that decoders put in place of what is missing, and not the one
    opposite, as it would be in a gray frame."""
    top, bottom, left, right = ((edge == 128).all() for edge in (image[0], image[-1], image[:, 0], image[:, -1]))
    return bool(top != bottom or left != right)
