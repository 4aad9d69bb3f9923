"""Inpaint Prepare and Inpaint Stitch: any photo in, the size that the model works at between, the same photo out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.masking import fill_hole, reduce_mask, resize_known
from . import sockets
from .tensors import broadcast, image_to_nchw, inpaint_inputs, nchw_to_image

CELL = 8  # pixels of a latent cell


@dataclass(frozen=True)
class Stitch:
    """What Inpaint Stitch needs to put a result back."""

    image: Tensor  # the photo, IMAGE (B, H, W, C), untouched
    mask: Tensor  # (B, 1, H, W) binary
    box: tuple[int, int, int, int]  # top, left, height, width of the crop in the photo
    size: tuple[int, int]  # height, width of the crop at working size, before padding


class ASUKA_InpaintPrepare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_InpaintPrepare",
            display_name="Inpaint Prepare",
            category="ASUKA",
            description="Crops around the hole, brings the crop to the model's size and empties the hole.",
            search_aliases=["asuka", "inpaint crop", "crop by mask", "crop and stitch"],
            inputs=[
                io.Image.Input("image", tooltip="The photo, at any size."),
                io.Mask.Input("mask", tooltip="White (above 0.5) marks the hole."),
                io.Int.Input(
                    "resolution",
                    default=512,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Longest side, in pixels, that the model works at: 512 for SD-1.5, 1024 for FLUX, 256 for the miniature. Smaller crops are not enlarged.",
                ),
                io.Float.Input(
                    "context",
                    default=2.5,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Side of the crop as a multiple of the hole's. More shows the model more of the scene, less keeps more detail. A crop is never smaller than resolution.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    tooltip="The crop with grey in the hole: for MAE Prior Encode, InpaintModelConditioning and Harmonizing VAE Decode.",
                ),
                io.Mask.Output(
                    "mask", tooltip="The hole in the crop: for MAE Prior Encode and Harmonizing VAE Decode."
                ),
                io.Mask.Output(
                    "sampling_mask",
                    tooltip="The hole grown to whole latent cells of 8 pixels: for InpaintModelConditioning.",
                ),
                sockets.Stitch.Output("stitch", tooltip="For Inpaint Stitch."),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, mask: Tensor, resolution: int, context: float) -> io.NodeOutput:
        photo = image
        image, mask = inpaint_inputs(image, mask)
        top, left, h, w = box = crop_box(mask, resolution, context)
        crop, hole = (x[:, :, top : top + h, left : left + w] for x in (image, mask))
        scale = min(1.0, resolution / max(h, w))
        size = max(1, round(h * scale)), max(1, round(w * scale))
        if size != (h, w):
            crop, hole = resize_known(crop, hole, size), reduce_mask(hole, size, "area")
            crop = fill_hole(crop, hole, 0.5)
        padding = (0, -size[1] % CELL, 0, -size[0] % CELL)
        crop, hole = (F.pad(x, padding, mode="replicate") for x in (crop, hole))
        cells = reduce_mask(hole, (hole.shape[-2] // CELL, hole.shape[-1] // CELL), "area")
        sampling_mask = F.interpolate(cells, scale_factor=CELL, mode="nearest")
        stitch = Stitch(photo, mask, box, size)
        return io.NodeOutput(nchw_to_image(crop), hole[:, 0], sampling_mask[:, 0], stitch)


def crop_box(mask: Tensor, resolution: int, context: float) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop around all holes of a batch, square where the photo allows."""
    rows, columns = (mask.amax((0, 1, axis)).nonzero()[:, 0] for axis in (3, 2))
    spans = [(int(r[0]), int(r[-1]) + 1) for r in (rows, columns)]
    side = max(resolution, round(context * max(end - start for start, end in spans)))
    starts, lengths = [], []
    for (start, end), length in zip(spans, mask.shape[-2:], strict=True):
        crop = min(side, length)
        starts.append(min(max((start + end - crop) // 2, 0), length - crop))
        lengths.append(crop)
    return *starts, *lengths


class ASUKA_InpaintStitch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_InpaintStitch",
            display_name="Inpaint Stitch",
            category="ASUKA",
            description="Puts an inpainted crop back into the photo it came from.",
            search_aliases=["asuka", "paste back", "uncrop", "crop and stitch"],
            inputs=[
                sockets.Stitch.Input("stitch", tooltip="From Inpaint Prepare."),
                io.Image.Input("image", tooltip="The inpainted crop, from Harmonizing VAE Decode."),
            ],
            outputs=[
                io.Image.Output(
                    "image", tooltip="The photo at its own size; everything outside of the hole is exactly as it was."
                )
            ],
        )

    @classmethod
    def execute(cls, stitch: Stitch, image: Tensor) -> io.NodeOutput:
        top, left, h, w = stitch.box
        size = tuple(-(-side // CELL) * CELL for side in stitch.size)
        crop = image_to_nchw(image)
        if tuple(crop.shape[-2:]) != size:
            raise ValueError(
                f"the crop is {crop.shape[-1]}x{crop.shape[-2]} but Inpaint Prepare made {size[1]}x{size[0]}; connect the image decoded from it, before any resizing"
            )
        crop = crop[:, :, : stitch.size[0], : stitch.size[1]]
        if stitch.size != (h, w):
            crop = F.interpolate(crop, (h, w), mode="bicubic", antialias=True).clamp(0, 1)
        photo, crop = broadcast("photo", image_to_nchw(stitch.image), "crop", crop)
        mask, photo = broadcast("mask", stitch.mask, "photo", photo)
        result = photo.to(crop.dtype).clone()
        part = result[:, :, top : top + h, left : left + w]
        part.copy_(torch.where(mask[:, :, top : top + h, left : left + w] > 0.5, crop, part))
        return io.NodeOutput(nchw_to_image(result))
