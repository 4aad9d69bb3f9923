"""DiffEdit Decode: from noise to a new picture under the mask and the old one everywhere else (DiffEdit, sec. 3.2)."""

from __future__ import annotations

import comfy.model_management
import comfy.samplers
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.diffedit import ddim_step, to_latent_mask
from . import sockets
from .checks import checked
from .ddim_invert import Trajectory
from .diffusion import to_intermediate, warn_of_masked_images
from .window import Window, near


class ASUKA_DiffEditDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_DiffEditDecode",
            display_name="DiffEdit Decode",
            category="ASUKA/DiffEdit",
            description="Follows DDIM from noise to a picture of a new prompt under the mask, and the old picture everywhere else.",
            search_aliases=["asuka", "diffedit", "edit by prompt", "mask-guided ddim"],
            inputs=[
                io.Model.Input("model", tooltip="The one of DDIM Invert."),
                io.Conditioning.Input("positive", tooltip="What should be under the mask."),
                io.Conditioning.Input("negative", tooltip="The empty prompt."),
                sockets.Trajectory.Input("trajectory", tooltip="From DDIM Invert."),
                io.Mask.Input("mask", tooltip="From DiffEdit Mask, or any: white is what may change, of any size."),
                io.Float.Input(
                    "cfg", default=7.5, min=1.0, max=100.0, step=0.1, tooltip="Guidance: weight of the prompt."
                ),
            ],
            outputs=[
                io.Latent.Output("samples", tooltip="For VAE Decode. Outside of the mask it is exactly what it was.")
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, model: ModelPatcher, positive: list, negative: list, trajectory: Trajectory, mask: Tensor, cfg: float
    ) -> io.NodeOutput:
        latent_format = type(model.get_model_object("latent_format")).__name__
        if latent_format != trajectory.latent_format:
            raise ValueError(
                f"the trajectory was made with a {trajectory.latent_format} model but this one is {latent_format}; use the model of DDIM Invert"
            )
        warn_of_masked_images(model, positive, negative)
        latent = trajectory.samples
        cells = latent.shape[-2:]
        if not (mask > 0.5).any():
            raise ValueError(
                "the mask is empty, so there is nothing to edit; lower the threshold of DiffEdit Mask, or paint the part to replace white"
            )
        factor = model.get_model_object("latent_format").spacial_downscale_ratio
        if near(mask.shape[-2:], cells, factor):
            mask = Window(mask.shape[-2:], cells, factor).cut(mask.unsqueeze(1)).squeeze(1)
        side = round(mask.shape[-1] / cells[-1])
        mask = to_latent_mask(mask, cells)
        if not mask.any():
            raise ValueError(
                f"the mask covers more than half of no latent cell, {side}x{side} of its pixels; grow it with Clean Mask"
            )
        if len(mask) not in (1, len(latent)):
            raise ValueError(
                f"there are {len(mask)} masks for {len(latent)} pictures; give one for each, or one for all"
            )
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        callback = latent_preview.prepare_callback(model, len(trajectory.sigmas) - 1)
        decoding = MaskedDecoding(trajectory.latents, mask)
        edited = guider.sample(torch.zeros_like(latent), latent, decoding, trajectory.sigmas, callback=callback, seed=0)
        edited = to_intermediate(edited)
        return io.NodeOutput({"samples": torch.where(mask.to(edited.device), edited, latent.to(edited))})


class MaskedDecoding(comfy.samplers.Sampler):
    """DDIM from noise; outside of the mask every step lands on the latent of the same noise level on the way there.

    deviates: diffusers puts the latent of the level before, one step too noisy, and never the clean one.
    """

    def __init__(self, latents: Tensor, mask: Tensor):
        self.latents, self.mask = latents, mask

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        x, mask = self.latents[0].to(latent_image), self.mask.to(latent_image.device)
        for i in range(len(sigmas) - 1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            denoised = guider(x, sigmas[i].expand(len(x)), **extra_args)
            x = ddim_step(x, denoised, sigmas[i], sigmas[i + 1])
            x = torch.where(mask, x, self.latents[i + 1].to(x))
            callback(i, denoised, x, len(sigmas) - 1)
        return x
