"""Inpaint Prepare: from a photo of any size, the part around the hole, at the size that the model works at."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from scipy import ndimage
from torch import Tensor

from ..asuka_modules.masking import fill_hole, reduce_mask, resize_known
from . import sockets
from .distance import distance_to
from .tensors import find_hole, inpaint_inputs, nchw_to_image

CELL = 8  # pixels of a latent cell
LEAST_CONTEXT = 1.25  # of a crop that cannot be square, because the holes are longer than the photo's short side


@dataclass(frozen=True)
class Stitch:
    """What Inpaint Stitch needs to put a result back."""

    image: Tensor  # the photo, IMAGE (B, H, W, C), untouched
    box: tuple[int, int, int, int]  # top, left, height, width of the crop in the photo
    hole: Tensor  # (B, height, width) bool, the hole in the crop
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
                io.Mask.Input(
                    "mask", tooltip="White marks the hole; a mask of another size is brought to the photo's."
                ),
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
                    tooltip="Side of the crop as a multiple of the hole's. More shows the model more of the scene, less keeps more detail. A crop is no smaller than resolution where the photo allows, and square unless the hole is longer than four fifths of the photo's short side.",
                ),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip="How far to grow the hole, in pixels of the photo: for shadows and soft edges that the mask misses.",
                ),
                io.Boolean.Input(
                    "fill_holes",
                    default=False,
                    optional=True,
                    tooltip="Make what the hole encloses hole, too: to draw a line around something is then enough.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    tooltip="What is above this in the mask is hole. Lower it for soft masks.",
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
    def execute(
        cls,
        image: Tensor,
        mask: Tensor,
        resolution: int,
        context: float,
        grow: int = 0,
        fill_holes: bool = False,
        threshold: float = 0.5,
    ) -> io.NodeOutput:
        hole = find_hole(image, mask, threshold)
        top, left, h, w = box = crop_box(hole, resolution, context, grow)
        rows, columns = slice(top, top + h), slice(left, left + w)
        hole = refine(hole[:, rows, columns], grow, fill_holes)
        crop, mask = inpaint_inputs(image[:, rows, columns], hole)  # cut first: nothing is computed for the rest
        scale = min(1.0, resolution / max(h, w))
        size = max(1, round(h * scale)), max(1, round(w * scale))
        if size != (h, w):
            crop, mask = resize_known(crop, mask, size), reduce_mask(mask, size, "area")
            crop = fill_hole(crop, mask, 0.5)
        padding = (0, -size[1] % CELL, 0, -size[0] % CELL)
        crop, mask = (F.pad(x, padding, mode="replicate") for x in (crop, mask))
        cells = reduce_mask(mask, (mask.shape[-2] // CELL, mask.shape[-1] // CELL), "area")
        sampling_mask = F.interpolate(cells, scale_factor=CELL, mode="nearest")
        return io.NodeOutput(nchw_to_image(crop), mask[:, 0], sampling_mask[:, 0], Stitch(image, box, hole, size))


def crop_box(hole: Tensor, resolution: int, context: float, grow: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop around all holes of a batch (B, H, W), grown.

    Square, which is what models know best, unless the holes are longer than the photo's short side.
    """
    lengths = hole.shape[1:]
    found = [hole.any(dim=axis).any(dim=0).nonzero()[:, 0] for axis in (2, 1)]
    spans = [(max(int(at[0]) - grow, 0), min(int(at[-1]) + 1 + grow, n)) for at, n in zip(found, lengths, strict=True)]
    longest = max(end - start for start, end in spans)
    side = min(max(resolution, round(context * longest)), max(min(lengths), round(LEAST_CONTEXT * longest)))
    crops = [min(side, n) for n in lengths]
    starts = [
        min(max((start + end - crop) // 2, 0), n - crop)
        for (start, end), crop, n in zip(spans, crops, lengths, strict=True)
    ]
    return *starts, *crops


def refine(hole: Tensor, grow: int, fill_holes: bool) -> Tensor:
    """(B, H, W) bool, with what it encloses if wanted, grown by so many pixels in every direction."""
    if not grow and not fill_holes:
        return hole
    progress = comfy.utils.ProgressBar(len(hole))
    refined = []
    for mask in hole.cpu().numpy():
        if fill_holes:
            mask = ndimage.binary_fill_holes(mask)
        if grow:
            mask = distance_to(mask, grow) <= grow
        refined.append(mask)
        progress.update(1)
    return torch.from_numpy(np.stack(refined)).to(hole.device)
