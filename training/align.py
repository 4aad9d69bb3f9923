"""Recipe: train the alignment module against the frozen U-Net (ASUKA, sec. 3.2).

python -m training.align training/configs/miniature/align.yaml
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("align", __doc__)

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.alignment import SELF4, Alignment, AlignmentConfig

from .data import preview_batch
from .engine.config import ConfigError
from .engine.image_grid import save_rows, sheet_title
from .engine.loop import Objective, RunConfig, fit
from .engine.precision import has_bf16, run_device
from .latents import Encoded, LatentsConfig, build_latents, build_priors, crops, encoding_forecast
from .sd import LatentDiffusion, add_noise, noise_loss
from .weights.frozen import load_frozen


@dataclass(frozen=True)
class Substitution:
    """Misalignment fix: how often the reconstructed prior (nothing masked) stands in for the predicted one."""

    start: float = 1.0
    end: float = 0.1
    steps: int = 2000  # linear in between

    def __post_init__(self):
        if self.steps < 1:
            raise ConfigError(f"substitution.steps is {self.steps}, expected at least 1")

    def probability(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


@dataclass(frozen=True)
class AlignRecipe:
    """Train the alignment module; MAE, autoencoder and U-Net stay frozen."""

    base: str  # checkpoint with U-Net and autoencoder
    mae: str  # weights of the MAE
    latents: LatentsConfig
    run: RunConfig
    model: AlignmentConfig = SELF4
    init: str | None = None  # weights to start from; none: random ones
    substitution: Substitution = Substitution()
    unmasked_weight: float = 1.0  # of the loss outside of the hole
    max_snr_weight: float = 1.0  # 1: SD's plain loss; above: see training.sd.noise_loss
    gradient_checkpointing: bool = (
        False  # recompute the U-Net's activations in the backward pass: less memory, a third slower
    )
    validation: LatentsConfig | None = None  # held-out photos


class AlignBatch(TypedDict):
    """What AlignObjective is given, of images S pixels square. The latent size is h = S / 8; latents are multiplied by the VAE's scaling factor."""

    prior: Tensor  # (B, N, C) float32 of the MAE
    latent: Tensor  # (B, 4, h, h) float32, of the image
    masked_latent: Tensor  # (B, 4, h, h) float32, of the image that is gray in the hole
    latent_mask: Tensor  # (B, 1, h, h) float32, 1 in every latent pixel that the hole touches
    noise: Tensor  # (B, 4, h, h) float32, standard normal
    timestep: Tensor  # (B,) int64 in 0..999
    reconstructed: Tensor  # (B,) bool, whether the prior is that of the complete image
    colors: Tensor  # (B, 3, h, h) float32 in [0, 1]: mean colors; only the base model's training reads them


