"""What the recipes' tests train: as small and as short as can be."""

from pathlib import Path

from asuka_modules.mae import MAEConfig
from training.engine.loop import RunConfig

TINY_MAE = MAEConfig(
    image_size=64,
    patch_size=4,
    embed_dim=32,
    depth=2,
    num_heads=4,
    decoder_embed_dim=24,
    decoder_depth=3,
    decoder_num_heads=4,
    prior_depth=2,
)


def run_config(out: Path, **changes) -> RunConfig:
    return RunConfig(**{"out": str(out), "steps": 2, "batch_size": 2, "lr": 1e-3, "workers": 0, **changes})
