"""The miniature's U-Net: nine-channel inpainting like SD-1.5's, 36.7 M parameters, described instead of prompted."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data import preview_batch
from ..engine.cache import Cached
from ..engine.image_grid import save_rows
from ..engine.loop import Objective, RunConfig, fit
from ..latents import from_cache
from ..sd import LatentDiffusion, add_noise, alphas_cumprod, noise_loss
from .description import ConditioningEmbedder


@dataclass(frozen=True)
class UNetStage:
    """One stage of the U-Net's training, on square crops of the cached latents."""

    run: RunConfig
    cells: int  # side of the crop, in latent cells of 8 pixels
    empty_share: float = 0.5  # how often the empty context stands in for the description
    color_error: float = 0.0  # of the hole's described colors, a standard deviation: a description is but a hint
    unmasked_weight: float = 0.2  # of the loss outside the hole
    max_snr_weight: float = 20.0  # of the v-prediction weighting 1 + sigma^2
    timestep_power: float = 0.75  # t = 1000 u^power: below 1 draws towards high noise


class ConditionedUNet(nn.Module):
    """The U-Net and the description that is its context."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            in_channels=9,
            out_channels=4,
            block_out_channels=(320, 320),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=768,
            attention_head_dim=8,
        )
        self.description = ConditioningEmbedder()


@torch.no_grad()
def init_as_noise_copier(unet: UNet2DConditionModel) -> None:
    """Initializes the U-Net so that it returns its noisy input, nearly right at high noise where eps = z_t.

    Plus and minus z travel in eight channels through conv_in, the outermost skip connection and the last
    normalization, where silu(z) - silu(-z) = z. Every residual branch starts at zero. Training starts from there
    instead of spending its first hundred thousand samples on learning to copy.
    """
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        for resnet in block.resnets:
            nn.init.zeros_(resnet.conv2.weight)
            nn.init.zeros_(resnet.conv2.bias)
        for attention in getattr(block, "attentions", ()):
            nn.init.zeros_(attention.proj_out.weight)
            nn.init.zeros_(attention.proj_out.bias)
    plus_minus = torch.cat([torch.eye(4), -torch.eye(4)])
    unet.conv_in.weight[:8] = 0
    unet.conv_in.weight[:8, :4, 1, 1] = plus_minus
    unet.conv_in.bias[:8] = 0
    shortcut = unet.up_blocks[-1].resnets[-1].conv_shortcut  # input: 320 channels from below, 320 from conv_in
    shortcut.weight[:10] = 0
    shortcut.weight[range(8), range(320, 328)] = 1.0
    shortcut.bias[:10] = 0
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    unet.conv_out.weight[:, :8, 1, 1] = plus_minus.T * 0.8**0.5  # 8 of the group's 10 channels are used


class LatentCrops(Dataset):
    """Random square crops of cached latents that contain some hole and something known, with noise and a timestep."""

    def __init__(self, cached: Cached, stage: UNetStage):
        self.cached, self.stage = cached, stage

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.stage.run.seed, self.stage.cells, index])
        while True:
            sample = from_cache(self.cached[int(rng.integers(len(self.cached)))])
            side = sample["latent_mask"].shape[-1]
            y, x = 2 * rng.integers(0, (side - self.stage.cells) // 2 + 1, 2)  # descriptions are per 2x2 cells
            sample = {k: v[:, y : y + self.stage.cells, x : x + self.stage.cells] for k, v in sample.items()}
            if 0.05 < sample["latent_mask"].mean() < 0.95:
                break
        offset = torch.from_numpy(rng.normal(0, self.stage.color_error, (3, 1, 1)).astype("float32"))
        sample["colors"] = sample["colors"] + offset * sample["latent_mask"]
        sample["noise"] = torch.from_numpy(rng.standard_normal(sample["latent"].shape, "float32"))
        sample["timestep"] = torch.tensor(int(1000 * rng.random() ** self.stage.timestep_power))
        sample["empty"] = torch.tensor(rng.random() < self.stage.empty_share)
        return sample


class UNetBatch(TypedDict):
    """What UNetObjective is given; h is the stage's `cells`."""

    latent: Tensor  # (B, 4, h, h) float32
    masked_latent: Tensor  # (B, 4, h, h) float32, of the image that is gray in the hole
    latent_mask: Tensor  # (B, 1, h, h) float32, 1 in every latent pixel that the hole touches
    colors: Tensor  # (B, 3, h, h) float32, mean color of each latent pixel's 8x8 pixels, about [0, 1]
    noise: Tensor  # (B, 4, h, h) float32, standard normal
    timestep: Tensor  # (B,) int64 in 0..999
    empty: Tensor  # (B,) bool, whether the empty context replaces the layout conditioning


class UNetObjective(Objective):
    """SD's noise prediction, weighted towards the hole and, like v-prediction, towards high noise."""

    def __init__(self, model: ConditionedUNet, stage: UNetStage):
        super().__init__()
        self.trained, self.stage = model, stage
        self.register_buffer("alphas_cumprod", alphas_cumprod(), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Latent diffusion's noise-prediction loss, L = E |eps - U-Net(z_t, t, latent mask, masked latent, c)|^2.

        See `training.sd.noise_loss` for its two weights. `batch` is a UNetBatch.
        """
        alpha_cumprod = self.alphas_cumprod[batch["timestep"]]
        noisy = add_noise(batch["latent"], batch["noise"], alpha_cumprod)
        model_input = torch.cat([noisy, batch["latent_mask"], batch["masked_latent"]], dim=1)
        context = self.trained.description(batch["colors"], batch["empty"])
        predicted = self.trained.unet(model_input, batch["timestep"], context).sample
        loss = noise_loss(
            predicted,
            batch["noise"],
            batch["latent_mask"],
            alpha_cumprod,
            self.stage.unmasked_weight,
            self.stage.max_snr_weight,
        )
        described = ~batch["empty"]
        values = {
            "described": (loss * described).sum() / described.sum(),
            "empty": (loss * ~described).sum() / (~described).sum(),
        }
        return loss.mean(), {k: v.detach() for k, v in values.items()}


def train_unet(
    stage: UNetStage, latents: Cached, autoencoder: AutoencoderTiny, start: ConditionedUNet | None
) -> ConditionedUNet:
    """Trains one stage, from `start` or from the noise copier."""
    torch.manual_seed(stage.run.seed)
    model = start or ConditionedUNet()
    if start is None:
        init_as_noise_copier(model.unet)
    dataset = LatentCrops(latents, stage)
    examples = preview_batch(dataset, 8)

    def sample(trained: ConditionedUNet, path: Path) -> None:
        device = next(trained.parameters()).device
        batch = {k: v.to(device) for k, v in examples.items()}
        base = LatentDiffusion(trained.unet, autoencoder, trained.description.empty_context).to(device)
        rows = {"masked latent": base.decode(batch["masked_latent"])}
        for name, empty in (("empty context", True), ("description", False)):
            context = trained.description(batch["colors"], torch.full_like(batch["empty"], empty))
            latent = base.sample(batch["noise"], batch["latent_mask"], batch["masked_latent"], context)
            rows[name] = base.decode(torch.where(batch["latent_mask"] > 0.5, latent, batch["latent"]))
        save_rows(path, "training images", rows | {"original, decoded": base.decode(batch["latent"])})

    return fit(stage.run, UNetObjective(model, stage), dataset, sample=sample)
