"""Damaged JPEGs that decoders take for whole ones, and whole ones of every kind."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from training.data import decode_photo, problem
from training.engine.jpeg import BLANK, CUT, FOREIGN, MISSING

PHOTO = Image.fromarray(skimage.data.coffee())


def encode(photo: Image.Image = PHOTO, **options) -> bytes:
    file = io.BytesIO()
    photo.save(file, "jpeg", **options)
    return file.getvalue()


KINDS = {
    "baseline": encode(),
    "progressive": encode(progressive=True),
    "optimized": encode(optimize=True, subsampling=0),
    "restarts": encode(restart_marker_blocks=7),
    "progressive restarts": encode(progressive=True, restart_marker_rows=1),
    "grey": encode(PHOTO.convert("L")),
    "grey progressive": encode(PHOTO.convert("L"), progressive=True),
    "CMYK": encode(PHOTO.convert("CMYK")),
    "EXIF": encode(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "bytes after its end": encode() + b"\xff\xc4 trailer",
}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_ones_are_read(kind):
    assert problem(KINDS[kind]) is None
    shown = np.asarray(PHOTO.convert("L" if "grey" in kind else "RGB").convert("RGB"), float)
    assert np.abs(decode_photo(KINDS[kind]) - shown).mean() < 8


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_progressive_one_that_was_cut_and_closed_is_named(share):
    data = KINDS["progressive"]
    assert problem(data[: int(share * len(data))] + b"\xff\xd9") == MISSING


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_one_that_was_cut_is_named(kind, share):
    assert problem(KINDS[kind][: int(share * len(KINDS[kind]))])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_one_whose_end_is_zeros_is_named(share):
    """As of a download that was broken off, into a file that had its full size from the start."""
    data = encode(quality=95)
    start = data[: int(share * len(data))]
    assert problem(start + bytes(len(data) - len(start))) == CUT


@pytest.mark.parametrize("kind", ["baseline", "optimized", "CMYK"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_zeros_in_the_middle_are_named(kind, share):
    data = KINDS[kind]
    start = int(share * len(data))
    assert problem(data[:start] + bytes(512) + data[start + 512 :]) == BLANK


@pytest.mark.parametrize("kind", ["baseline", "progressive", "optimized", "restarts", "progressive restarts"])
@pytest.mark.parametrize("color", ["black", "white", "gray", "#123456"])
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (1100, 700)])
def test_flat_image_is_whole(kind, color, size):
    """Its code may be zeros from end to end."""
    options = {"progressive": "progressive" in kind, "optimize": kind == "optimized"}
    if "restarts" in kind:
        options["restart_marker_rows"] = 1
    assert problem(encode(Image.new("RGB", size, color), **options)) is None


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_in_the_middle_are_named(kind, seed):
    data, noise = KINDS[kind], np.random.default_rng(seed).bytes(4000)
    middle = len(data) // 2
    assert problem(data[:middle] + noise + data[middle + len(noise) :]) in (FOREIGN, CUT)


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
@pytest.mark.parametrize("foreign", [b"\xff\x02", b"\xff\xe3\0\x10", b"\xff\xd5", b"\xff\xf0 text"])
def test_foreign_bytes_in_the_middle_are_named(kind, foreign):
    data = KINDS[kind]
    middle = len(data) // 2
    assert problem(data[:middle] + foreign + data[middle + len(foreign) :]) == FOREIGN


def test_lost_restart_is_named():
    """A block of a disk that is missing: the rest of the photo would move up."""
    data = KINDS["restarts"]
    assert problem(data[: len(data) // 2] + data[len(data) // 2 + 512 :]) == FOREIGN
