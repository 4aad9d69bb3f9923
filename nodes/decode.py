"""Harmonizing VAE Decode: decodes a latent given the known pixels and the mask, without a seam (ASUKA, sec. 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import comfy.model_management
import comfy.utils
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.local_decode import decode_hole, make_plan
from ..asuka_modules.seams import close_seam, grow
from . import sockets
from .checks import checked
from .networks import Missing, Network, require
from .previews import advance
from .tensors import broadcast, hide, image_and_hole
from .window import Window

log = logging.getLogger(__name__)
TILE, SMALLEST_TILE, OVERLAP = 64, 16, 16  # in latent pixels
HOLE_DILATION_PX = (
    6  # if the seam is closed, these pixels around the hole are decoded too: fills are worst at their rim
)


class ASUKA_HarmonizingVAEDecode(io.ComfyNode):
    """Decodes a latent with the harmonizing decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_HarmonizingVAEDecode",
            display_name="Harmonizing VAE Decode",
            category="ASUKA",
            description="Decodes a latent given the known pixels and the mask, so that colors match at the hole's edge.",
            search_aliases=["asuka", "vae decode inpaint", "seam", "color shift", "colour match"],
            inputs=[
                sockets.Decoder.Input("decoder", tooltip="From Load ASUKA."),
                io.Latent.Input("samples", tooltip="From KSampler."),
                io.Image.Input(
                    "image", tooltip="The image that the latent was made from. The masked content is ignored."
                ),
                io.Mask.Input("mask", tooltip="White (above 0.5) marks the hole."),
                io.Boolean.Input(
                    "keep_known",
                    default=True,
                    tooltip="Return the known pixels unchanged, bit for bit. Off: as the decoder reconstructs them.",
                ),
                io.Boolean.Input(
                    "close_seam",
                    default=True,
                    optional=True,
                    tooltip="With keep_known: shift the colors in the hole so that they match the known pixels along its whole edge (Poisson blending). Off: the decoder's own colors.",
                ),
                io.Boolean.Input(
                    "hole_only",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="With close_seam: decode only the hole and its surroundings, which saves time with small holes in large images. Colors in the hole may differ by about 1/255, with some decoders more. Off: decode the whole image.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The result, at the size of the input image.")],
        )

    @classmethod
    @checked
    def execute(
        cls,
        decoder: Network | Missing,
        samples: dict,
        image: Tensor,
        mask: Tensor,
        keep_known: bool,
        close_seam: bool = True,
        hole_only: bool = False,
    ) -> io.NodeOutput:
        decoder = require(decoder)
        config = decoder.config
        latent = samples["samples"]
        if latent.shape[1] != config.latent_channels:
            raise ValueError(
                f"the latent is {tuple(latent.shape)} but {decoder.file} decodes (batch, {config.latent_channels}, height, width); it belongs to another model"
            )
        image, hole = image_and_hole(image, mask)
        latent, image = broadcast("latent", latent, "image", image)
        hole, image = broadcast("mask", hole, "image", image)
        n, _, h, w = image.shape
        window = Window((h, w), latent.shape[-2:], config.factor)
        # One image at a time into one result: a long batch takes no memory but that.
        inputs = ([window.cut(x) for x in hide(image[i : i + 1], hole[i : i + 1])] for i in range(n))
        mm = comfy.model_management
        result = torch.empty(n, h, w, 3, device=mm.intermediate_device(), dtype=mm.intermediate_dtype())
        close = keep_known and close_seam
        for i, decoded in enumerate(decode(decoder, latent, inputs, close=close, hole_only=hole_only)):
            decoded = window.back(decoded)[0].to(result)
            if keep_known:
                decoded = torch.where(hole[i].to(result.device), decoded, image[i].to(result))
            result[i] = decoded.movedim(0, -1)
        return io.NodeOutput(result)


def decode(
    decoder: Network, latent: Tensor, inputs: Iterable[list[Tensor]], close: bool, hole_only: bool = False
) -> Iterator[Tensor]:
    """Decode `latent` (B, C, h, w), image by image, each to (1, 3, H, W) in [0, 1] on the intermediate device.

    `inputs` gives for each its image (1, 3, H, W) in [0, 1] and binary mask (1, 1, H, W). With `close` the seam is closed,
    and with `hole_only` only the hole and its surroundings are then decoded where that is faster. If memory runs out,
    decoding falls back to smaller and smaller tiles.
    """
    mm = comfy.model_management
    dtype = mm.vae_dtype(decoder.device, [torch.bfloat16, torch.float32])
    values = (
        2178 * 64 * 1.25 * decoder.config.ch / 128
    )  # per latent pixel, as ComfyUI estimates for SD's VAE, scaled by width
    memory = int(values * latent.shape[-2] * latent.shape[-1] * mm.dtype_size(dtype))
    progress = comfy.utils.ProgressBar(len(latent))
    tile = None  # whole
    for single, (known, mask) in zip(latent.split(1), inputs, strict=True):
        hole = mask.to(decoder.device)
        unseen = grow(hole, HOLE_DILATION_PX) if close else hole
        plan = make_plan(known.cpu(), hole.cpu(), unseen.cpu(), decoder.config) if close and hole_only else None
        given = [x.to(decoder.device, dtype) for x in (single, known, unseen)]
        while True:
            mm.throw_exception_if_processing_interrupted()
            try:
                if tile:
                    result = decode_tiled(decoder, tile, *given)
                elif plan:
                    result = decode_hole(decoder.load(int(memory * plan.share)), *given, plan)
                else:
                    result = decoder.load(memory)(*given)
                break
            except Exception as error:  # what counts as out of memory differs between devices
                mm.raise_non_oom(error)
                if tile == SMALLEST_TILE:
                    raise
            # outside of the handler, which holds on to the tensors of the failed attempt
            tile = tile // 2 if tile else TILE
            pixels = tile * decoder.config.factor
            log.warning("Harmonizing VAE Decode ran out of memory, decoding in tiles of %d pixels instead", pixels)
            mm.soft_empty_cache()
        if close:
            result = close_seam(result, known.to(result.device), hole.to(result.device))
        result = result.float().clamp(0, 1).to(mm.intermediate_device())
        advance(progress, result[0])
        yield result


def decode_tiled(decoder: Network, size: int, latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Decode in overlapping tiles of `size` latent pixels; the other arguments and the result are those of `decode`.

    Image and mask are folded to the latent's resolution and concatenated to it, so that all are cut into the same tiles.
    """
    network, channels, factor = decoder.patcher.model, latent.shape[1], decoder.config.factor
    packed = torch.cat([latent, F.pixel_unshuffle(image, factor), F.pixel_unshuffle(mask, factor)], dim=1)

    def decode_tile(tile: Tensor) -> Tensor:
        parts = tile.split([channels, 3 * factor**2, factor**2], dim=1)
        return network(parts[0], F.pixel_shuffle(parts[1], factor), F.pixel_shuffle(parts[2], factor)).float()

    overlap = min(OVERLAP, size // 4)
    steps = comfy.utils.get_tiled_scale_steps(latent.shape[-1], latent.shape[-2], size, size, overlap)
    return comfy.utils.tiled_scale(
        packed,
        decode_tile,
        size,
        size,
        overlap,
        factor,
        output_device=comfy.model_management.intermediate_device(),
        pbar=comfy.utils.ProgressBar(steps),
    )
