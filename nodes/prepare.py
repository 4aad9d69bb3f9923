"""Inpaint Prepare: crops an image of any size around the hole and resizes the crop for the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.masking import fill_hole, reduce_mask, resize_known
from . import sockets
from .checks import checked
from .crops import Box, Spans, crop_box, find_crops, find_spans, working_size
from .distance import within
from .regions import fill_enclosed
from .tensors import find_hole, inpaint_inputs, nchw_to_image

VAE_SCALE_FACTOR = 8  # pixels per latent pixel


@dataclass(frozen=True)
class Stitch:
    """What Inpaint Stitch needs to paste a result back."""

    image: Tensor  # IMAGE (B, H, W, C), unchanged
    box: tuple[int, int, int, int]  # top, left, height, width of the crop in the image
    hole: Tensor  # (B, height, width) bool, the hole in the crop
    size: tuple[int, int]  # height, width of the crop at working size, before padding
    others: tuple[Stitch, ...] = ()  # of crops for other holes, which follow this one in the batch


class ASUKA_InpaintPrepare(io.ComfyNode):
    """Crops around the hole, for the other nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_InpaintPrepare",
            display_name="Inpaint Prepare",
            category="ASUKA",
            description="Crops around the hole, resizes the crop for the model and fills the hole with gray.",
            search_aliases=["asuka", "inpaint crop", "crop by mask", "crop and stitch"],
            inputs=[
                io.Image.Input("image", tooltip="The image, at any size."),
                io.Mask.Input("mask", tooltip="White marks the hole. A mask of another size is resized to the image."),
                io.Int.Input(
                    "resolution",
                    default=512,
                    min=8,
                    max=4096,
                    step=8,
                    tooltip="Longest side of the crop for the model, in pixels: 512 for SD-1.5, 1024 for FLUX, 256 for the demo model. Smaller crops are not enlarged.",
                ),
                io.Float.Input(
                    "context",
                    default=2.5,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Side of the crop as a multiple of the hole's side. Higher values show the model more of the scene, lower values keep more detail. The crop is at least as large as resolution if the image allows, and square unless the hole is longer than four fifths of the image's short side.",
                ),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip="How far to grow the hole, in pixels of the image, to include shadows and soft edges that the mask misses.",
                ),
                io.Boolean.Input(
                    "fill_holes",
                    default=False,
                    optional=True,
                    tooltip="Also fill enclosed areas, so that an outline around an object is enough.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    tooltip="Mask values above this are hole. Lower it for soft masks.",
                ),
                io.Boolean.Input(
                    "separate_crops",
                    default=False,
                    optional=True,
                    tooltip="Holes that are too far apart to share a crop without losing detail get separate crops, at most 8. They form a batch that Inpaint Stitch pastes back into one image. Off: one crop around all holes.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    tooltip="The crop with gray in the hole, for MAE Prior Encode, InpaintModelConditioning and Harmonizing VAE Decode.",
                ),
                io.Mask.Output(
                    "mask", tooltip="The hole in the crop, for MAE Prior Encode and Harmonizing VAE Decode."
                ),
                io.Mask.Output(
                    "sampling_mask",
                    tooltip="The hole grown to whole latent pixels (8x8 image pixels), for InpaintModelConditioning.",
                ),
                sockets.Stitch.Output("stitch", tooltip="For Inpaint Stitch."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        image: Tensor,
        mask: Tensor,
        resolution: int,
        context: float,
        grow: int = 0,
        fill_holes: bool = False,
        threshold: float = 0.5,
        separate_crops: bool = False,
    ) -> io.NodeOutput:
        hole = find_hole(image, mask, threshold)
        found = hole.any(dim=0).cpu().numpy()
        spans = grown(find_spans(found), grow, found.shape)
        box = crop_box(spans, found.shape, resolution, context)
        if separate_crops:
            parts = split(hole, box, grow, fill_holes, resolution, context)
        else:
            refined = refine(cut(hole, box), grow, fill_holes)
            parts = [(box, refined, refined)]
        size = working_size(max((box for box, _, _ in parts), key=lambda box: max(box[2:])), resolution)
        crops = [make_crop(cut(image, box), hole, size) for box, hole, _ in parts]
        crop, mask = (torch.cat(tensors) for tensors in zip(*crops, strict=True))
        latent_mask = reduce_mask(mask, tuple(side // VAE_SCALE_FACTOR for side in mask.shape[-2:]), "area")
        sampling_mask = F.interpolate(latent_mask, scale_factor=VAE_SCALE_FACTOR, mode="nearest")
        stitches = [Stitch(image, box, own, size) for box, _, own in parts]
        stitch = replace(stitches[0], others=tuple(stitches[1:]))
        return io.NodeOutput(nchw_to_image(crop), mask[:, 0], sampling_mask[:, 0], stitch)


def grown(spans: Spans, pixels: int, lengths: tuple[int, int]) -> Spans:
    """Grow a bounding box by `pixels` on every side, within an image of size `lengths` (H, W)."""
    rows, columns = (
        (max(start - pixels, 0), min(end + pixels, n)) for (start, end), n in zip(spans, lengths, strict=True)
    )
    return rows, columns


def cut(x: Tensor, box: Box) -> Tensor:
    """Return the part of `x` (B, H, W, ...) inside `box`, as a view."""
    top, left, h, w = box
    return x[:, top : top + h, left : left + w]


def split(
    hole: Tensor, box: Box, grow: int, fill_holes: bool, resolution: int, context: float
) -> list[tuple[Box, Tensor, Tensor]]:
    """Return separate crops for the holes (B, H, W) bool inside `box`.

    Each comes with all holes in it, and the holes that it is for, both (B, height, width) bool.
    """
    whole = torch.zeros_like(hole)
    cut(whole, box).copy_(refine(cut(hole, box), grow, fill_holes))
    crops = find_crops(whole.any(dim=0).cpu().numpy(), resolution, context)
    parts = []
    for box, own in crops:
        hole = cut(whole, box)
        parts.append((box, hole, hole & cut(torch.from_numpy(own)[None], box).to(hole.device)))
    return parts


def make_crop(image: Tensor, hole: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize an IMAGE (B, H, W, C) and its hole (B, H, W) bool to `size` (h, w), and pad both to multiples of 8 pixels.

    Returns the image (B, 3, h, w) with gray in the hole and the binary mask (B, 1, h, w).
    """
    crop, mask = inpaint_inputs(image, hole)
    if size != tuple(crop.shape[-2:]):
        crop, mask = resize_known(crop, mask, size), reduce_mask(mask, size, "area")
        crop = fill_hole(crop, mask, 0.5)
    padding = (0, -size[1] % VAE_SCALE_FACTOR, 0, -size[0] % VAE_SCALE_FACTOR)
    return tuple(F.pad(x, padding, mode="replicate") for x in (crop, mask))


def refine(hole: Tensor, grow: int, fill_holes: bool) -> Tensor:
    """Return the hole (B, H, W) bool with enclosed areas filled, if wanted, and grown by `grow` pixels in every direction."""
    if not grow and not fill_holes:
        return hole
    progress = comfy.utils.ProgressBar(len(hole))
    refined = []
    for mask in hole.cpu().numpy():
        if fill_holes:
            mask = fill_enclosed(mask)
        if grow:
            mask = within(mask, grow)
        refined.append(mask)
        progress.update(1)
    return torch.from_numpy(np.stack(refined)).to(hole.device)
