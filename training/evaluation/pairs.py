"""What is inpainted: pairs of a photo and a hole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..data import find_photos, read_photo, selects
from ..engine.config import ConfigError
from ..engine.mask_file import SUFFIXES, read_mask
from ..masks import MaskConfig, Mixture

DOMAINS = ("outdoor", "indoor", "building", "background")  # of MISATO, in this order
PER_DOMAIN = 500  # pairs
MAX_DRAWS = 1000


@dataclass(frozen=True)
class PairsConfig:
    """MISATO in its published layout, or a folder of photos with one mask each or drawn ones."""

    misato: str | None = None  # folder with 512/ and 1024/
    photos: str | None = None  # folder of photos, such as Places2's validation set
    mask_folder: str | None = None  # for photos: masks named, and cropped, like them
    masks: MaskConfig | None = None  # for photos: drawn, the i-th from (seed, i)
    size: int = 512
    count: int | None = None  # so many of them: evenly over MISATO, photos in an order of the seed
    held_out: float = 0.0  # above 0: of the photos only those that the recipes' data.held_out leaves out
    hole: tuple[float, float] = (0.0, 1.0)  # share of the photo that a drawn hole may cover
    seed: int = 20231204


@dataclass(frozen=True)
class Pair:
    """A photo (H, W, 3) uint8, its hole (H, W) uint8 with 255 in it, and what kind of photo it is. The number is its own
    however many of the pairs are taken."""

    number: int
    name: str
    domain: str
    image: np.ndarray
    mask: np.ndarray


def open_pairs(config: PairsConfig) -> "Misato | Photos":
    """Raises ConfigError for a config that does not say where from, FileNotFoundError where nothing is."""
    if (config.misato is None) == (config.photos is None):
        raise ConfigError("pairs: give either misato or photos")
    if config.misato is not None:
        return Misato(config, config.misato)
    if (config.mask_folder is None) == (config.masks is None):
        raise ConfigError("pairs.photos: give either mask_folder or masks")
    assert config.photos is not None  # checked above
    return Photos(config, config.photos)


class Misato(Sequence):
    """<misato>/<size>/image/NNNN.png and mask/NNNN.png, at 1024 pixels mask/00NNNN.png."""

    def __init__(self, config: PairsConfig, folder: str):
        self.size, self.folder = config.size, Path(folder, str(config.size))
        self.files = sorted((self.folder / "image").glob("[0-9][0-9][0-9][0-9].png"))
        if not self.files:
            raise FileNotFoundError(
                f"{self.folder}/image: no 0000.png and so on; MISATO's published layout was expected"
            )
        if config.count:
            check_count(self.folder / "image", len(self.files), config.count)
            self.files = spread(self.files, config.count)
        self.names = [file.stem for file in self.files]
        prefix = "00" if self.size == 1024 else ""
        self.masks = require_masks([self.folder / "mask" / f"{prefix}{file.name}" for file in self.files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Pair:
        file = self.files[i]
        number = int(file.stem)
        domain = DOMAINS[number // PER_DOMAIN]
        return check(Pair(number, file.stem, domain, read_image(file), read_mask(self.masks[i]) * 255), self.size)


class Photos(Sequence):
    """The largest central squares of photos, with masks of the same names or drawn ones."""

    def __init__(self, config: PairsConfig, folder: str):
        selected = selects(config.held_out, "held_out" if config.held_out else "train")
        self.config, self.files = config, find_photos((folder,), selected)
        if config.count:
            check_count(folder, len(self.files), config.count)
        if len({file.stem for file in self.files}) < len(self.files):
            raise ConfigError(f"{folder} has photos of the same name; results are told apart by it, so rename them")
        order = np.random.default_rng(config.seed).permutation(len(self.files))
        self.files = [self.files[i] for i in order[: config.count]]
        self.names = [file.stem for file in self.files]
        self.mixture = Mixture(config.masks) if config.masks else None
        if config.mask_folder:
            self.masks = find_masks(config.mask_folder, self.names)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Pair:
        file, config = self.files[i], self.config
        photo = read_image(file)
        image = center_crop(photo, config.size)
        if self.mixture:
            mask = draw_mask(self.mixture, config.hole, np.random.default_rng([config.seed, i])) * 255
            mask = cv2.resize(mask, (config.size, config.size), interpolation=cv2.INTER_NEAREST)
        else:
            mask = crop_mask(self.masks[i], photo.shape[:2], config.size) * 255
        return check(Pair(i, file.stem, "photos", image, mask), config.size)


def spread(items: Sequence, count: int) -> list:
    """So many of them, at even distances from the first on; all where there are no more."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def check_count(folder: str | Path, found: int, count: int) -> None:
    """Raises ConfigError for fewer photos than are to be taken."""
    if found < count:
        raise ConfigError(f"{folder} has {found} photos, fewer than count, {count}")