class AlignObjective(Objective):
    """SD's noise-prediction loss; the gradient reaches the alignment module through the context alone."""

    def __init__(self, alignment: Alignment, base: LatentDiffusion, recipe: AlignRecipe):
        super().__init__()
        self.trained, self.base, self.recipe = alignment, base, recipe

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The noise-prediction loss of latent diffusion under the aligned prior (ASUKA, sec. 3.2; equation (1) in docs/architecture.md):

        L = E |eps - U-Net(z_t, t, latent mask, masked latent, c)|^2, c = alignment(MAE prior), with
        z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps; see `training.sd.noise_loss` for its two weights.
        `batch` is an AlignBatch.
        """
        alpha_cumprod = self.base.alphas_cumprod[batch["timestep"]]
        noisy = add_noise(batch["latent"], batch["noise"], alpha_cumprod)
        predicted = self.base.predict_noise(
            noisy, batch["timestep"], batch["latent_mask"], batch["masked_latent"], self.trained(batch["prior"])
        )
        loss = noise_loss(
            predicted,
            batch["noise"],
            batch["latent_mask"],
            alpha_cumprod,
            self.recipe.unmasked_weight,
            self.recipe.max_snr_weight,
        )
        reconstructed = batch["reconstructed"]
        values = {
            "loss_predicted": loss.masked_fill(reconstructed, torch.nan),
            "substituted": reconstructed.float(),
        }
        return loss.mean(), {key: value.detach() for key, value in values.items()}


class RandomNoise:
    """Adds noise, timestep and whether the prior is substituted."""

    def __init__(self, recipe: AlignRecipe, substitute: bool = True):
        self.recipe, self.substitute = recipe, substitute

    def __call__(self, sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
        step = index // self.recipe.run.batch_size
        probability = self.recipe.substitution.probability(step) if self.substitute else 0.0
        sample["noise"] = torch.from_numpy(rng.standard_normal(sample["latent"].shape, "float32"))
        sample["timestep"] = torch.tensor(int(rng.integers(1000)))
        sample["reconstructed"] = torch.tensor(bool(rng.random() < probability))


def start_from(init: str | None, model: AlignmentConfig) -> Alignment:
    """An alignment module with the weights of a file, or random ones.

    Raises CheckpointError where the file has none, ConfigError where they are not of the shape of `model`.
    """
    if not init:
        alignment = Alignment(model)
        alignment.init_weights()
        return alignment
    part = checkpoints.load_part(init, "alignment")
    if part.config != model:
        raise ConfigError(f"init: {init} has the shape {part.config}, but model is {model}")
    return part.build(dtype=torch.float32)


def train(recipe: AlignRecipe) -> Alignment:
    if not recipe.run.dry_run:
        return train_on(recipe, [config for config in (recipe.latents, recipe.validation) if config])
    folder = f"{recipe.latents.out}-dry-run"  # one batch, for all processes, which no real run shall find
    try:
        return train_on(recipe, [replace(recipe.latents, out=folder, count=recipe.run.batch_size)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def train_on(recipe: AlignRecipe, latents: list[LatentsConfig]) -> Alignment:
    """Trains on the first of `latents`, and validates on the last."""
    torch.manual_seed(recipe.run.seed)
    base = load_frozen(recipe.base)
    mae = checkpoints.load_part(recipe.mae, "mae").build(dtype=torch.float32).requires_grad_(False)
    alignment = start_from(recipe.init, recipe.model)
    if alignment.config.empty_tokens:
        alignment.empty_context.copy_(base.empty_context)
    photos = [crops(config) for config in latents]  # what is missing is told now, not after hours of encoding
    device = run_device()
    base.to(device), mae.to(device)
    caches = []
    for config, source in zip(latents, photos, strict=True):
        encoded = build_latents(config, source, base.autoencoder, base.encode, device)
        caches.append((source, encoded, build_priors(config, source, encoded, mae, device)))
    if recipe.run.dry_run and PartialState().is_main_process:
        count = sum(config.count for config in (recipe.latents, recipe.validation) if config)
        sys.stdout.write(encoding_forecast(recipe.latents, photos[0], count, base.encode, mae, device) + "\n")
    if recipe.run.precision == "bf16" and has_bf16(device):
        base.unet.bfloat16()  # frozen, so there is nothing to lose in its weights
    if recipe.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    objective = AlignObjective(alignment, base, recipe)
    dataset = Encoded(*caches[0], RandomNoise(recipe), recipe.run.seed)
    preview = Encoded(*caches[-1], RandomNoise(recipe, substitute=False), recipe.run.seed)
    examples = preview_batch(preview, 8) | preview_batch(preview.crop, 8)

    def sample(trained: Alignment, path: Path) -> None:
        batch = {key: value.to(device) for key, value in examples.items()}
        image, mask = batch["image"], batch["mask"]
        expected = mae.reconstruct(mae.decoder_features(image, mask))
        rows = {"hole in gray": image * (1 - mask) + mask / 2, "MAE": F.interpolate(expected, image.shape[-2:])}
        contexts = {
            "empty prompt": base.empty_context.expand(len(image), -1, -1),
            "MAE prior": trained(batch["prior"]),
        }
        for name, context in contexts.items():
            latent = base.sample(batch["noise"], batch["latent_mask"], batch["masked_latent"], context)
            rows[name] = base.decode(latent)
        save_rows(path, sheet_title(recipe.validation), rows | {"original": image})

    def export(trained: Alignment, folder: Path) -> None:
        checkpoints.save(folder / "alignment.safetensors", {"alignment": trained})

    validation = {"loss": preview} if recipe.validation else {}
    return fit(recipe.run, objective, dataset, sample=sample, validation=validation, export=export, recipe=recipe)


if __name__ == "__main__":
    main(arguments, AlignRecipe, train)
