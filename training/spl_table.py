"""Does SPL beat a plain U-Net of equal size? Hole PSNR on held-out photos.

python -m training.spl_table training/configs/miniature/spl_table.yaml
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("spl_table", __doc__, dry_run=False)

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from asuka_modules import checkpoints

from . import metrics, plain_unet
from .data import DataConfig, Photos, to_float
from .engine.config import require_same
from .latents import RandomMask
from .masks import MaskConfig


@dataclass(frozen=True)
class TableRecipe:
    """Compare SPL and the U-Net of equal size on the same holes."""

    spl: str  # weights of training.spl
    unet: str  # weights of training.spl with unet_width
    photos: str  # folder of held-out photos
    masks: MaskConfig
    out: str
    size: int = 256
    count: int = 300
    seed: int = 20210606
    held_out: float = 0.0  # above 0: of `photos` only those that the recipes' data.held_out leaves out

    def __post_init__(self):
        require_same("size", self.size, "masks.size", self.masks.size)


@torch.inference_mode()
def run(recipe: TableRecipe) -> dict:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {
        "SPL": checkpoints.load_part(recipe.spl, "spl").build(dtype=torch.float32),
        "plain U-Net": plain_unet.load(recipe.unet),
    }
    data = DataConfig(
        (recipe.photos,), recipe.size, held_out=recipe.held_out, split="held_out" if recipe.held_out else "train"
    )
    photos = Photos(data, recipe.seed, RandomMask(recipe.masks))
    values: dict[str, list[float]] = {name: [] for name in networks}
    for i in tqdm(range(recipe.count), desc="holes", dynamic_ncols=True):
        sample = to_float(photos[i])
        image, mask = (sample[key][None].to(device) for key in ("image", "mask"))
        for name, network in networks.items():
            filled, _ = network.to(device)(image, mask)
            values[name].append(float(metrics.hole_psnr(filled, image, mask)))
    ours, baseline = (np.array(v) for v in values.values())
    mean, low, high = metrics.paired_bootstrap(ours, baseline)
    summary = {
        "holes": recipe.count,
        "hole_psnr": {name: float(np.mean(v)) for name, v in values.items()},
        "parameters": {name: sum(p.numel() for p in n.parameters()) for name, n in networks.items()},
        "difference": {"mean": mean, "low": low, "high": high},
    }
    out = Path(recipe.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(summary, indent=2) + "\n")
    (out / "results.md").write_text(table(summary, recipe))
    return summary


def table(summary: dict, recipe: TableRecipe) -> str:
    """The results as Markdown."""
    rows = [
        f"| {name} | {summary['parameters'][name] / 1e6:.2f} M | {psnr:.2f} |"
        for name, psnr in summary["hole_psnr"].items()
    ]
    difference = summary["difference"]
    return "\n".join(
        [
            f"{recipe.count} holes at {recipe.size} px.\n",
            "| | parameters | hole PSNR (dB) |",
            "|---|---|---|",
            *rows,
            f"\nSPL - U-Net: {difference['mean']:+.2f} dB (95 %: {difference['low']:+.2f} to {difference['high']:+.2f})\n",
        ]
    )


if __name__ == "__main__":
    main(arguments, TableRecipe, run)
