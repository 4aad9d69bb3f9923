"""The miniature's autoencoder, in TAESD's layout: 4 channels, factor 8."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

from ..data import DataConfig, Photos, preview_batch
from ..engine.image_grid import save_rows
from ..engine.loop import Objective, RunConfig, fit

# Rows: brightness, red against blue, green against magenta; divided by their spread over photos of 8x8 blocks.
OPPONENT = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.0, -0.5], [-0.5, 1.0, -0.5]])
SPREAD = torch.tensor([0.22, 0.09, 0.06])
MEAN = 0.45


@dataclass(frozen=True)
class AutoencoderStage:
    """One stage of the autoencoder's training."""

    data: DataConfig
    run: RunConfig
    squared_weight: float = 8.0  # of squared beside absolute errors
    cell_weight: float = 1.0  # of errors of 8x8 means beside those of pixels
    latent_noise: float = 0.05  # makes the decoder forgive small errors of the U-Net
    latent_prior: float = 0.01  # pulls each channel to mean 0 and standard deviation 1


@torch.no_grad()
def init_as_color_codec(autoencoder: AutoencoderTiny) -> None:
    """Initializes a TAESD so that it already codes and decodes the mean color of every 8x8 cell.

    The first three channels carry red, green and blue straight through (ReLU keeps them, for they are positive), the
    residual branches start near zero. Training adds structure to a codec that never loses color.
    """
    identity = F.pad(torch.ones(1, 1), (1, 1, 1, 1))
    mean = F.pad(torch.full((2, 2), 0.25), (1, 0, 1, 0))
    smooth = torch.tensor([0.25, 0.5, 0.25]).outer(torch.tensor([0.25, 0.5, 0.25]))

    def carry(conv: nn.Conv2d, kernel: Tensor, matrix: Tensor = torch.eye(3), bias: Tensor | float = 0.0) -> None:
        conv.weight[:3] = 0
        conv.weight[:3, :3] = matrix[:, :, None, None] * kernel
        if conv.bias is not None:
            conv.bias[:3] = bias

    for module in autoencoder.modules():
        if isinstance(module, AutoencoderTinyBlock):
            last = module.conv[-1]
            last.weight.mul_(0.1)
            last.weight[:3] = 0
            last.bias.zero_()
    code = OPPONENT / SPREAD[:, None]
    first, *down, last = (layer for layer in autoencoder.encoder.layers if isinstance(layer, nn.Conv2d))
    carry(first, identity)
    for conv in down:
        carry(conv, mean)
    carry(last, identity, code, -code @ torch.full((3,), MEAN))
    first, *up, last = (layer for layer in autoencoder.decoder.layers if isinstance(layer, nn.Conv2d))
    carry(first, identity, torch.linalg.inv(code), MEAN)
    for conv in up:
        carry(conv, smooth)
    last.weight.mul_(0.1)
    carry(last, identity)


def encode(autoencoder: AutoencoderTiny, image: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> latent (B, 4, H / 8, W / 8), about standard normal: what the U-Net sees."""
    return autoencoder.encoder(image * 2 - 1)


def decode(autoencoder: AutoencoderTiny, latent: Tensor) -> Tensor:
    """The inverse of `encode`."""
    return autoencoder.decoder(latent) / 2 + 0.5


class AutoencoderBatch(TypedDict):
    """What AutoencoderObjective is given."""

    image: Tensor  # (B, 3, S, S) float32 in [0, 1]
    noise: Tensor  # (B, 4, S / 8, S / 8) float32, standard normal


class AutoencoderObjective(Objective):
    """L2 and L1 on brightness and on two color axes, for pixels, and L1 for the means of 8x8 blocks.

    Equal weight for the three axes is several times what plain RGB gives to color; four channels give it up first.
    """

    def __init__(self, autoencoder: AutoencoderTiny, stage: AutoencoderStage):
        super().__init__()
        self.trained, self.stage = autoencoder, stage
        self.register_buffer("opponent", OPPONENT, persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """With the error e = decode(encode(x) + latent_noise eps) - x on opponent color axes:

        L = squared_weight |e|^2 + 0.3 |e| + 0.3 cell_weight |mean of e over 8x8| + latent_prior (mean(z)^2 + log(std(z))^2).
        Not in the paper. `batch` is an AutoencoderBatch.
        """
        image = batch["image"].contiguous(memory_format=torch.channels_last)  # 1.4 times faster on CPU
        latent = encode(self.trained, image).float()
        noisy = latent + self.stage.latent_noise * batch["noise"]
        error = decode(self.trained, noisy).float() - image
        with torch.autocast(image.device.type, enabled=False):  # the loss itself in full precision
            pixels, blocks = self.opponents(error), self.opponents(F.avg_pool2d(error, 8))
        mean, std = latent.mean((0, 2, 3)), latent.std((0, 2, 3))
        values = {
            "squared": pixels.square().mean((0, 2, 3)).sum(),
            "absolute": pixels.abs().mean((0, 2, 3)).sum(),
            "cells": blocks.abs().mean((0, 2, 3)).sum(),
            "prior": (mean.square() + std.clamp_min(1e-4).log().square()).mean(),
        }
        loss = (
            self.stage.squared_weight * values["squared"]
            + 0.3 * values["absolute"]
            + 0.3 * self.stage.cell_weight * values["cells"]
            + self.stage.latent_prior * values["prior"]
        )
        psnr = -10 * error.square().mean((1, 2, 3)).log10().mean()
        return loss, {key: value.detach() for key, value in {**values, "psnr": psnr}.items()}

    def opponents(self, rgb: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", self.opponent, rgb)


def add_noise(sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
    side = sample["image"].shape[-1] // 8
    sample["noise"] = torch.from_numpy(rng.standard_normal((4, side, side), "float32"))


def train_autoencoder(stage: AutoencoderStage, start: AutoencoderTiny | None = None) -> AutoencoderTiny:
    """Trains one stage, from `start` or from the color codec."""
    torch.manual_seed(stage.run.seed)
    autoencoder = start or AutoencoderTiny()
    if start is None:
        init_as_color_codec(autoencoder)

    dataset = Photos(stage.data, stage.run.seed, add_noise)
    examples = preview_batch(dataset, 8)["image"]

    def sample(trained: AutoencoderTiny, path: Path) -> None:
        device = next(trained.parameters()).device
        decoded = decode(trained, encode(trained, examples.to(device))).cpu()
        save_rows(path, "training images", {"original": examples, "decoded": decoded})

    return fit(stage.run, AutoencoderObjective(autoencoder, stage), dataset, sample=sample)
