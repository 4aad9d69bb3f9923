"""A benchmark of results that are finished, as a command."""

import sys

import numpy as np
import yaml
from PIL import Image
from sklearn.utils import Bunch

from training import evaluate

SIZE, COUNT = 64, 6


def command(bench: Bunch, monkeypatch, *arguments: str) -> None:
    bench.path.write_text(yaml.safe_dump(bench.config))
    monkeypatch.setattr(sys, "argv", ["evaluate", str(bench.path), *arguments])
    evaluate.main()


def make_misato(bench: Bunch) -> None:
    """Nine pairs of three domains, the brightness of the i-th 20 i."""
    folder = bench.folder / "misato" / str(SIZE)
    for kind in ("image", "mask"):
        (folder / kind).mkdir(parents=True)
    for i, number in enumerate(first + i for first in (0, 500, 1000) for i in range(3)):
        for pictures in (folder / "image", bench.folder / "off by 8", bench.folder / "off by 2"):
            Image.new("RGB", (SIZE, SIZE), (20 * i, 20 * i, 20 * i)).save(pictures / f"{number:04d}.png")
        Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(folder / "mask" / f"{number:04d}.png")
    bench.config["pairs"] = {"misato": str(folder.parent), "size": SIZE}
