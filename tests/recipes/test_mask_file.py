"""The hole is read from every kind of mask image, or the file is refused by name: never another hole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageFilter

from scripts.demo import with_hole
from training.engine.mask_file import MaskError, read_mask
from training.evaluation.pairs import PairsConfig, open_pairs
from training.masks.objects import MaskFolder

H, W = 200, 300
y, x = np.mgrid[:H, :W]
HOLE = ((x - 150) / 60) ** 2 + ((y - 100) / 40) ** 2 < 1  # 12.5 %
GREY = HOLE.astype(np.uint8) * 255
SOFT = np.asarray(Image.fromarray(GREY).filter(ImageFilter.GaussianBlur(4)))
PHOTO = np.asarray(Image.fromarray(skimage.data.coffee()).resize((W, H)))
LABELS = np.where(HOLE, 1, np.where(x < 60, 2, 0)).astype(np.uint8)
SHIFTED = np.roll(GREY, 80, axis=1)


def bands(*channels: np.ndarray | int) -> Image.Image:
    """LA, RGB or RGBA of gray levels and arrays."""
    pixels = np.stack([np.broadcast_to(np.uint8(channel), (H, W)) for channel in channels], axis=2)
    return Image.fromarray(pixels)


def rgba(colors: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colors, alpha]).astype(np.uint8))


def palette(indices: np.ndarray, *colors: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([value for color in colors for value in color])
    return image


def noisy_16_bit() -> Image.Image:
    """1 % grey around the hole."""
    noise = np.random.default_rng(0).normal(0, 100, HOLE.shape)
    return Image.fromarray((np.where(HOLE, 65000, 655) + noise).astype(np.uint16))


CLEAR: dict[str, Callable[[Path], None]] = {
    "grey.png": Image.fromarray(GREY).save,
    "grey.bmp": Image.fromarray(GREY).save,
    "grey.gif": Image.fromarray(GREY).save,
    "bits.png": Image.fromarray(HOLE).save,
    "bits.tif": Image.fromarray(HOLE).save,
    "rgb.png": bands(GREY, GREY, GREY).save,
    "cmyk.jpg": bands(GREY, GREY, GREY).convert("CMYK").save,
    "cmyk.tif": bands(GREY, GREY, GREY).convert("CMYK").save,
    "opaque.png": bands(GREY, GREY, GREY, 255).save,
    "opaque-la.png": bands(GREY, 255).save,
    "alpha-on-white.png": bands(255, 255, 255, 255 - GREY).save,
    "alpha-on-black.png": bands(0, 0, 0, 255 - GREY).save,
    "alpha-on-photo.png": rgba(PHOTO, 255 - GREY).save,
    "alpha-on-photo.webp": rgba(PHOTO, 255 - GREY).save,
    "alpha-la.png": bands(255, 255 - GREY).save,
    "alpha-and-white.png": bands(GREY, GREY, GREY, 255 - GREY).save,
    "transparent-level.png": lambda path: Image.fromarray(GREY // 2 + 9).save(path, transparency=255 // 2 + 9),
    "transparent-16-bit.png": lambda path: Image.fromarray(HOLE * np.uint16(40000)).save(path, transparency=40000),
    "transparent-color.png": lambda path: bands(GREY, 9, 9).save(path, transparency=(255, 9, 9)),
    "transparent-index.png": lambda path: palette(HOLE, (9, 200, 30), (255, 0, 0)).save(path, transparency=1),
    "transparent-palette.png": lambda path: palette(HOLE, (9, 9, 9), (7, 7, 7)).save(path, transparency=b"\xff\0"),
    "palette.png": palette(HOLE, (0, 0, 0), (128, 0, 0)).save,
    "palette-white-first.png": palette(~HOLE, (255, 255, 255), (0, 0, 0)).save,
    "red.png": bands(GREY, 0, 0).save,
    "blue.png": bands(0, 0, GREY).save,
    "labels.png": Image.fromarray(HOLE.astype(np.uint8)).save,
    "grey-40.png": Image.fromarray(HOLE.astype(np.uint8) * 102).save,
    "16-bit.png": Image.fromarray(HOLE * np.uint16(65535)).save,
    "16-bit-noisy.png": noisy_16_bit().save,
    "16-bit-labels.png": Image.fromarray(HOLE.astype(np.uint16)).save,
    "16-bit-of-8.png": Image.fromarray(GREY.astype(np.uint16)).save,
    "32-bit.tif": Image.fromarray(HOLE.astype(np.int32)).save,
    "float.tif": Image.fromarray(HOLE.astype(np.float32)).save,
    "float-255.tif": Image.fromarray(GREY.astype(np.float32)).save,
}
SOFT_EDGED: dict[str, Callable[[Path], None]] = {
    "grey.png": Image.fromarray(SOFT).save,
    "grey.jpg": Image.fromarray(SOFT).save,
    "hard.jpg": lambda path: Image.fromarray(GREY).save(path, quality=50),
    "grey.webp": Image.fromarray(SOFT).save,
    "few-levels.png": Image.fromarray(GREY).resize((2 * W, 2 * H)).rotate(9).rotate(-9).reduce(2).save,
    "alpha.png": rgba(PHOTO, 255 - SOFT).save,
    "16-bit.png": Image.fromarray(SOFT * np.uint16(257)).save,
    "float.tif": Image.fromarray(SOFT.astype(np.float32) / 255).save,
}
UNCLEAR: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut-out.png": (rgba(PHOTO, GREY).save, "transparent along most of its border"),
    "white-on-nothing.png": (bands(255, GREY).save, "transparent along most of its border"),
    "transparent.png": (bands(0, 0).save, "100% transparent all over"),
    "two-shapes.png": (bands(SHIFTED, SHIFTED, SHIFTED, 255 - GREY).save, "its colors and its transparency both"),
    "photo.png": (Image.fromarray(PHOTO).save, r"\d+ colors"),
    "photo.jpg": (Image.fromarray(PHOTO).save, r"\d+ colors"),
    "grey-photo.png": (Image.fromarray(PHOTO).convert("L").save, r"gray, neither black nor white, on \d+% of it"),
    "palette.png": (palette(LABELS, (0, 0, 0), (128, 0, 0), (0, 128, 0)).save, "3 colors"),
    "red-on-white.png": (bands(255, 255 - GREY, 255 - GREY).save, "2 colors"),
    "labels.png": (Image.fromarray(LABELS).save, "3 levels, as in a map of labels"),
    "labels-from-1.png": (Image.fromarray(np.uint8(1) + HOLE).save, "nothing but level 1 and 2 of 255"),
    "labels-and-ignored.png": (Image.fromarray(np.where(LABELS == 2, 255, LABELS)).save, "3 levels"),
    "trimap.png": (Image.fromarray(np.uint8([0, 255, 128])[LABELS]).save, "3 levels"),
    "grey-40.jpg": (Image.fromarray(HOLE.astype(np.uint8) * 102).save, "no brighter than|gray, neither"),
    "grey-all-over.png": (Image.fromarray(np.full((H, W), 102, np.uint8)).save, "nothing but level 102 of 255"),
    "nan.tif": (Image.fromarray(np.where(HOLE, np.nan, 0).astype(np.float32)).save, "levels from nan"),
    "negative.tif": (Image.fromarray(HOLE.astype(np.float32) - 1).save, "levels from -1 to 0"),
    "on-its-side.tif": (
        lambda path: tifffile.imwrite(path, GREY, extratags=[(274, "H", 1, 6, True)]),
        "a TIFF on its side",
    ),
}


@pytest.mark.parametrize("name", CLEAR)
def test_hole_is_the_one_that_was_drawn(name, tmp_path):
    CLEAR[name](tmp_path / name)
    mask = read_mask(tmp_path / name)
    assert mask.dtype == np.uint8
    assert (mask == HOLE).mean() > (0.998 if name.endswith("jpg") else 0.99999)


@pytest.mark.parametrize("name", SOFT_EDGED)
def test_soft_edge_is_cut_in_its_middle(name, tmp_path):
    SOFT_EDGED[name](tmp_path / name)
    assert (read_mask(tmp_path / name) == HOLE).mean() > 0.99


@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_mask_is_refused_by_name(name, tmp_path):
    save, problem = UNCLEAR[name]
    save(tmp_path / name)
    with pytest.raises(MaskError, match=f"{name}: .*({problem}).*; expected white in the hole and black elsewhere"):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("name", ["mask.png", "mask.jpg", "mask.webp"])
def test_mask_is_turned_as_exif_says(name, tmp_path):
    corner = np.zeros((H, W), np.uint8)
    corner[:80, :160] = 255
    exif = Image.Exif()
    for orientation, expected in ((6, np.rot90(corner, -1)), (8, np.rot90(corner)), (4, corner[::-1])):
        exif[0x0112] = orientation
        Image.fromarray(corner).save(tmp_path / name, exif=exif)
        mask = read_mask(tmp_path / name)
        assert mask.shape == expected.shape
        assert (mask * 255 == expected).mean() > 0.99


@pytest.mark.parametrize("name", ["mask.png", "mask.jpg", "mask.webp", "mask.tif"])
def test_damaged_mask_is_refused_by_name(name, tmp_path):
    path = tmp_path / name
    Image.fromarray(SOFT).save(path)
    for data in (path.read_bytes()[: path.stat().st_size // 2], b"no image", b""):
        path.write_bytes(data)
        with pytest.raises(MaskError, match=f"{name}: not a readable image"):
            read_mask(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_mask(path)


@pytest.mark.parametrize("progressive", [True, False])
def test_mask_with_a_part_missing_is_refused_by_name(progressive, tmp_path):
    """Pillow reads it without a word."""
    path = tmp_path / "mask.jpg"
    Image.fromarray(SOFT).save(path, progressive=progressive)
    data = path.read_bytes()
    last = len(data) // 3 if progressive else len(data) - 20
    path.write_bytes(data[:last] + b"\xff\xd9" if progressive else data[:last] + b"\xff\xd5" + data[last + 2 :])
    with Image.open(path) as image:
        assert image.convert("L").size == SOFT.shape[::-1]
    with pytest.raises(MaskError, match=r"mask\.jpg: not a readable image \(damaged: "):
        read_mask(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 16_000])
def test_huge_mask_is_refused_by_name(side, tmp_path):
    Image.new("1", (side, side)).save(tmp_path / "huge.png")
    with pytest.raises(MaskError, match=r"huge\.png: more than 89 million pixels"):
        read_mask(tmp_path / "huge.png")


@pytest.mark.parametrize("name", ["alpha-on-white.png", "alpha-on-photo.png", "16-bit-noisy.png", "labels.png"])
def test_recipes_evaluation_and_demo_read_the_same_hole(name, tmp_path):
    for folder in ("masks", "photos"):
        (tmp_path / folder).mkdir()
    CLEAR[name](tmp_path / "masks" / "a.png")
    (shape,) = MaskFolder(tmp_path / "masks")
    rows, columns = np.nonzero(HOLE)
    assert np.array_equal(shape, HOLE[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    Image.fromarray(PHOTO).save(tmp_path / "photos" / "a.jpg")
    photo = with_hole(tmp_path / "photos" / "a.jpg", tmp_path / "masks" / "a.png")
    assert np.array_equal(np.asarray(photo)[..., 3], 255 - GREY)
    Image.open(tmp_path / "masks" / "a.png").crop((50, 0, 250, 200)).save(tmp_path / "masks" / "a.png")
    Image.fromarray(PHOTO[:, 50:250]).save(tmp_path / "photos" / "a.jpg")
    (pair,) = open_pairs(PairsConfig(photos=f"{tmp_path}/photos", mask_folder=f"{tmp_path}/masks", size=H))
    assert np.array_equal(pair.mask, GREY[:, 50:250])


def test_mask_without_a_hole_is_an_error_of_evaluation_and_demo(tmp_path):
    for folder in ("masks", "photos"):
        (tmp_path / folder).mkdir()
    Image.new("L", (H, H)).save(tmp_path / "masks" / "a.png")
    Image.fromarray(PHOTO[:, :H]).save(tmp_path / "photos" / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.png is black all over"):
        with_hole(tmp_path / "photos" / "a.jpg", tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match="a: its mask is black all over"):
        open_pairs(PairsConfig(photos=f"{tmp_path}/photos", mask_folder=f"{tmp_path}/masks", size=H))[0]
