"""Whether close_seam, and the ring of known pixels that the decoder does not see with it, help sharp fills: the photo itself, with other colors in the hole.

python -m benchmarks.seams --photos PHOTOS --out benchmarks/results/seams.json
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.seams import close_seam, grow
from training import metrics
from training.evaluation.pixels import grad
from training.sd import SCALING_FACTOR
from training.weights.frozen import load_frozen

from .machine import describe

DEMO = Path(__file__).parents[1] / "demo"
SIZE, RING = 256, 6  # pixels; nodes/decode.py's HOLE_DILATION_PX
SHIFTS = {"true colors": 0.0, "colors off by 0.05": 0.05, "colors off by 0.15": 0.15}
GRAINS = {"photo": 0.0, "photo with grain": 0.08}  # standard deviation of the grain, in the hole and around it
WAYS = (  # decoder, hide the ring
    ("harmonizing decoder", False),
    ("harmonizing decoder", True),
    ("stock VAE", False),
    ("no network", False),
)
METRICS = ("hole PSNR", "PSNR of the hole's outer 6 pixels", "color offset", "grad")


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
    """An ellipse of 12 % to 40 % of the image's side, (1, 1, SIZE, SIZE)."""
    (height, width), (y, x) = rng.uniform(0.06, 0.2, 2) * SIZE, rng.uniform(0.3, 0.7, 2) * SIZE
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inside = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1
    return torch.from_numpy(inside)[None, None].float()


@torch.inference_mode()
def measure(paths: list[Path]) -> dict[str, dict]:
    """Kind of photo and color shift -> way to decode -> METRICS, for all photos and for the third with the strongest texture at the hole."""
    rows, textures = defaultdict(list), defaultdict(list)
    for texture, case in measurements(paths):
        for name, way in case.items():
            rows[name].append(way)
            textures[name].append(texture)
    results: dict[str, dict] = {}
    for name, ways in rows.items():
        strong = np.argsort(textures[name])[-len(ways) // 3 :]
        table = {way: np.array([case[way] for case in ways]) for way in ways[0]}
        results[name] = {
            "all": summarize(table),
            "strongest texture": summarize({k: v[strong] for k, v in table.items()}),
        }
    return results


def measurements(paths: list[Path]) -> Iterator[tuple[float, dict[str, dict[str, list[float]]]]]:
    """Yield for every photo and grain the texture at the hole's edge, and for every shift the metrics of every way."""
    base = load_frozen(DEMO / "asuka-miniature-base.safetensors")
    decoder = checkpoints.load_part(DEMO / "asuka-miniature.safetensors", "decoder").build(dtype=torch.float32)
    rng = np.random.default_rng(0)
    for path in paths:
        photo, hole = read(path), random_hole(rng)
        direction = torch.from_numpy(rng.choice([-1.0, 1.0], (1, 3, 1, 1))).float()
        noise = torch.from_numpy(rng.standard_normal(photo.shape)).float()
        for grain, deviation in GRAINS.items():
            image = (photo + deviation * noise).clamp(0, 1)
            found = {}
            for shift, size in SHIFTS.items():
                sharp = (image + size * direction * hole).clamp(0, 1)
                latent = base.encode(sharp) / SCALING_FACTOR
                ways = {}
                for name, hide in WAYS:
                    if name == "harmonizing decoder":
                        fill = decoder(latent, image, grow(hole, RING) if hide else hole)
                    else:
                        fill = base.decode(latent * SCALING_FACTOR) if name == "stock VAE" else sharp
                    for close in (False, True):
                        way = name + ", ring hidden" * hide + ", seam closed" * close
                        ways[way] = judge(close_seam(fill, image, hole) if close else fill, image, hole)
                found[f"{grain}, {shift}"] = ways
            yield texture_at(image, hole), found


def judge(fill: Tensor, image: Tensor, hole: Tensor) -> list[float]:
    """Return METRICS of a fill, with the known pixels pasted as the node does."""
    fill = torch.where(hole > 0, fill.clamp(0, 1), image)
    rim = hole * grow(1 - hole, RING)
    psnr = [metrics.hole_psnr(fill, image, where).item() for where in (hole, rim)]
    pixels = [(x[0].movedim(0, -1).numpy() * 255).round().astype(np.uint8) for x in (fill, image)]
    hole_pixels = hole[0, 0].numpy().astype(np.uint8) * 255
    return [*psnr, metrics.color_offset(fill, image, hole).item(), grad(*pixels, hole_pixels)]


def texture_at(image: Tensor, hole: Tensor) -> float:
    """Return the mean contrast of details finer than 3 pixels in the ring of known pixels around the hole."""
    detail = (image - F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)).abs().mean(1, keepdim=True)
    return metrics.weighted_mean(detail, grow(hole, RING) - hole).item()


def summarize(table: dict[str, np.ndarray]) -> dict[str, dict[str, object]]:
    """Return means, and with the seam closed what hiding the ring and what closing the seam change, with 95 % intervals."""
    summary: dict[str, dict[str, object]] = {
        way: dict(zip(METRICS, rows.mean(axis=0).tolist(), strict=True)) for way, rows in table.items()
    }
    pairs = {
        "hiding the ring": ("harmonizing decoder, ring hidden, seam closed", "harmonizing decoder, seam closed"),
        **{f"closing the seam, {name}": (f"{name}, seam closed", name) for name in dict(WAYS)},
    }
    for change, (after, before) in pairs.items():
        columns = zip(METRICS, table[after].T, table[before].T, strict=True)
        summary[change] = {name: metrics.paired_bootstrap(a, b) for name, a, b in columns}
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument(
        "--count", type=int, default=60, help="how many of them, at equal distances by name, default: %(default)s"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    paths = sorted(arguments.photos.glob("*.jpg"))
    paths = paths[:: max(1, len(paths) // arguments.count)][: arguments.count]
    result = {"photos": len(paths), "ways": measure(paths), **describe()}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