def find_masks(folder: str, names: Sequence[str]) -> list[Path]:
    """Of every photo of these names the mask, a file of any image format in the folder or below it.

    Raises FileNotFoundError where there are not all of them, ConfigError for two masks of one photo.
    """
    found: dict[str, Path] = {}
    wanted = set(names)
    for path in sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES):
        if path.stem in wanted and (other := found.setdefault(path.stem, path)) != path:
            raise ConfigError(f"{other} and {path} are both masks of {path.stem}; remove one of them")
    return require_masks([found.get(name, Path(folder, f"{name}.png")) for name in names])


def require_masks(paths: list[Path]) -> list[Path]:
    """The same paths. Raises FileNotFoundError where there are not all of them."""
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{missing[0].parent}: {len(missing)} masks are missing, such as {missing[0].name}; name them like the photos"
        )
    return paths


def check(pair: Pair, size: int) -> Pair:
    """Raises ConfigError for an image or a mask that is not `size` square, and for a mask without a hole."""
    if not pair.image.shape[:2] == pair.mask.shape == (size, size):
        raise ConfigError(f"{pair.name}: image {pair.image.shape}, mask {pair.mask.shape}; expected {size} square")
    if not pair.mask.any():
        raise ConfigError(f"{pair.name}: its mask is black all over; expected white in the hole")
    return pair


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises OSError for what is no readable image."""
    photo = read_photo(path)
    if photo is None:
        raise OSError(f"{path}: not a readable image")
    return photo


def center_crop(photo: np.ndarray, size: int) -> np.ndarray:
    """The largest central square of a photo (H, W, 3), `size` pixels wide."""
    square = center_square(photo)
    if len(square) == size:
        return square
    interpolation = cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=interpolation)


def crop_mask(path: Path, shape: tuple[int, int], size: int) -> np.ndarray:
    """The hole (size, size) uint8 in {0, 1} of the mask of a photo (H, W): cropped as the photo is, hole where at least half
    of a pixel is. A mask that is `size` square already is taken as it is.

    Raises ConfigError for a mask of any other size than those two.
    """
    mask = read_mask(path)
    if mask.shape == (size, size):
        return mask
    if mask.shape != shape:
        found, expected = (f"{w}x{h}" for h, w in (mask.shape, shape))
        raise ConfigError(f"{path} is {found}; expected {expected}, as its photo, or {size}x{size}")
    square = center_square(mask).astype(np.float32)
    interpolation = cv2.INTER_AREA if len(square) > size else cv2.INTER_LINEAR
    return (cv2.resize(square, (size, size), interpolation=interpolation) >= 0.5).astype(np.uint8)


def center_square(image: np.ndarray) -> np.ndarray:
    x, y, side = crop_box(image)
    return image[y : y + side, x : x + side]


def crop_box(image: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the largest central square."""
    h, w = image.shape[:2]
    side = min(h, w)
    return (w - side) // 2, (h - side) // 2, side


def draw_mask(mixture: Mixture, hole: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """The first of the mixture's masks (S, S) uint8 in {0, 1} whose hole is such a share of it.

    Raises ConfigError where none of many is.
    """
    for _ in range(MAX_DRAWS):
        mask = mixture(rng)
        if hole[0] <= mask.mean() <= hole[1]:
            return mask
    raise ConfigError(
        f"none of {MAX_DRAWS} masks covers {hole[0]:.0%} to {hole[1]:.0%} of the photo; widen hole, or change masks"
    )
