"""The demo's photo is the one that its user sees."""

import numpy as np
from PIL import Image

from scripts.demo import with_hole


def test_photo_is_turned_as_its_camera_was_held(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), "uint8")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    Image.new("L", (20, 30), 255).save(tmp_path / "mask.png")
    photo = with_hole(tmp_path / "photo.png", tmp_path / "mask.png")
    assert photo.size == (20, 30)
    assert np.array_equal(np.asarray(photo)[..., :3], np.rot90(pixels, -1))
