"""DDIM Invert: from an image to the noise that DDIM would generate it from (DiffEdit, sec. 3.2)."""

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
    """The latents of an image at every noise level of a DDIM inversion."""

    sigmas: Tensor  # (N + 1,) noise levels, descending to 0
    latents: Tensor  # (N + 1, B, C, h, w) at these levels, in the sampler's scale
    samples: Tensor  # (B, C, h, w) the LATENT that it started from, unchanged
    latent_format: str


class ASUKA_DDIMInvert(io.ComfyNode):
    """Inverts DDIM: from an image to noise, keeping all latents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_DDIMInvert",
            display_name="DDIM Invert",
            category="ASUKA/DiffEdit",
            description="Runs DDIM backwards, from an image to the noise that it would be generated from.",
            search_aliases=["asuka", "diffedit", "ddim inversion", "unsample", "encode to noise"],
            inputs=[
                io.Model.Input("model", tooltip="A regular (non-inpainting) checkpoint works best."),
                io.Conditioning.Input("conditioning", tooltip="The empty prompt. Inversion uses no guidance."),
                io.Latent.Input("samples", tooltip="The image, from VAE Encode with the model's own VAE."),
                io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Number of steps for the full schedule."),
                io.Float.Input(
                    "ratio",
                    default=0.8,
                    min=0.02,
                    max=1.0,
                    step=0.02,
                    tooltip="Share of the schedule to invert. Higher values let the edit change more, lower values keep more of the image.",
                ),
                io.Combo.Input(
                    "predict_at",
                    options=["next level", "this level"],
                    advanced=True,
                    tooltip="Noise level to pass to the model in each step: the one that the step leads to, as in diffusers, or the one that it starts from, as in the paper.",
                ),
            ],
            outputs=[
                io.Latent.Output("samples", tooltip="The noisy latent, for a sampler that adds no noise."),
                sockets.Trajectory.Output("trajectory", tooltip="The latents of all steps, for DiffEdit Decode."),
                io.Sigmas.Output("sigmas", tooltip="The noise levels from noise back to the image, for SamplerCustom."),
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
            raise ValueError(f"ratio {ratio:g} leads to pure noise, where nothing is left of the image; lower it")
        inversion = Inversion(predict_at == "next level")
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": conditioning})
        callback = latent_preview.prepare_callback(model, len(sigmas) - 1)
        noisy = guider.sample(torch.zeros_like(latent), latent, inversion, sigmas.flip(0), callback=callback, seed=0)
        latent_format = type(model.get_model_object("latent_format")).__name__
        trajectory = Trajectory(sigmas, torch.stack(inversion.latents[::-1]), latent, latent_format)
        return io.NodeOutput({"samples": to_intermediate(noisy)}, trajectory, sigmas)


class Inversion(comfy.samplers.Sampler):
    """DDIM from the image to noise; keeps the latents of all steps.

    With `at_next` the model is called with the noise level that a step leads to, otherwise with the one it starts from.
    """

    def __init__(self, at_next: bool):
        self.at_next = at_next

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        """Return the noisy latent (B, C, h, w) of `latent_image` at the last of the ascending `sigmas`."""
        sampling, x = guider.inner_model.model_sampling, latent_image
        self.latents = [x.cpu()]
        for i in range(len(sigmas) - 1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            sigma, sigma_next = sigmas[i], sigmas[i + 1]
            level = sigma_next if self.at_next else sigma.clamp_min(float(sampling.sigma_min))  # never 0
            # the model scales its input by `level`; this makes the network's input the same at either level
            x_in = x * input_scale(sampling, sigma) / input_scale(sampling, level)
            denoised = guider(x_in, level.expand(len(x)), **extra_args)
            x = x + (x_in - denoised) / level * (sigma_next - sigma)
            self.latents.append(x.cpu())
            callback(i, denoised, x, len(sigmas) - 1)
        return sampling.inverse_noise_scaling(sigmas[-1], x)


def input_scale(sampling, sigma: Tensor) -> Tensor:
    """Return the factor that the model multiplies its input by at noise level `sigma`, a scalar tensor."""
    return sampling.calculate_input(sigma, torch.ones_like(sigma))
