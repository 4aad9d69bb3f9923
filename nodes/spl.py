"""Inpaint (SPL): fills the hole in one pass, without a diffusion model (Zhang et al., IJCAI 2021)."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.masking import reduce_mask, resize_known
from . import sockets
from .checks import checked
from .networks import Missing, Network, require
from .previews import advance
from .tensors import hide, image_and_hole

MULTIPLE, SMALLEST = 4, 16  # of the network's input sides, in pixels


class ASUKA_InpaintSPL(io.ComfyNode):
    """Fills the hole of an image with the SPL generator."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_InpaintSPL",
            display_name="Inpaint (SPL)",
            category="ASUKA",
            description="Fills the hole in one pass with a network that first predicts the semantics of the scene. Fast. Use the result as it is, or as prior_image of MAE Prior Encode.",
            search_aliases=["asuka", "spl", "inpaint fast", "object removal", "semantic prior", "lama"],
            inputs=[
                sockets.SPL.Input("spl", tooltip="From Load ASUKA."),
                io.Image.Input("image", tooltip="The image, at any size. The masked content is ignored."),
                io.Mask.Input("mask", tooltip="White (above 0.5) marks the hole."),
                io.Int.Input(
                    "resolution",
                    default=256,
                    min=64,
                    max=2048,
                    step=4,
                    tooltip="Longest side of the network's input in pixels. 256, the size it was trained at, works best. Smaller images are not enlarged.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    tooltip="The image at its own size, with the hole filled and everything else unchanged, bit for bit.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, spl: Network | Missing, image: Tensor, mask: Tensor, resolution: int) -> io.NodeOutput:
        mm, spl = comfy.model_management, require(spl)
        image, hole = image_and_hole(image, mask)
        n, _, h, w = image.shape
        scale = min(1.0, resolution / max(h, w))
        size = max(1, round(h * scale)), max(1, round(w * scale))
        memory = int(size[0] * size[1] * spl.config.ch * 4 * 24)  # fp32, at twice the size
        progress = comfy.utils.ProgressBar(n)
        # One image at a time into one result: a long batch takes no memory but that.
        filled = torch.empty(n, h, w, 3, device=mm.intermediate_device(), dtype=mm.intermediate_dtype())
        for i in range(n):
            mm.throw_exception_if_processing_interrupted()
            single, single_hole = (x.float() for x in hide(image[i : i + 1], hole[i : i + 1]))
            # Resized before they move, so that the device never holds the image at its own size.
            if size != (h, w):
                single, single_hole = (
                    resize_known(single, single_hole, size),
                    reduce_mask(single_hole, size, "area"),
                )
            result = fill(spl.load(memory), single.to(spl.device), single_hole.to(spl.device)).to(image.device)
            result = F.interpolate(result, (h, w), mode="bicubic", antialias=True)
            result = result.clamp(0, 1).to(image)[0]
            advance(progress, result)
            filled[i] = torch.where(hole[i], result, image[i]).movedim(0, -1)
        return io.NodeOutput(filled)


def fill(network, image: Tensor, mask: Tensor) -> Tensor:
    """Complete an image (B, 3, H, W) in [0, 1] of any size with binary mask (B, 1, H, W): padded, run, and cropped back."""
    h, w = image.shape[-2:]
    right, bottom = (max(SMALLEST, side + -side % MULTIPLE) - side for side in (w, h))
    image, mask = (F.pad(x, (0, right, 0, bottom), mode="replicate") for x in (image, mask))
    return network(image, mask)[0][:, :, :h, :w]
