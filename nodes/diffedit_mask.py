"""DiffEdit Mask: finds what a prompt describes in an image by comparing it with another prompt (DiffEdit, sec. 3.2)."""

from __future__ import annotations

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.diffedit import CLIP_MODES, enlarge_mask, normalize_map
from .checks import checked
from .diffusion import image_latent, warn_of_masked_images
from .previews import advance
from .window import Window, near


class ASUKA_DiffEditMask(io.ComfyNode):
    """Masks the part of an image about which two prompts disagree."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_DiffEditMask",
            display_name="DiffEdit Mask",
            category="ASUKA/DiffEdit",
            description="Masks what a prompt describes: adds noise to the image and compares the model's noise predictions for two prompts.",
            search_aliases=["asuka", "diffedit", "text to mask", "mask by prompt", "segment by text"],
            inputs=[
                io.Model.Input("model", tooltip="A regular (non-inpainting) checkpoint works best."),
                io.Conditioning.Input("query", tooltip='What should be there instead, e.g. "a cat", or "background".'),
                io.Conditioning.Input("reference", tooltip='What is there, e.g. "a dog", or the empty prompt.'),
                io.Latent.Input("samples", tooltip="The image, from VAE Encode with the model's own VAE."),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The mask is white where the map is above this. Lower values mask more of the image.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Seed of the noise samples.",
                ),
                io.Int.Input(
                    "maps",
                    default=10,
                    min=1,
                    max=64,
                    tooltip="Number of noise samples to average over, with two U-Net passes each.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.05,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How much noise to add, as a share of the model's timesteps. Less finds details, more finds objects.",
                ),
                io.Combo.Input(
                    "clip",
                    options=list(CLIP_MODES),
                    advanced=True,
                    tooltip="How outliers are clipped before the map is scaled to 0 to 1: at clip_ratio times the mean, at the 1st and 99th percentile, or not at all.",
                ),
                io.Float.Input(
                    "clip_ratio",
                    default=3.0,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="For clip = mean: with 3.0 and threshold 0.5, the mask is white where the difference is above 1.5 times the mean.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The image that the mask is for, at any size: the mask gets its size. If not connected, the mask has 8 pixels for each latent pixel.",
                ),
            ],
            outputs=[
                io.Mask.Output("mask", tooltip="White where the prompts disagree. For removal, connect Clean Mask."),
                io.Mask.Output("map", tooltip="The difference itself, from 0 to 1: helps to choose the threshold."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: ModelPatcher,
        query: list,
        reference: list,
        samples: dict,
        threshold: float,
        seed: int,
        maps: int,
        strength: float,
        clip: str,
        clip_ratio: float,
        image: Tensor | None = None,
    ) -> io.NodeOutput:
        latent = image_latent(model, samples)
        warn_of_masked_images(model, query, reference)
        difference = difference_map(model, query, reference, latent, strength, maps, seed)
        soft = normalize_map(difference, clip, clip_ratio)
        factor = model.get_model_object("latent_format").spacial_downscale_ratio
        latent_size = latent.shape[-2:]
        covered = tuple(factor * n for n in latent_size)
        size = tuple(image.shape[1:3]) if image is not None else covered
        window = Window(size, latent_size, factor) if near(size, latent_size, factor) else None
        drawn = covered if window else size  # for another image, or the same at another size, the mask is stretched
        mask = enlarge_mask((soft > threshold).float(), drawn).unsqueeze(1)
        soft = torch.nn.functional.interpolate(soft.unsqueeze(1), drawn, mode="bilinear")
        mask, soft = (window.back(x) if window else x for x in (mask, soft))
        return io.NodeOutput(mask.squeeze(1), soft.squeeze(1))


def difference_map(
    model, query: list, reference: list, latent: Tensor, strength: float, maps: int, seed: int
) -> Tensor:
    """Return the mean absolute difference (B, h, w) of the noise predictions for two prompts (DiffEdit, sec. 3.2).

    `latent` is (B, C, h, w). The mean is over channels and `maps` noise samples, which are the same for all images of a
    batch, so that no image depends on the others.
    """
    sampling = model.get_model_object("model_sampling")
    sigma = min(sampling.percent_to_sigma(1 - strength), float(sampling.sigma_max))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(query, reference)
    difference = Difference(maps, seed)
    guider.sample(torch.zeros_like(latent), latent, difference, torch.tensor([sigma]), seed=seed)
    return difference.mean


class Difference(comfy.samplers.Sampler):
    """Sampler that measures instead of sampling: it gives access to the loaded model with both conditionings prepared.

    `mean` is the result of `difference_map`.
    """

    def __init__(self, maps: int, seed: int):
        self.maps, self.seed = maps, seed

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        """Set `mean` (B, h, w) at the first of `sigmas`, and return `latent_image` unchanged."""
        model, sigma, b = guider.inner_model, sigmas[:1], len(latent_image)
        conditions = [guider.conds["positive"], guider.conds["negative"]]
        generator = torch.Generator().manual_seed(self.seed)  # on the CPU: the same on every device
        progress = comfy.utils.ProgressBar(self.maps)
        total = torch.zeros_like(latent_image[:, 0])
        for _ in range(self.maps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            noise = torch.randn(latent_image[:1].shape, generator=generator).to(latent_image).expand_as(latent_image)
            x = model.model_sampling.noise_scaling(sigma, noise, latent_image, False)
            # no guidance: with the same negative prompt on both sides it would only scale the difference
            query, reference = comfy.samplers.calc_cond_batch(
                model, conditions, x, sigma.expand(b), extra_args["model_options"]
            )
            total += (query - reference).abs().mean(1)
            advance(progress, (total[:1] / total[:1].max().clamp_min(1e-6)).expand(3, -1, -1))
        # `calc_cond_batch` returns predictions of the clean latent: they differ by sigma times the noise predictions
        self.mean = (total / self.maps / sigma).to(comfy.model_management.intermediate_device())
        return latent_image
