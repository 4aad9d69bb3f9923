"""Recipe: train the miniature's base model, a stand-in for SD-1.5 inpainting in SD-1.5's own formats.

python -m training.base training/configs/miniature/base.yaml
"""

from ..engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("base", __doc__, dry_run=False)

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from diffusers import AutoencoderTiny

from ..engine.config import ConfigError
from ..engine.precision import run_device
from ..latents import LatentsConfig, build_latents, crops
from .autoencoder import AutoencoderStage, encode, train_autoencoder
from .checkpoint import save_base
from .unet import ConditionedUNet, UNetStage, train_unet


@dataclass(frozen=True)
class BaseRecipe:
    """Train the miniature's autoencoder, then its U-Net, each stage from the last."""

    out: str  # the checkpoint, in the layout of an SD-1.5 single file
    autoencoder: tuple[AutoencoderStage, ...]
    latents: LatentsConfig
    unet: tuple[UNetStage, ...]

    def __post_init__(self):
        for name in ("autoencoder", "unet"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty, expected at least one stage")


def train(recipe: BaseRecipe) -> tuple[AutoencoderTiny, ConditionedUNet]:
    autoencoder: AutoencoderTiny = None
    unet: Any = None
    for stage in recipe.autoencoder:
        autoencoder = train_autoencoder(stage, autoencoder)
    device = run_device()
    autoencoder.half().float()  # as the checkpoint will hold it, so that the alignment may use the same latents
    autoencoder.to(device).eval()
    latents = build_latents(recipe.latents, crops(recipe.latents), autoencoder, partial(encode, autoencoder), device)
    for unet_stage in recipe.unet:
        unet = train_unet(unet_stage, latents, autoencoder, unet)
        if PartialState().is_main_process:  # each stage's model is usable, just not yet as good
            Path(recipe.out).parent.mkdir(parents=True, exist_ok=True)
            save_base(recipe.out, autoencoder, unet)
    return autoencoder, unet


if __name__ == "__main__":
    main(arguments, BaseRecipe, train)
