"""DDIM Invert: from a picture to the noise that it would come from (DiffEdit, sec. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management
import comfy.samplers
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from . import sockets
from .checks import checked
from .diffusion import image_latent, to_intermediate, warn_of_masked_images


@dataclass(frozen=True)
class Trajectory:
    """A picture's way to noise."""

    sigmas: Tensor  # (N + 1,) noise levels, descending to 0
    latents: Tensor  # (N + 1, B, C, h, w) at those levels, as the sampler sees them
    samples: Tensor  # (B, C, h, w) the LATENT it started from, untouched
    latent_format: str


class ASUKA_DDIMInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_DDIMInvert",
            display_name="DDIM Invert",
            category="ASUKA/DiffEdit",
            description="Follows DDIM backwards, from a picture to the noise that it would come from.",
            search_aliases=["asuka", "diffedit", "ddim inversion", "unsample", "encode to noise"],
            inputs=[
                io.Model.Input("model", tooltip="Best a checkpoint that is not for inpainting; those work, too."),
                io.Conditioning.Input("conditioning", tooltip="The empty prompt. There is no guidance here."),
                io.Latent.Input("samples", tooltip="The picture, from VAE Encode with the model's own VAE."),
                io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Of the whole way to pure noise."),
                io.Float.Input(
                    "ratio",
                    default=0.8,
                    min=0.02,
                    max=1.0,
                    step=0.02,
                    tooltip="Share of the way to go. More lets the edit change more, less keeps more of the picture.",
                ),
                io.Combo.Input(
                    "predict_at",
                    options=["next level", "this level"],
                    advanced=True,
                    tooltip="Noise level that the model is told in a step: the one it leads to, as diffusers does, or the one it starts from, as in the paper.",
                ),
            ],
            outputs=[
                io.Latent.Output("samples", tooltip="The noisy end, for a sampler that adds no noise."),
                sockets.Trajectory.Output("trajectory", tooltip="The whole way, for DiffEdit Decode."),
                io.Sigmas.Output("sigmas", tooltip="The noise levels of the way back, for SamplerCustom."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, model: ModelPatcher, conditioning: list, samples: dict, steps: int, ratio: float, predict_at: str
    ) -> io.NodeOutput:
        latent = image_latent(model, samples)
        warn_of_masked_images(model, conditioning)
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", steps)
        sigmas = sigmas[-(max(1, round(ratio * (len(sigmas) - 1))) + 1) :]
        if not torch.isfinite(sampling.inverse_noise_scaling(sigmas[:1], torch.ones(1))):
            raise ValueError(f"ratio {ratio:g} leads to pure noise, where nothing is left of the picture; lower it")
        inversion = Inversion(predict_at == "next level")
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": conditioning})
        callback = latent_preview.prepare_callback(model, len(sigmas) - 1)
        noisy = guider.sample(torch.zeros_like(latent), latent, inversion, sigmas.flip(0), callback=callback, seed=0)
        latent_format = type(model.get_model_object("latent_format")).__name__
        trajectory = Trajectory(sigmas, torch.stack(inversion.latents[::-1]), latent, latent_format)
        return io.NodeOutput({"samples": to_intermediate(noisy)}, trajectory, sigmas)


class Inversion(comfy.samplers.Sampler):
    """DDIM towards noise; keeps every latent on the way."""

    def __init__(self, at_next: bool):
        self.at_next = at_next

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        sampling, x = guider.inner_model.model_sampling, latent_image
        self.latents = [x.cpu()]
        for i in range(len(sigmas) - 1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            sigma, after = sigmas[i], sigmas[i + 1]
            level = after if self.at_next else sigma.clamp_min(float(sampling.sigma_min))  # never 0
            # the model shall see the same input at either level; it scales by the level it is told
            x_in = x * input_scale(sampling, sigma) / input_scale(sampling, level)
            denoised = guider(x_in, level.expand(len(x)), **extra_args)
            x = x + (x_in - denoised) / level * (after - sigma)
            self.latents.append(x.cpu())
            callback(i, denoised, x, len(sigmas) - 1)
        return sampling.inverse_noise_scaling(sigmas[-1], x)


def input_scale(sampling, sigma: Tensor) -> Tensor:
    """What the model multiplies its input by at a noise level."""
    return sampling.calculate_input(sigma, torch.ones_like(sigma))
