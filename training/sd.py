"""The latent-diffusion stack that ASUKA is trained against: noise schedule, loss, sampling."""

from contextlib import AbstractContextManager, nullcontext

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

SCALING_FACTOR = 0.18215  # SD-1.5's: the U-Net sees latents times this, ComfyUI's LATENT holds them without


def alphas_cumprod() -> Tensor:
    """SD's 1,000 cumulative products of alpha, (1000,): scaled-linear betas from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def add_noise(latent: Tensor, noise: Tensor, alpha_cumprod: Tensor) -> Tensor:
    """z_t = sqrt(abar) z_0 + sqrt(1 - abar) eps, for `alpha_cumprod` (B,)."""
    alpha_cumprod = alpha_cumprod.view(-1, 1, 1, 1)
    return alpha_cumprod.sqrt() * latent + (1 - alpha_cumprod).sqrt() * noise


def noise_loss(
    predicted: Tensor,
    noise: Tensor,
    mask: Tensor,
    alpha_cumprod: Tensor,
    unmasked_weight: float = 1.0,
    max_snr_weight: float = 1.0,
) -> Tensor:
    """SD's noise-prediction loss of each image, (B,), from tensors (B, 4, h, w), the latent mask (B, 1, h, w), abar (B,).

    `unmasked_weight` scales the loss outside of the hole. `max_snr_weight` bounds the weight 1 + sigma^2, which would make it
    the v-prediction loss; at 1 it is the plain one.
    """
    where = mask + unmasked_weight * (1 - mask)
    error = (predicted.float() - noise).square().mean(1, keepdim=True)
    error = (error * where).sum((1, 2, 3)) / where.sum((1, 2, 3))
    return error * (1 / alpha_cumprod).clamp_max(max_snr_weight)


class LatentDiffusion(nn.Module):
    """U-Net, autoencoder and the context of the empty prompt, (1, T, C)."""

    def __init__(self, unet: UNet2DConditionModel, autoencoder: AutoencoderKL | AutoencoderTiny, empty_context: Tensor):
        super().__init__()
        self.unet, self.autoencoder = unet, autoencoder
        self.register_buffer("empty_context", empty_context.detach())
        self.register_buffer("alphas_cumprod", alphas_cumprod())

    def encode(self, image: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> latent (B, 4, H / 8, W / 8) as the U-Net sees it.

        A VAE's mean, or with normal `noise` of the latent's shape a sample of its posterior.
        """
        if isinstance(self.autoencoder, AutoencoderKL):
            posterior = self.autoencoder.encode(image * 2 - 1).latent_dist
            return (posterior.mean + posterior.std * noise) * SCALING_FACTOR
        return self.autoencoder.encoder(image * 2 - 1)

    def decode(self, latent: Tensor) -> Tensor:
        """The stock decode, without any condition: the inverse of `encode`."""
        if isinstance(self.autoencoder, AutoencoderKL):
            return self.autoencoder.decode(latent / SCALING_FACTOR).sample / 2 + 0.5
        return self.autoencoder.decoder(latent) / 2 + 0.5

    def predict_noise(
        self, noisy: Tensor, timestep: Tensor, mask: Tensor, masked_latent: Tensor, context: Tensor
    ) -> Tensor:
        """The nine channels in SD inpainting's order: noisy latent, mask, masked-image latent."""
        model_input = torch.cat([noisy, mask, masked_latent], dim=1).to(self.unet.dtype)
        with self.own_precision():
            return self.unet(model_input, timestep, context.to(model_input)).sample.float()

    def own_precision(self) -> AbstractContextManager:
        """A U-Net held in bf16 is left as it is: CUDA's autocast would put its norms into float32 and back, and keep a
        third more of it for the backward pass."""
        held = self.unet.dtype is torch.bfloat16
        return torch.autocast(self.alphas_cumprod.device.type, enabled=False) if held else nullcontext()

    def predict_x0(
        self, latent: Tensor, noise: Tensor, timestep: Tensor, mask: Tensor, masked_latent: Tensor, context: Tensor
    ) -> Tensor:
        """The latent noised to `timestep` (B,) and estimated back in one step: z0_hat = (z_t - sqrt(1 - abar) eps) / sqrt(abar)."""
        alpha_cumprod = self.alphas_cumprod[timestep].view(-1, 1, 1, 1)
        noisy = add_noise(latent, noise, alpha_cumprod.flatten())
        predicted = self.predict_noise(noisy, timestep, mask, masked_latent, context)
        return (noisy - (1 - alpha_cumprod).sqrt() * predicted) / alpha_cumprod.sqrt()

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
