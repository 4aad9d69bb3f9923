"""The frozen latent-diffusion stack that ASUKA is trained against: noise schedule, loss, sampling, U-Net key names."""

from collections.abc import Iterator

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

SCALE = 0.18215  # SD-1.5's: the U-Net sees latents times this, ComfyUI's LATENT holds them without

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def unet_modules(unet: UNet2DConditionModel) -> Iterator[tuple[str, str]]:
    """(diffusers name, LDM name) of the U-Net's blocks, for any number of levels and layers."""
    yield from ENDS.items()
    n = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{n}.1"
            n += 1
        if block.downsamplers:
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{n}.0.op"
            n += 1
    n = 0
    for i, block in enumerate(unet.up_blocks):
        attends = hasattr(block, "attentions")
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{n}.1"
            if block.upsamplers and j == len(block.resnets) - 1:
                yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{n}.{1 + attends}.conv"
            n += 1


def unet_to_ldm(unet: UNet2DConditionModel) -> dict[str, str]:
    """diffusers key -> LDM key, for every tensor of the U-Net."""
    modules = sorted(unet_modules(unet), key=lambda names: -len(names[0]))
    renamed = {}
    for key in unet.state_dict():
        name, ldm_name = next(names for names in modules if key.startswith(names[0] + "."))
        rest = key.removeprefix(name + ".")
        layer, _, parameter = rest.rpartition(".")
        rest = f"{RESNET[layer]}.{parameter}" if ".resnets." in name or name.startswith("mid_block.resnets") else rest
        renamed[key] = f"{ldm_name}.{rest}"
    return renamed


def noise_schedule() -> Tensor:
    """SD's 1,000 cumulative products of alpha, (1000,): scaled-linear betas from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def add_noise(latent: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """z_t = sqrt(abar) z_0 + sqrt(1 - abar) eps, for `alpha_bar` (B,)."""
    alpha_bar = alpha_bar.view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * latent + (1 - alpha_bar).sqrt() * noise


def noise_loss(
    predicted: Tensor,
    noise: Tensor,
    mask: Tensor,
    alpha_bar: Tensor,
    known_weight: float = 1.0,
    weight_cap: float = 1.0,
) -> Tensor:
    """SD's noise-prediction loss of each image, (B,), from tensors (B, 4, h, w), the cell mask (B, 1, h, w), abar (B,).

    `known_weight` scales the loss outside of the hole. `weight_cap` bounds the weight 1 + sigma^2, which would make it
    the v-prediction loss; at 1 it is the plain one.
    """
    where = mask + known_weight * (1 - mask)
    error = (predicted.float() - noise).square().mean(1, keepdim=True)
    error = (error * where).sum((1, 2, 3)) / where.sum((1, 2, 3))
    return error * (1 / alpha_bar).clamp_max(weight_cap)


class LatentDiffusion(nn.Module):
    """U-Net, autoencoder and the context of the empty prompt, (1, T, C)."""

    def __init__(self, unet: UNet2DConditionModel, autoencoder: AutoencoderTiny, empty_context: Tensor):
        super().__init__()
        self.unet, self.autoencoder = unet, autoencoder
        self.register_buffer("empty_context", empty_context.detach())
        self.register_buffer("alpha_bar", noise_schedule())

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> latent (B, 4, H / 8, W / 8) as the U-Net sees it."""
        return self.autoencoder.encoder(image * 2 - 1)

    def decode(self, latent: Tensor) -> Tensor:
        """The stock decode, without any condition: the inverse of `encode`."""
        return self.autoencoder.decoder(latent) / 2 + 0.5

    def predict_noise(
        self, noisy: Tensor, timestep: Tensor, mask: Tensor, masked_latent: Tensor, context: Tensor
    ) -> Tensor:
        """The nine channels in SD inpainting's order: noisy latent, mask, masked-image latent."""
        return self.unet(torch.cat([noisy, mask, masked_latent], dim=1), timestep, context).sample

    @torch.no_grad()
    def sample(self, noise: Tensor, mask: Tensor, masked_latent: Tensor, context: Tensor, steps: int = 25) -> Tensor:
        """DDIM from pure noise (B, 4, h, w), without guidance."""
        scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        scheduler.set_timesteps(steps)
        latent = noise
        for t in scheduler.timesteps:
            predicted = self.predict_noise(latent, t, mask, masked_latent, context)
            latent = scheduler.step(predicted, t, latent).prev_sample
        return latent
