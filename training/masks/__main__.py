"""Look at the training masks: python -m training.masks --objects MASKS --preview masks.png"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..engine.config import ConfigError
from . import IRREGULAR, MaskConfig, Mixture
from .objects import MaskFolder
from .regular import complement_rectangle, rectangle

COLUMNS, CELL, GAP, CAPTION = 12, 128, 6, 190


def contact_sheet(rows: dict[str, list[np.ndarray]]) -> np.ndarray:
    """One row of masks for each name, with the mean share of the hole."""
    height = len(rows) * (CELL + GAP)
    sheet = np.full((height, CAPTION + COLUMNS * (CELL + GAP)), 255, np.uint8)
    for i, (name, masks) in enumerate(rows.items()):
        y = i * (CELL + GAP)
        share = np.mean([mask.mean() for mask in masks])
        for line, text in enumerate((name, f"hole {share:.0%}")):
            cv2.putText(sheet, text, (6, y + 50 + 26 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
        for j, mask in enumerate(masks[:COLUMNS]):
            x = CAPTION + j * (CELL + GAP)
            sheet[y : y + CELL, x : x + CELL] = 90 + 165 * cv2.resize(mask, (CELL, CELL), interpolation=cv2.INTER_AREA)
    return sheet


def report(shapes: Sequence[np.ndarray]) -> str:
    """How many masks there are; those that cannot be used are named as they are read."""
    if not isinstance(shapes, MaskFolder):
        return f"{len(shapes)} instances"
    for i in tqdm(range(len(shapes.masks)), unit="mask"):
        shapes.masks.read(i)
    return f"{len(shapes.masks)} masks, {len(shapes.masks.unusable)} of them not usable"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.masks", description="Draw a contact sheet of the training masks."
    )
    parser.add_argument("--preview", type=Path, required=True, help="image to write")
    parser.add_argument("--objects", help="folder of object masks or COCO annotations, to show the mixture too")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, count = np.random.default_rng(arguments.seed), 100
    generators = {**IRREGULAR, "rectangle": rectangle, "complement": complement_rectangle}
    rows = {
        name: [generator(rng, 512 if name.endswith("512") else 256) for _ in range(count)]
        for name, generator in generators.items()
    }
    if arguments.objects:
        try:
            mixture = Mixture(MaskConfig(objects=arguments.objects))
            sys.stdout.write(report(mixture.objects.shapes) + "\n")
        except (ConfigError, OSError) as error:
            parser.error(str(error))
        rows |= {
            "objects": [mixture.objects(rng, 256) for _ in range(count)],
            "mixture": [mixture(rng) for _ in range(count)],
        }
    try:
        Image.fromarray(contact_sheet(rows)).save(arguments.preview)
    except (OSError, ValueError) as error:  # no such folder, no such kind of image
        parser.error(f"could not write {arguments.preview}: {error}")


if __name__ == "__main__":
    main()
