"""Inpaint Stitch: pastes the inpainted crop back into the image that it came from."""

import comfy.model_management
import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.texture import transfer_texture
from . import sockets
from .checks import checked
from .distance import distance_to
from .prepare import VAE_SCALE_FACTOR, Stitch
from .tensors import broadcast, image_to_nchw, require_finite


class ASUKA_InpaintStitch(io.ComfyNode):
    """Pastes inpainted crops back into their image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_InpaintStitch",
            display_name="Inpaint Stitch",
            category="ASUKA",
            description="Pastes an inpainted crop back into the image that it came from.",
            search_aliases=["asuka", "paste back", "uncrop", "crop and stitch"],
            inputs=[
                sockets.Stitch.Input("stitch", tooltip="From Inpaint Prepare."),
                io.Image.Input("image", tooltip="The inpainted crop, from Harmonizing VAE Decode."),
                io.Int.Input(
                    "feather",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip="0: everything outside the hole stays unchanged, bit for bit. More: blend over this many pixels around the hole. Then turn off keep_known in Harmonizing VAE Decode; close_seam has no effect without it.",
                ),
                io.Float.Input(
                    "texture",
                    default=0.0,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    optional=True,
                    tooltip="For soft fills: details of the fill finer than this many pixels of the crop's working size are replaced by texture of the known pixels around it. 4 suits the demo model. 0: the fill stays unchanged.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The image at its own size, with the hole filled.")],
        )

    @classmethod
    @checked
    def execute(cls, stitch: Stitch, image: Tensor, feather: int = 0, texture: float = 0.0) -> io.NodeOutput:
        size = tuple(-(-side // VAE_SCALE_FACTOR) * VAE_SCALE_FACTOR for side in stitch.size)
        crop = image_to_nchw(image)
        if tuple(crop.shape[-2:]) != size:
            raise ValueError(
                f"the crop is {crop.shape[-1]}x{crop.shape[-2]} but Inpaint Prepare made {size[1]}x{size[0]}; connect the decoded image before any resizing"
            )
        require_finite("crop", crop)
        parts = (stitch, *stitch.others)
        if len(crop) % len(parts):
            raise ValueError(
                f"there are {len(crop)} crops but Inpaint Prepare made {len(parts)} for each image; connect all decoded images, in their order"
            )
        original = image_to_nchw(stitch.image).movedim(1, -1)
        crops = crop.movedim(1, -1).chunk(len(parts))
        original, _ = broadcast("image", original, "crop", crops[0])
        _, original = broadcast("mask", stitch.hole, "image", original)
        result = original.clone(memory_format=torch.contiguous_format)
        for part, crop in zip(parts, crops, strict=True):
            paste(part, crop, result, feather)
        if texture:
            retexture(parts, result, texture)
        return io.NodeOutput(result)


def paste(stitch: Stitch, crop: Tensor, image: Tensor, feather: int) -> None:
    """Paste a crop (B, h, w, 3) at working size into `image` (B, H, W, 3), in place. `feather` is in pixels."""
    top, left, h, w = stitch.box
    crop = crop[:, : stitch.size[0], : stitch.size[1]]
    if stitch.size != (h, w):
        enlarged = F.interpolate(crop.movedim(-1, 1).float(), (h, w), mode="bicubic", antialias=True)
        crop = enlarged.clamp(0, 1).movedim(1, -1)
    crop = crop.to(image)
    part = image[:, top : top + h, left : left + w]
    part.copy_(torch.where(stitch.hole.unsqueeze(-1), crop, part))
    if feather:
        weight = feather_weight(stitch.hole, feather)
        rows = distance_to_crop_edge(top, h, image.shape[1])
        columns = distance_to_crop_edge(left, w, image.shape[2])
        weight = weight.minimum(torch.minimum(rows[:, None], columns) / (feather + 1)).to(image).unsqueeze(-1)
        part.copy_(torch.where(weight > 0, part.lerp(crop.expand_as(part), weight), part))


def retexture(parts: tuple[Stitch, ...], image: Tensor, texture: float) -> None:
    """Give the fills in `image` (B, H, W, 3), in place, the texture of the known pixels of their crops, at full resolution.

    `texture` is in pixels of the crops' working size. No fill takes texture from another one.
    """
    filled = torch.zeros(image.shape[:-1], dtype=torch.bool, device=image.device)
    for part in parts:
        top, left, h, w = part.box
        filled[:, top : top + h, left : left + w] |= part.hole.to(image.device)
    progress = comfy.utils.ProgressBar(len(parts) * len(image))
    for part in parts:
        top, left, h, w = part.box
        rows, columns = slice(top, top + h), slice(left, left + w)
        scale = texture * max(h, w) / max(part.size)
        for i, hole in enumerate(part.hole.expand(len(image), h, w).to(image.device)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            crop = image[i : i + 1, rows, columns]
            textured = transfer_texture(image_to_nchw(crop).float(), filled[i : i + 1, None, rows, columns], scale)
            crop.copy_(torch.where(hole[..., None], textured.movedim(1, -1).to(crop), crop))
            progress.update(1)


def feather_weight(hole: Tensor, feather: int) -> Tensor:
    """Return weights (B, H, W) that fall from 1 in the hole (B, H, W) bool to 0 at `feather` pixels from it."""
    progress = comfy.utils.ProgressBar(len(hole))
    distances = []
    for mask in hole.cpu().numpy():
        distances.append(distance_to(mask, feather + 1))
        progress.update(1)
    return (1 - torch.from_numpy(np.stack(distances)) / (feather + 1)).clamp_min(0)


def distance_to_crop_edge(start: int, length: int, whole: int) -> Tensor:
    """Return the distance in pixels (length,) of each row or column to the nearest crop edge inside the image, else infinity."""
    at = torch.arange(length, dtype=torch.float64)
    before = at + 1 if start > 0 else torch.full_like(at, torch.inf)
    after = length - at if start + length < whole else torch.full_like(at, torch.inf)
    return torch.minimum(before, after)
