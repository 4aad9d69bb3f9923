"""Harmonizing VAE Decode: latent to image beside the known pixels, without a seam."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.utils
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from . import sockets
from .networks import Network, require
from .tensors import broadcast, inpaint_inputs, nchw_to_image
from .window import Window

log = logging.getLogger(__name__)
TILE, SMALLEST_TILE, OVERLAP = 64, 16, 16  # latent cells


class ASUKA_HarmonizingVAEDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_HarmonizingVAEDecode",
            display_name="Harmonizing VAE Decode",
            category="ASUKA",
            description="Decodes a latent while looking at the known pixels and the mask, so that colours meet at the hole's edge.",
            search_aliases=["asuka", "vae decode inpaint", "seam", "color shift", "colour match"],
            inputs=[
                sockets.Decoder.Input("decoder", tooltip="From Load ASUKA."),
                io.Latent.Input("samples", tooltip="From KSampler."),
                io.Image.Input(
                    "image", tooltip="The photo that the latent was made from. Whatever is under the hole is ignored."
                ),
                io.Mask.Input("mask", tooltip="White (above 0.5) marks the hole."),
                io.Boolean.Input(
                    "keep_known",
                    default=True,
                    tooltip="Return known pixels exactly as they came. Off: as the decoder sees them.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The result, at the size of the input image.")],
        )

    @classmethod
    def execute(cls, decoder: Network, samples: dict, image: Tensor, mask: Tensor, keep_known: bool) -> io.NodeOutput:
        config = require(decoder).config
        latent = samples["samples"]
        if latent.ndim != 4 or latent.shape[1] != config.latent_channels:
            raise ValueError(
                f"the latent is {tuple(latent.shape)} but {decoder.file} decodes (batch, {config.latent_channels}, height, width); it belongs to another model"
            )
        image, mask = inpaint_inputs(image, mask)
        latent, image = broadcast("latent", latent, "image", image)
        mask, image = broadcast("mask", mask, "image", image)
        window = Window(image.shape[-2:], latent.shape[-2:], config.factor)
        decoded = window.back(decode(decoder, latent, window.cut(image), window.cut(mask)))
        if keep_known:
            image, mask = (x.to(decoded.device) for x in (image, mask))
            decoded = torch.where(mask > 0.5, decoded, image)
        mm = comfy.model_management
        return io.NodeOutput(nchw_to_image(decoded.to(mm.intermediate_device(), mm.intermediate_dtype())))


def decode(decoder: Network, latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Decodes image by image, in tiles where memory does not suffice; (B, 3, H, W) in [0, 1] on the intermediate device."""
    mm, config = comfy.model_management, decoder.config
    dtype = mm.vae_dtype(decoder.device, [torch.bfloat16, torch.float32])
    scale = (config.ch / 128) ** 2 * config.num_res_blocks / 3
    memory = int(2178 * 64 * 1.25 * scale * latent.shape[-2] * latent.shape[-1] * mm.dtype_size(dtype))
    progress = comfy.utils.ProgressBar(len(latent))
    decoded = []
    for i in range(len(latent)):
        mm.throw_exception_if_processing_interrupted()
        inputs = [x[i : i + 1].to(decoder.device, dtype) for x in (latent, image, mask)]
        try:
            result = decoder.load(memory)(*inputs)
        except Exception as error:  # what counts as out of memory differs between devices
            mm.raise_non_oom(error)
            result = None
        if result is None:  # outside of the handler, which holds on to the tensors of the failed attempt
            log.warning("Harmonizing VAE Decode ran out of memory, decoding in tiles instead")
            mm.soft_empty_cache()
            result = decode_tiled(decoder, *inputs)
        decoded.append(result.float().clamp(0, 1).to(mm.intermediate_device()))
        progress.update(1)
    return torch.cat(decoded)


def decode_tiled(decoder: Network, latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Decodes in overlapping tiles, halving them until they fit.

    Image and mask travel with the latent, folded to its resolution, so that their tiles are cut along with its own.
    """
    mm, factor = comfy.model_management, decoder.config.factor
    network, channels = decoder.patcher.model, latent.shape[1]
    packed = torch.cat([latent, F.pixel_unshuffle(image, factor), F.pixel_unshuffle(mask, factor)], dim=1)

    def decode_tile(tile: Tensor) -> Tensor:
        parts = tile.split([channels, 3 * factor**2, factor**2], dim=1)
        return network(parts[0], F.pixel_shuffle(parts[1], factor), F.pixel_shuffle(parts[2], factor)).float()

    size = TILE
    while True:
        overlap = min(OVERLAP, size // 4)
        steps = comfy.utils.get_tiled_scale_steps(latent.shape[-1], latent.shape[-2], size, size, overlap)
        try:
            return comfy.utils.tiled_scale(
                packed,
                decode_tile,
                size,
                size,
                overlap,
                factor,
                output_device=mm.intermediate_device(),
                pbar=comfy.utils.ProgressBar(steps),
            )
        except Exception as error:
            mm.raise_non_oom(error)
            if size == SMALLEST_TILE:
                raise
        size //= 2
        mm.soft_empty_cache()
