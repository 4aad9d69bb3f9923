"""What the DiffEdit nodes ask of a model and its inputs."""

from __future__ import annotations

import logging

import comfy.model_management
from torch import Tensor

log = logging.getLogger(__name__)


def image_latent(model, samples: dict) -> Tensor:
    """The latent (B, C, h, w) of a LATENT. Raises ValueError for one that is not the model's."""
    latent = samples["samples"]
    channels = model.get_model_object("latent_format").latent_channels
    if latent.shape[1] != channels:
        raise ValueError(
            f"the latent is {tuple(latent.shape)} but the model takes pictures, (batch, {channels}, height, width); encode the photo with the VAE of this model"
        )
    return latent


def warn_of_masked_images(model, *conditionings: list) -> None:
    """An inpainting model that is shown the picture has no need to listen to a prompt."""
    masks = [options["concat_mask"] for c in conditionings for _, options in c if "concat_mask" in options]
    if model.model.concat_keys and any((mask < 0.5).any() for mask in masks):
        log.warning(
            "the conditioning comes from InpaintModelConditioning, so the model is shown the picture and hardly listens to the prompt; connect the prompts themselves"
        )


def to_intermediate(latent: Tensor) -> Tensor:
    mm = comfy.model_management
    return latent.to(mm.intermediate_device(), mm.intermediate_dtype())
