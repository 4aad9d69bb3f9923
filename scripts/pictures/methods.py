"""Draws README's image of the benchmark's methods, docs/images/methods.jpg: `bash scripts/methods_picture.sh`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from scripts.comfy_server import ROOT
from training.masks.mixture import IRREGULAR

PHOTOS = {"coffee": (data.coffee, 2), "chelsea": (data.chelsea, 8), "rocket": (data.rocket, 11)}  # free for any use
SIZE = 256


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        photos, masks, out = (Path(folder, name) for name in ("photos", "masks", "out"))
        photos.mkdir()
        masks.mkdir()
        for name, (photo, seed) in PHOTOS.items():
            Image.fromarray(photo()).save(photos / f"{name}.png")
            mask = IRREGULAR["thick-256"](np.random.default_rng(seed), SIZE)
            Image.fromarray(mask * 255).save(masks / f"{name}.png")
        settings = [f"pairs.photos={photos}", "pairs.masks=null", f"pairs.mask_folder={masks}", "seeds=1", f"out={out}"]
        command = [sys.executable, "-m", "scripts.evaluate", "benchmark"]
        for setting in settings:
            command += ["--set", setting]
        subprocess.run(command, cwd=ROOT, check=True)
        shutil.copyfile(out / "examples.jpg", ROOT / "docs" / "images" / "methods.jpg")


if __name__ == "__main__":
    main()
