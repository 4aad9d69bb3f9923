"""Train the whole miniature stack: every recipe in order, on folders of photos.

    python -m training.miniature --photos PHOTOS [PHOTOS ...] --masks MASKS

Finished stages are kept and an interrupted one continues, so the command can be repeated until it is done. `--only` trains
some stages alone: `base`, `mae` and `spl` wait for no other, so they can be started side by side.
"""

from .engine import parsers

if __name__ == "__main__":
    parsers.miniature().parse_args()  # answers --help and mistakes before torch is loaded

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asuka_modules.checkpoints import CheckpointError

from . import align, decoder, latent_augment, latent_sample, mae, spl
from .base import __main__ as base
from .base import words
from .engine import config
from .engine.command_line import errors_told
from .engine.loop import RunConfig
from .weights.export import export

CONFIGS = Path(__file__).parent / "configs" / "miniature"


@dataclass(frozen=True)
class Stage:
    """One recipe, and which of its settings name photos and masks."""

    recipe: type
    train: Callable
    photos: tuple[str, ...] = ("data.folders",)
    masks: tuple[str, ...] = ("masks.objects",)
    needs: tuple[str, ...] = ()  # stages whose weights it starts from

    def overrides(self, photos: list[str], masks: str) -> list[str]:
        values = dict.fromkeys(self.photos, photos) | dict.fromkeys(self.masks, masks)
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]  # JSON is YAML, too


LATENTS = ("latents.data.folders",), ("latents.masks.objects",)
CROPS = tuple(f"autoencoder.{i}.data.folders" for i in (0, 1))
STAGES = {
    "base": Stage(base.BaseRecipe, base.train, CROPS + LATENTS[0], LATENTS[1]),
    "mae": Stage(mae.MAERecipe, mae.train, ("data.folders", "validation")),
    "words": Stage(words.WordsRecipe, words.train, needs=("base", "mae")),
    "align": Stage(align.AlignRecipe, align.train, *LATENTS, needs=("base", "mae", "words")),
    "latent_augment": Stage(latent_augment.LatentAugmentRecipe, latent_augment.run, ("folders",), (), ("base",)),
    "latent_sample": Stage(
        latent_sample.LatentSampleRecipe,
        latent_sample.run,
        ("crops.data.folders",),
        ("crops.masks.objects",),
        ("base", "mae", "align"),
    ),
    "decoder": Stage(decoder.DecoderRecipe, decoder.train, needs=("base", "latent_augment", "latent_sample")),
    "spl": Stage(spl.SPLRecipe, spl.train),
}


def runs(recipe: Any) -> list[RunConfig]:
    """The optimization runs of a recipe, in order; none where it prepares data."""
    if isinstance(recipe, base.BaseRecipe):
        return [stage.run for stage in recipe.autoencoder] + [stage.run for stage in recipe.unet]
    return [recipe.run] if hasattr(recipe, "run") else []


def tell(run: RunConfig) -> str:
    """How far a run is; from its log, how long the rest will take."""
    out = Path(run.out)
    step = max((int(path.stem.removeprefix("step-")) for path in out.glob("step-*.pt")), default=0)
    if step >= run.steps:
        return f"{out}: finished"
    text = f"{out}: {run.steps} steps of {run.batch_size} images"
    if not step:
        return text
    with (out / "log.csv").open(newline="") as file:
        rate = float(list(csv.DictReader(file))[-1]["images_per_second"])
    hours = (run.steps - step) * run.batch_size / rate / 3600
    return f"{text}, {step} done, {hours:.1f} hours left at {rate:.3g} images/s"


def main() -> None:
    parser = parsers.miniature()
    arguments = parser.parse_args()
    recipes = {
        name: config.read(stage.recipe, CONFIGS / f"{name}.yaml", stage.overrides(arguments.photos, arguments.masks))
        for name, stage in STAGES.items()
    }
    for name in STAGES:
        if name in arguments.only:
            lines = [tell(run) for run in runs(recipes[name])]
            after = f"after {', '.join(STAGES[name].needs)}" if STAGES[name].needs else "waits for no other stage"
            sys.stdout.write("\n  ".join([f"{name}, {after}", *lines]) + "\n")
    if arguments.plan:
        return
    try:
        for name, stage in STAGES.items():
            if name in arguments.only:
                stage.train(recipes[name])
    except (config.ConfigError, CheckpointError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {name}: {error}")
    if arguments.only == list(STAGES):
        write(recipes, arguments.out)


def write(recipes: dict[str, Any], out: Path) -> None:
    """The weights that the stages made, as they are committed."""
    parts = {
        "mae": Path(recipes["mae"].run.out, "mae.safetensors"),
        "alignment": Path(recipes["align"].run.out, "alignment.safetensors"),
        "decoder": Path(recipes["decoder"].run.out, "decoder.safetensors"),
    }
    export(parts, out / "asuka-miniature.safetensors", torch.float16, {"variant": "miniature"})
    parts = {"spl": Path(recipes["spl"].run.out, "spl.safetensors")}
    export(parts, out / "asuka-miniature-spl.safetensors", torch.float16, {"variant": "miniature"})
    shutil.copyfile(recipes["base"].out, out / "asuka-miniature-base.safetensors")


if __name__ == "__main__":
    with errors_told():
        main()
