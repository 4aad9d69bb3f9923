"""MAE Prior Guidance: guides any sampler towards the MAE's prediction for the hole."""

from __future__ import annotations

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules import seams
from ..asuka_modules.guidance import guide
from ..asuka_modules.masking import reduce_mask
from .checks import checked
from .diffusion import encode_image, image_latent
from .tensors import broadcast, image_to_nchw, inpaint_inputs, require_finite
from .window import Window


class ASUKA_MAEPriorGuidance(io.ComfyNode):
    """Guides a model towards a prior image in the hole."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_MAEPriorGuidance",
            display_name="MAE Prior Guidance",
            category="ASUKA",
            description="Keeps the low frequencies of what the model paints in the hole close to those of a prior image. Needs no ASUKA weights for the model.",
            search_aliases=[
                "asuka",
                "guidance",
                "object removal",
                "inpaint without training",
                "low frequency guidance",
            ],
            inputs=[
                io.Model.Input("model", tooltip="An inpainting model: SD-1.5, SDXL, FLUX.1 Fill."),
                io.Vae.Input("vae", tooltip="The model's own VAE. Encodes the prior image once."),
                io.Image.Input("image", tooltip="From Inpaint Prepare. The masked content is ignored."),
                io.Mask.Input("mask", tooltip="From Inpaint Prepare. White (above 0.5) marks the hole."),
                io.Image.Input(
                    "prior_image",
                    tooltip="What belongs in the hole, roughly: the preview of MAE Prior Encode, the image of Inpaint (SPL), or any other fill. Only its hole is used.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the difference to remove at each step. 0: the model without guidance.",
                ),
                io.Float.Input(
                    "detail",
                    default=1.0,
                    min=0.1,
                    max=16.0,
                    step=0.1,
                    tooltip="Standard deviation of the Gaussian in latent pixels (8 image pixels each). Higher values leave more to the model, lower values keep it closer to the prior image.",
                ),
                io.Float.Input(
                    "until",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Fraction of sampling, from its start, that is guided. 1: all steps. 0: none.",
                ),
                io.Boolean.Input(
                    "close_seam",
                    default=True,
                    tooltip="Shift the colors of the prior image so that they match the known pixels along the hole's whole edge.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="For KSampler, or any other sampler.")],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: ModelPatcher,
        vae,
        image: Tensor,
        mask: Tensor,
        prior_image: Tensor,
        strength: float,
        detail: float,
        until: float,
        close_seam: bool,
    ) -> io.NodeOutput:
        if not strength:
            return io.NodeOutput(model)
        target, latent_mask = encode_target(model, vae, image, mask, prior_image, close_seam)

        def guide_denoised(args: dict) -> Tensor:
            x0, diffusion = args["denoised"], args["model"]
            if args["sigma"][0] <= diffusion.model_sampling.percent_to_sigma(until):
                return x0
            inputs = (repeat(x, x0).to(x0) for x in (diffusion.process_latent_in(target), latent_mask))
            return guide(x0, *inputs, strength, detail)

        guided = model.clone()
        guided.set_model_sampler_post_cfg_function(guide_denoised)
        return io.NodeOutput(guided)


def encode_target(
    model, vae, image: Tensor, mask: Tensor, prior_image: Tensor, close_seam: bool
) -> tuple[Tensor, Tensor]:
    """Encode the prior image in the hole and `image` elsewhere to a latent (B, C, h, w), with the latent mask (B, 1, h, w).

    The latent mask is 1 for each latent pixel that the hole touches. Raises ValueError for images of different sizes.
    """
    image, mask = inpaint_inputs(image, mask)
    prior = image_to_nchw(prior_image).to(image)
    if prior.shape[-2:] != image.shape[-2:]:
        found, expected = (f"{x.shape[-1]}x{x.shape[-2]}" for x in (prior, image))
        raise ValueError(f"prior_image is {found} but image is {expected}; make it from this image")
    prior, image = broadcast("prior_image", prior, "image", image)
    mask, image = broadcast("mask", mask, "image", image)
    filled = torch.where(mask > 0.5, prior, image)
    require_finite("prior_image", filled)
    if close_seam:
        filled = seams.close_seam(filled, image, mask).clamp(0, 1).to(image)
    target = encode_image(vae, filled)
    image_latent(model, {"samples": target})
    latent_size = target.shape[-2:]
    mask = Window(mask.shape[-2:], latent_size, vae.spacial_compression_encode()).cut(mask)
    return target, reduce_mask(mask, latent_size, "area").to(target)


def repeat(x: Tensor, x0: Tensor) -> Tensor:
    """Repeat `x` (B, C, h, w) to the batch of `x0` (N, C, h, w), as Repeat Latent Batch does.

    Raises ValueError if N is not a multiple of B, or if the sizes differ.
    """
    times, left = divmod(len(x0), len(x))
    if left or x.shape[-2:] != x0.shape[-2:]:
        found, expected = (f"{len(t)} of {t.shape[-1]}x{t.shape[-2]}" for t in (x0, x))
        raise ValueError(
            f"the sampled latents are {found}, MAE Prior Guidance was made for {expected}; connect the image that they were made from"
        )
    return x.repeat(times, 1, 1, 1)
