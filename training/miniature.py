"""Train the whole miniature stack: every recipe in order, on a folder of photos.

    python -m training.miniature --photos PHOTOS [PHOTOS ...] --masks MASKS

Finished stages are kept and an interrupted one continues, so the command can be repeated until it is done.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch

from . import align, config, decoder, latent_augment, mae, spl
from .base import __main__ as base
from .base import words
from .command_line import errors_told
from .export import export

CONFIGS = Path(__file__).parent / "configs" / "miniature"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.miniature", description="Train the whole miniature stack."
    )
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos, of 256 pixels or more")
    parser.add_argument("--masks", required=True, help="folder of object masks, white on black")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the weights go (default: %(default)s)")
    arguments = parser.parse_args()

    photos, masks = json.dumps(arguments.photos), json.dumps(arguments.masks)  # which is YAML, too
    crops = {f"autoencoder.{i}.data.folders": photos for i in (0, 1)}
    latents = {"latents.data.folders": photos, "latents.masks.objects": masks}
    views = {"data.folders": photos, "masks.objects": masks}
    stages = [
        ("base", base.BaseRecipe, base.train, crops | latents),
        ("mae", mae.MAERecipe, mae.train, views),
        ("words", words.WordsRecipe, words.train, views),
        ("align", align.AlignRecipe, align.train, latents),
        ("latent_augment", latent_augment.LatentAugmentRecipe, latent_augment.run, {"folders": photos}),
        ("decoder", decoder.DecoderRecipe, decoder.train, views),
        ("spl", spl.SPLRecipe, spl.train, views),
    ]
    recipes = {}
    for name, recipe, train, changes in stages:
        overrides = [f"{key}={value}" for key, value in changes.items()]
        recipes[name] = config.read(recipe, CONFIGS / f"{name}.yaml", overrides)
        train(recipes[name])

    parts = {
        "mae": Path(recipes["mae"].run.out, "mae.safetensors"),
        "alignment": Path(recipes["align"].run.out, "alignment.safetensors"),
        "decoder": Path(recipes["decoder"].run.out, "decoder.safetensors"),
    }
    export(parts, arguments.out / "asuka-miniature.safetensors", torch.float16, {"variant": "miniature"})
    parts = {"spl": Path(recipes["spl"].run.out, "spl.safetensors")}
    export(parts, arguments.out / "asuka-miniature-spl.safetensors", torch.float16, {"variant": "miniature"})
    shutil.copyfile(recipes["base"].out, arguments.out / "asuka-miniature-base.safetensors")


if __name__ == "__main__":
    with errors_told():
        main()
