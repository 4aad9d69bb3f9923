"""RePaint Sampler: inpaints with any Stable Diffusion model (Lugmayr et al., CVPR 2022)."""

from __future__ import annotations

from itertools import pairwise

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import torch
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.repaint import forward_step, resampling_path, reverse_step
from .checks import checked

MIN_START_FRACTION = 0.5  # of the last timestep: ddim_uniform with few steps begins far below it


class ASUKA_RePaint(io.ComfyNode):
    """Makes a RePaint sampler for SamplerCustom."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_RePaint",
            display_name="RePaint Sampler",
            category="ASUKA",
            description="Inpaints with a model that was not trained for inpainting: repeatedly jumps back to more noise, which harmonizes the hole with its surroundings.",
            search_aliases=["asuka", "repaint", "resampling", "inpaint sampler", "jump length"],
            inputs=[
                io.Int.Input("jump_length", default=10, min=1, max=1000, tooltip="How many steps each jump goes back."),
                io.Int.Input(
                    "resamples",
                    default=10,
                    min=1,
                    max=100,
                    tooltip="How many times each segment of the schedule is resampled. 50 steps take 410 passes through the model with jump_length 10 and resamples 10, 230 with 5 and 5, and 50 with resamples 1.",
                ),
            ],
            outputs=[
                io.Sampler.Output(
                    "sampler",
                    tooltip="For SamplerCustom. The hole is the latent's noise mask: connect the sampling_mask of Inpaint Prepare to Set Latent Noise Mask. Other masks miss pixels at the hole's edge.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, jump_length: int, resamples: int) -> io.NodeOutput:
        return io.NodeOutput(RePaint(jump_length, resamples))


class RePaint(comfy.samplers.Sampler):
    """DDPM in the hole; before every step the known part is replaced by the image, noised to the same level.

    deviates: the published code starts with pure noise everywhere, which matches the image at the highest level only.
    """

    def __init__(self, jump_length: int, resamples: int):
        self.jump_length, self.resamples = jump_length, resamples

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        """Return the inpainted latent (B, C, h, w); the hole is where `denoise_mask` is above 0.

        Raises ValueError for flow models, without a mask, and if `sigmas` do not start near pure noise.
        """
        sampling = guider.inner_model.model_sampling
        if isinstance(sampling, comfy.model_sampling.CONST):
            raise ValueError(
                "RePaint needs a Stable Diffusion model (eps or v prediction); flow models such as FLUX and SD3 do not work with it"
            )
        if denoise_mask is None:
            raise ValueError("RePaint needs a mask; put Set Latent Noise Mask between VAE Encode and the sampler")
        if sampling.timestep(sigmas[0]) < MIN_START_FRACTION * sampling.timestep(sampling.sigma_max):
            raise ValueError(
                f"RePaint starts from pure noise, but the schedule starts at sigma {sigmas[0]:.2f} of {sampling.sigma_max:.2f}; set denoise to 1 and do not split the sigmas"
            )
        hole = denoise_mask > 0
        seed = (extra_args.get("seed", 0) + 1) % 2**64  # the seed itself was used for the initial noise
        generator = torch.Generator().manual_seed(seed)

        def draw() -> Tensor:
            return torch.randn(latent_image.shape, generator=generator).to(latent_image)

        path = resampling_path(len(sigmas) - 1, self.jump_length, self.resamples)
        calls, done = sum(there > here for here, there in pairwise(path)), 0
        x = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(latent_image), self.max_denoise(guider, sigmas))
        for here, there in pairwise(path):
            comfy.model_management.throw_exception_if_processing_interrupted()
            sigma, sigma_next = sigmas[here], sigmas[there]
            if there < here:
                x = forward_step(x, sigma, sigma_next, draw())
                continue
            x = torch.where(hole, x, latent_image + sigma * draw())
            denoised = guider(x, sigma.expand(len(x)), **extra_args)
            x = reverse_step(x, denoised, sigma, sigma_next, draw())
            if callback:
                callback(done, denoised, x, calls)
            done += 1
        return torch.where(hole, x, latent_image + sigmas[-1] * draw())
