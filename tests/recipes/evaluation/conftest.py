"""A benchmark of finished results."""

import cv2
import numpy as np
import pytest
from finished import COUNT, SIZE
from PIL import Image
from sklearn.utils import Bunch


@pytest.fixture
def bench(tmp_path) -> Bunch:
    """A config file of two methods whose results are finished: "off by 8" and "off by 2"."""
    rng = np.random.default_rng(0)
    for folder in ("photos", "masks", "off by 8", "off by 2"):
        (tmp_path / folder).mkdir()
    for i in range(COUNT):
        photo = cv2.resize(rng.integers(40, 200, (8, 8, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[10 + i : 40, 20:50] = 255
        Image.fromarray(photo).save(tmp_path / "photos" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        for offset in (8, 2):
            Image.fromarray(photo + np.uint8(offset)).save(tmp_path / f"off by {offset}" / f"{i}.png")
    config = {
        "pairs": {"photos": str(tmp_path / "photos"), "mask_folder": str(tmp_path / "masks"), "size": SIZE},
        "methods": [{"name": f"off by {n}", "folder": str(tmp_path / f"off by {n}")} for n in (8, 2)],
        "out": str(tmp_path / "out"),
        "features": "none",
        "lpips": False,
        "clip": False,
        "pictures": 2,
    }
    return Bunch(folder=tmp_path, config=config, path=tmp_path / "config.yaml", out=tmp_path / "out")
