"""DiffEdit Decode: from noise to an image that is new inside the mask and unchanged outside (DiffEdit, sec. 3.2)."""

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
    """Decodes an inverted image with a new prompt inside a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_DiffEditDecode",
            display_name="DiffEdit Decode",
            category="ASUKA/DiffEdit",
            description="Runs DDIM from the inverted noise with a new prompt inside the mask, and keeps the image everywhere else.",
            search_aliases=["asuka", "diffedit", "edit by prompt", "mask-guided ddim"],
            inputs=[
                io.Model.Input("model", tooltip="The same model as for DDIM Invert."),
                io.Conditioning.Input("positive", tooltip="What to paint inside the mask."),
                io.Conditioning.Input("negative", tooltip="The empty prompt."),
                sockets.Trajectory.Input("trajectory", tooltip="From DDIM Invert."),
                io.Mask.Input("mask", tooltip="From DiffEdit Mask, or any mask of any size. White may change."),
                io.Float.Input(
                    "cfg",
                    default=7.5,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Classifier-free guidance: weight of the prompt.",
                ),
            ],
            outputs=[
                io.Latent.Output("samples", tooltip="For VAE Decode. Outside the mask it is unchanged, bit for bit.")
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
                f"the trajectory was made with a {trajectory.latent_format} model but this one is {latent_format}; use the same model as for DDIM Invert"
            )
        warn_of_masked_images(model, positive, negative)
        latent = trajectory.samples
        latent_size = latent.shape[-2:]
        if not (mask > 0.5).any():
            raise ValueError(
                "the mask is empty, so there is nothing to edit; lower the threshold of DiffEdit Mask, or paint the part to replace white"
            )
        factor = model.get_model_object("latent_format").spacial_downscale_ratio
        if near(mask.shape[-2:], latent_size, factor):
            mask = Window(mask.shape[-2:], latent_size, factor).cut(mask.unsqueeze(1)).squeeze(1)
        side = round(mask.shape[-1] / latent_size[-1])
        latent_mask = to_latent_mask(mask, latent_size)
        if not latent_mask.any():
            raise ValueError(
                f"the mask is too small: it covers more than half of no {side}x{side} latent cell; grow it with Clean Mask"
            )
        if len(latent_mask) not in (1, len(latent)):
            raise ValueError(
                f"batch sizes differ: {len(latent_mask)} masks but {len(latent)} images; use equal counts, or a single mask"
            )
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        callback = latent_preview.prepare_callback(model, len(trajectory.sigmas) - 1)
        decoding = MaskedDecoding(trajectory.latents, latent_mask)
        edited = guider.sample(torch.zeros_like(latent), latent, decoding, trajectory.sigmas, callback=callback, seed=0)
        edited = to_intermediate(edited)
        return io.NodeOutput({"samples": torch.where(latent_mask.to(edited.device), edited, latent.to(edited))})


class MaskedDecoding(comfy.samplers.Sampler):
    """DDIM from noise to the image; outside the mask each step is replaced by the inverted latent of its noise level.

    `latents` are (N + 1, B, C, h, w), the bool `latent_mask` (B or 1, 1, h, w).
    deviates: diffusers uses the latent of the previous level, one step too noisy, and never the clean one.
    """

    def __init__(self, latents: Tensor, latent_mask: Tensor):
        self.latents, self.latent_mask = latents, latent_mask

    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        """Return the edited latent (B, C, h, w) at the last of the descending `sigmas`."""
        x, latent_mask = self.latents[0].to(latent_image), self.latent_mask.to(latent_image.device)
        for i in range(len(sigmas) - 1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            denoised = guider(x, sigmas[i].expand(len(x)), **extra_args)
            x = ddim_step(x, denoised, sigmas[i], sigmas[i + 1])
            x = torch.where(latent_mask, x, self.latents[i + 1].to(x))
            callback(i, denoised, x, len(sigmas) - 1)
        return x
