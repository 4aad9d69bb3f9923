"""What Clean Mask takes on a photo of 12 megapixels, beside labelling, filling and measuring the whole photo.

COMFYUI_PATH=... python -m benchmarks.clean_mask --out benchmarks/results/clean-mask.json
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from .machine import describe

HEIGHT, WIDTH = 3000, 4000
SETTINGS = (0.0001, True, 0.03)  # min_area, fill_holes, grow
SHARES = (0.01, 0.1, 0.5)  # of the photo's area


def node() -> Callable[..., np.ndarray]:
    """`clean` of Clean Mask, as ComfyUI imports it."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before comfy.model_management is imported
    path = Path(__file__).parents[1] / "__init__.py"
    spec = importlib.util.spec_from_file_location("asuka_extension", path)
    sys.modules["asuka_extension"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return importlib.import_module("asuka_extension.nodes.clean_mask").clean


def whole_photo(mask: np.ndarray, min_area: float, fill_holes: bool, grow: float) -> np.ndarray:
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    mask = mask & (np.bincount(regions.ravel()) >= min_area * mask.size)[regions]
    if fill_holes:
        mask = ndimage.binary_fill_holes(mask)
    return ndimage.distance_transform_edt(~mask) <= grow * max(mask.shape)


def ellipse(share: float) -> np.ndarray:
    """An ellipse of that share of the photo, a thousandth of it missing here and there."""
    y, x = np.ogrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return (x**2 + y**2 < share * 4 / np.pi) & (np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.001)


def seconds(function: Callable[..., np.ndarray], mask: np.ndarray, repeats: int) -> float:
    """CPU seconds of one call, the median."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function(mask, *SETTINGS)
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clean_mask", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()
    clean, rows = node(), []
    for share in SHARES:
        mask = ellipse(share)
        assert np.array_equal(clean(mask, *SETTINGS), whole_photo(mask, *SETTINGS))
        ours, whole = (seconds(function, mask, arguments.repeats) for function in (clean, whole_photo))
        rows.append({"hole": share, "ours, s": ours, "whole photo, s": whole, "ratio": whole / ours})
    arguments.out.write_text(json.dumps({"rows": rows, **describe()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
