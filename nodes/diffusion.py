"""Latents and conditionings of a diffusion model, checked for the nodes that call one."""

from __future__ import annotations

import logging

import comfy.model_management
from torch import Tensor

from .tensors import nchw_to_image

log = logging.getLogger(__name__)


def image_latent(model, samples: dict) -> Tensor:
    """Return the latent (B, C, h, w) of a LATENT. Raises ValueError if its channels are not those of the model."""
    latent = samples["samples"]
    channels = model.get_model_object("latent_format").latent_channels
    if latent.shape[1] != channels:
        raise ValueError(
            f"the latent is {tuple(latent.shape)} but the model expects (batch, {channels}, height, width); encode the image with the VAE of this model"
        )
    return latent


def encode_image(vae, image: Tensor) -> Tensor:
    """Encode `image` (B, 3, H, W) in [0, 1] to a latent (B, C, h, w). Raises ValueError if it is smaller than a latent pixel."""
    (height, width), least = image.shape[-2:], vae.spacial_compression_encode()
    if min(height, width) < least:
        raise ValueError(
            f"the image is {width}x{height} but the VAE encodes no fewer than {least}x{least} pixels; enlarge it, or connect Inpaint Prepare, which pads"
        )
    return vae.encode(nchw_to_image(image))


def warn_of_masked_images(model, *conditionings: list) -> None:
    """Log a warning if the conditioning shows an inpainting model the image: it then ignores the prompt."""
    masks = [options["concat_mask"] for c in conditionings for _, options in c if "concat_mask" in options]
    if model.model.concat_keys and any((mask < 0.5).any() for mask in masks):
        log.warning(
            "the conditioning comes from InpaintModelConditioning, so the model sees the image and almost ignores the prompt; connect the prompts themselves"
        )


def to_intermediate(latent: Tensor) -> Tensor:
    """Move a tensor of any shape to ComfyUI's intermediate device and data type."""
    mm = comfy.model_management
    return latent.to(mm.intermediate_device(), mm.intermediate_dtype())
