"""Whether close_seam, and the ring of known pixels that the decoder does not see with it, help sharp fills: the photo itself, with other colors in the hole.

python -m benchmarks.seams --photos PHOTOS --out benchmarks/results/seams.json
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.seams import close_seam, grow
from training import metrics
from training.frozen import load_frozen
from training.sd import SCALING_FACTOR

from .machine import describe

DEMO = Path(__file__).parents[1] / "demo"
SIZE, RING = 256, 6  # pixels; nodes/decode.py's HOLE_DILATION_PX
SHIFTS = {"true colors": 0.0, "colors off by 0.05": 0.05, "colors off by 0.15": 0.15}
WAYS = {  # close the seam, hide the ring
    "decoder alone": (False, False),
    "ring hidden": (False, True),
    "seam closed": (True, False),
    "seam closed, ring hidden (the default)": (True, True),
}


def read(path: Path) -> Tensor:
    """The middle of a photo, (1, 3, SIZE, SIZE) in [0, 1]."""
    photo = cv2.imread(str(path))[..., ::-1]
    side = min(photo.shape[:2])
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    square = np.ascontiguousarray(photo[top : top + side, left : left + side])
    interpolation = cv2.INTER_AREA if side > SIZE else cv2.INTER_CUBIC
    square = cv2.resize(square, (SIZE, SIZE), interpolation=interpolation)
    return torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255


def random_hole(rng: np.random.Generator) -> Tensor:
    """An ellipse of 12 % to 40 % of the picture's side, (1, 1, SIZE, SIZE)."""
    (height, width), (y, x) = rng.uniform(0.06, 0.2, 2) * SIZE, rng.uniform(0.3, 0.7, 2) * SIZE
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inside = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1
    return torch.from_numpy(inside)[None, None].float()


@torch.inference_mode()
def measure(paths: list[Path]) -> dict[str, dict[str, dict[str, float]]]:
    """Shift -> way -> mean over the photos of PSNR of the hole and of its outer 6 pixels in dB, and color offset in gray levels."""
    base = load_frozen(DEMO / "asuka-miniature-base.safetensors")
    decoder = checkpoints.load_part(DEMO / "asuka-miniature.safetensors", "decoder").build(dtype=torch.float32)
    rng = np.random.default_rng(0)
    values: dict[str, dict[str, list[list[float]]]] = {shift: {way: [] for way in WAYS} for shift in SHIFTS}
    for path in paths:
        image, hole = read(path), random_hole(rng)
        direction = torch.from_numpy(rng.choice([-1.0, 1.0], (1, 3, 1, 1))).float()
        rim = hole * grow(1 - hole, RING)
        for shift, size in SHIFTS.items():
            latent = base.encode((image + size * direction * hole).clamp(0, 1)) / SCALING_FACTOR
            for way, (close, hide) in WAYS.items():
                fill = decoder(latent, image, grow(hole, RING) if hide else hole)
                fill = close_seam(fill, image, hole) if close else fill
                fill = torch.where(hole > 0, fill.clamp(0, 1), image)  # as the node returns known pixels
                found = [metrics.hole_psnr(fill, image, where).item() for where in (hole, rim)]
                values[shift][way].append([*found, metrics.colour_offset(fill, image, hole).item()])
    names = "hole PSNR", "PSNR of the hole's outer 6 pixels", "color offset"
    return {
        shift: {way: dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)) for way, rows in ways.items()}
        for shift, ways in values.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--count", type=int, default=40, help="how many of them, default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    paths = sorted(arguments.photos.glob("*.jpg"))[: arguments.count]
    result = {"photos": len(paths), "ways": measure(paths), **describe()}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
