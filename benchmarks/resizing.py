"""What a photo loses on the way to the working size and back: Inpaint Prepare's resampling beside OpenCV's, without any model.

python -m benchmarks.resizing --out benchmarks/results/resizing.json
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from asuka_modules.masking import resize_known
from training import metrics

from .machine import describe

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIZES, WORKING = (266, 281, 300, 530, 563, 640, 1500), (256, 512)


def photos(size: int) -> Tensor:
    """The middle of scikit-image's photos as squares (B, 3, size, size), as a crop of that size would be."""
    squares = []
    for name in PHOTOS:
        photo = getattr(skimage.data, name)()
        side = min(photo.shape[:2])
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        square = np.ascontiguousarray(photo[top : top + side, left : left + side])
        interpolation = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        squares.append(cv2.resize(square, (size, size), interpolation=interpolation))
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255


def opencv(image: Tensor, size: int) -> Tensor:
    resized = [cv2.resize(x.permute(1, 2, 0).numpy(), (size, size), interpolation=cv2.INTER_AREA) for x in image]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


def measure(size: int, working: int) -> dict[str, float]:
    """PSNR in dB, the mean over the photos, of each way to the working size and back as Inpaint Stitch does it."""
    image = photos(size)
    known = torch.zeros_like(image[:, :1])
    small = {
        "ours": resize_known(image, known, (working, working)),
        "cv2.INTER_AREA": opencv(image, working),
        "whole pixels, as until beb75f1": F.interpolate(image, (working, working), mode="area"),
    }
    result = {"size": size, "working size": working}
    for name, picture in small.items():
        back = F.interpolate(picture, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        result[name] = metrics.hole_psnr(back, image, torch.ones_like(known)).mean().item()
    result["largest difference from cv2.INTER_AREA"] = (small["ours"] - small["cv2.INTER_AREA"]).abs().max().item()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resizing", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    rows = [measure(size, working) for working in WORKING for size in SIZES if size > working]
    arguments.out.write_text(json.dumps({"rows": rows, "photos": PHOTOS, **describe()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
