"""RePaint: a sampler that inpaints with any Stable Diffusion (Lugmayr et al., CVPR 2022)."""

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

EARLY = 0.5  # of all timesteps: few steps of ddim_uniform begin far below the last


class ASUKA_RePaint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_RePaint",
            display_name="RePaint Sampler",
            category="ASUKA",
            description="Inpaints with a model that is not for inpainting: again and again goes back to more noise, so that hole and surroundings come to fit.",
            search_aliases=["asuka", "repaint", "resampling", "inpaint sampler", "jump length"],
            inputs=[
                io.Int.Input(
                    "jump_length", default=10, min=1, max=1000, tooltip="How many steps to go back at a time."
                ),
                io.Int.Input(
                    "resamples",
                    default=10,
                    min=1,
                    max=100,
                    tooltip="How often to pass each stretch. Time grows with it: 50 steps take 410 passes through the model with 10 and 10, 230 with 5 and 5, 50 with 1.",
                ),
            ],
            outputs=[
                io.Sampler.Output(
                    "sampler",
                    tooltip="For SamplerCustom. The hole is the latent's mask, from Set Latent Noise Mask; give that the sampling_mask of Inpaint Prepare, or it misses pixels at the hole's edge.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, jump_length: int, resamples: int) -> io.NodeOutput:
        return io.NodeOutput(RePaint(jump_length, resamples))


class RePaint(comfy.samplers.Sampler):
    """DDPM in the hole; everywhere else the picture, with fresh noise of the same level before every step.

    deviates: the published code starts with pure noise everywhere, which only is the picture at the highest level.
    """

    def __init__(self, jump_length: int, resamples: int):
        self.jump_length, self.resamples = jump_length, resamples

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        sampling = guider.inner_model.model_sampling
        if isinstance(sampling, comfy.model_sampling.CONST):
            raise ValueError(
                "RePaint is for Stable Diffusion; flow models such as FLUX and SD3 cannot go back by noise"
            )
        if denoise_mask is None:
            raise ValueError(
                "RePaint does not know the hole; put Set Latent Noise Mask between VAE Encode and the sampler"
            )
        if sampling.timestep(sigmas[0]) < EARLY * sampling.timestep(sampling.sigma_max):
            raise ValueError(
                f"RePaint begins with noise alone, but the schedule begins at sigma {sigmas[0]:.2f} of {sampling.sigma_max:.2f}; set denoise to 1 and do not split the sigmas"
            )
        hole = denoise_mask > 0
        seed = (extra_args.get("seed", 0) + 1) % 2**64  # the seed itself drew the first noise
        generator = torch.Generator().manual_seed(seed)

        def draw() -> Tensor:
            return torch.randn(latent_image.shape, generator=generator).to(latent_image)

        path = resampling_path(len(sigmas) - 1, self.jump_length, self.resamples)
        calls, done = sum(there > here for here, there in pairwise(path)), 0
        x = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(latent_image), self.max_denoise(guider, sigmas))
        for here, there in pairwise(path):
            comfy.model_management.throw_exception_if_processing_interrupted()
            sigma, after = sigmas[here], sigmas[there]
            if there < here:
                x = forward_step(x, sigma, after, draw())
                continue
            x = torch.where(hole, x, latent_image + sigma * draw())
            denoised = guider(x, sigma.expand(len(x)), **extra_args)
            x = reverse_step(x, denoised, sigma, after, draw())
            if callback:
                callback(done, denoised, x, calls)
            done += 1
        return torch.where(hole, x, latent_image + sigmas[-1] * draw())
