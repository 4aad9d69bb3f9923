"""Mask images of any kind -> holes. The one reader of recipes, evaluation and demo; it needs Pillow and NumPy alone."""

import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFilter, ImageOps, UnidentifiedImageError

from .config import ConfigError
from .jpeg import flaw

ORIENTATION = ExifTags.Base.Orientation
MAX_PIXELS = 1024**3 // 4 // 3  # Pillow's limit, 89 million; larger images are refused before they are decoded
TOO_LARGE = f"more than {MAX_PIXELS / 1e6:.0f} million pixels"
FEW = 16  # levels: no more than this are labels, or a shape with soft edges, and no blur or JPEG noise
AREA = 0.01  # share of the image from which on one level is no edge
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Pillow's; these images are refused in one line
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
EXPECTED = "expected white in the hole and black elsewhere, or transparent in the hole and opaque elsewhere"


class MaskError(ConfigError):
    """A mask image that cannot be read, or does not say clearly where the hole is; the message names the file."""


class Unclear(Exception):
    """What is unclear about an image as a mask."""


def read_mask(path: str | Path) -> np.ndarray:
    """The hole of a mask image: (H, W) uint8 in {0, 1}, 1 in the hole, turned as its EXIF orientation says.

    If anything is transparent, that is the hole, as in ComfyUI; otherwise the hole is white, and what has only one level or
    color beside black is taken for white. Raises MaskError for what is no readable image and where the hole is unclear,
    FileNotFoundError if there is no such file.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if image.format == "TIFF" and image.getexif().get(ORIENTATION, 1) > 4:
                raise Unclear("a TIFF on its side, which Pillow scrambles")
            if image.format in ("JPEG", "MPO") and (damage := flaw(Path(path).read_bytes())):
                raise OSError(damage)
            return hole(ImageOps.exif_transpose(image)).astype(np.uint8)
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError:  # which Pillow itself raises from twice as many on
        raise MaskError(f"{path}: {TOO_LARGE}") from None
    except Unclear as problem:
        raise MaskError(f"{path}: {problem}; {EXPECTED}") from None
    except UnidentifiedImageError:
        raise MaskError(f"{path}: not a readable image") from None
    except Exception as error:  # Pillow raises errors of a dozen kinds for damaged files
        raise MaskError(f"{path}: not a readable image ({error})") from error


def hole(image: Image.Image) -> np.ndarray:
    """(H, W) bool. Raises Unclear."""
    alpha = opacity(image)
    if alpha is not None and alpha.min() < 230:  # above, what shows through is a rounding error
        return transparent_part(alpha, np.asarray(image.convert("RGBA"))[..., :3])
    if len(image.getbands()) == 1 and image.mode != "P":
        return white_part(np.asarray(image))
    return white_part(one_channel(np.asarray(image.convert("RGB"))))


def opacity(image: Image.Image) -> np.ndarray | None:
    """(H, W) uint8: the alpha channel, of a palette's color or of the one color that is marked as transparent, too."""
    marked = image.info.get("transparency")
    if len(image.getbands()) == 1 and isinstance(marked, int) and image.mode != "P":
        return np.where(np.asarray(image) == marked, 0, 255).astype(np.uint8)
    if marked is None and not {"A", "a"} & set(image.getbands()):
        return None
    return np.asarray(image.convert("RGBA"))[..., 3]


def transparent_part(alpha: np.ndarray, colors: np.ndarray) -> np.ndarray:
    if alpha.min() == alpha.max():
        raise Unclear(f"{1 - alpha.max() / 255:.0%} transparent all over")
    border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    if (border < 128).mean() > 0.5:
        raise Unclear("transparent along most of its border, as around an object that is cut out")
    shown = colors[alpha >= 128]
    black, white = (shown < 26).all(1).mean(), (shown > 229).all(1).mean()
    if min(black, white) > AREA and black + white > 0.9:
        raise Unclear("its colors and its transparency both draw a shape")
    return white_part(255 - alpha)


def one_channel(colors: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W): gray levels; of black and one other color, which is True. Raises Unclear for more colors."""
    brightest = colors.max(2)
    if (brightest - colors.min(2) > 26).mean() < AREA:
        return brightest
    found = np.unique(colors.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))
    if len(found) == 2 and found[0] == 0:
        return brightest > 0
    raise Unclear(f"{len(found)} colors")


def white_part(values: np.ndarray) -> np.ndarray:
    """(H, W) levels of any type -> (H, W) bool. Raises Unclear where the levels are not those of a mask."""
    white = white_level(values)
    levels = np.flatnonzero(np.bincount(values.ravel())) if values.dtype.kind in "bu" else np.unique(values)
    if len(levels) > 2:
        threshold = soft_threshold(values, levels, white)
    elif len(levels) == 2 and (levels[0] == 0 or levels[0] < white / 2 < levels[1]):
        threshold = levels.mean()
    elif len(levels) == 1 and levels[0] in (0, white):
        threshold = white / 2
    else:
        raise Unclear("nothing but level " + " and ".join(f"{level:.4g}" for level in levels) + f" of {white}")
    return values > threshold


def white_level(values: np.ndarray) -> int:
    """What counts as white: by the type, where that has room for more (16 bits, floats) by the highest value."""
    if values.dtype in (np.bool_, np.uint8):
        return 1 if values.dtype == np.bool_ else 255
    ladder = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > ladder[-1]:
        raise Unclear(f"levels from {values.min():.4g} to {values.max():.4g}")
    return next(white for white in ladder if values.max() <= white)


def soft_threshold(values: np.ndarray, levels: np.ndarray, white: int) -> float:
    """The level above which the hole is, for three levels or more: a shape with soft edges, or noise around two levels."""
    few = len(levels) <= FEW
    ranks = np.searchsorted(levels, values) if few else values / (white / 255)
    areas = levels_of_areas(ranks.astype(np.uint8))
    if few and len(areas) > 2:
        raise Unclear(f"{len(areas)} levels, as in a map of labels")
    if few and len(areas) == 2 and levels[areas[0]] == 0:
        return levels[areas].mean()
    gray = (values > 0.1 * white) & (values < 0.9 * white)
    if gray.mean() > 0.5 or (not few and ((areas > 25) & (areas < 230)).any()):
        raise Unclear(f"gray, neither black nor white, on {gray.mean():.0%} of it")
    if levels[-1] <= white / 2:
        raise Unclear(f"no brighter than {levels[-1] / white:.0%}")
    return white / 2


def levels_of_areas(levels: np.ndarray) -> np.ndarray:
    """The levels (uint8) that fill areas: a share of the image where the pixels around have the same one."""
    image = Image.fromarray(levels)
    flat = np.asarray(image.filter(ImageFilter.MinFilter(3))) == np.asarray(image.filter(ImageFilter.MaxFilter(3)))
    return np.flatnonzero(np.bincount(levels[flat], minlength=1) > AREA * levels.size)
