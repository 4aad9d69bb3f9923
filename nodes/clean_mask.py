"""Clean Mask: prepares a detected mask for object removal."""

import comfy.utils
import numpy as np
import torch
from comfy_api.latest import io

from .checks import checked
from .distance import within
from .regions import drop_small, fill_enclosed
from .tensors import warn_if_nothing_is_known


class ASUKA_CleanMask(io.ComfyNode):
    """Drops specks, fills holes and grows a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_CleanMask",
            display_name="Clean Mask",
            category="ASUKA",
            description="Drops specks, fills holes and grows a mask, so that it covers a whole object and nothing else.",
            search_aliases=["asuka", "grow mask", "fill holes", "remove specks", "remove small regions"],
            inputs=[
                io.Mask.Input("mask", tooltip="Any mask, e.g. from DiffEdit Mask. Values above 0.5 count."),
                io.Float.Input(
                    "min_area",
                    default=0.005,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Connected regions smaller than this share of the image are dropped.",
                ),
                io.Boolean.Input("fill_holes", default=True, tooltip="Also fill enclosed areas."),
                io.Float.Input(
                    "grow",
                    default=0.03,
                    min=0.0,
                    max=0.5,
                    step=0.005,
                    tooltip="How far to grow the mask, as a share of the longer side: 0.03 is 15 pixels of 512. Include the object's shadow and soft edges.",
                ),
            ],
            outputs=[io.Mask.Output("mask", tooltip="For Inpaint Prepare.")],
        )

    @classmethod
    @checked
    def execute(cls, mask: torch.Tensor, min_area: float, fill_holes: bool, grow: float) -> io.NodeOutput:
        masks = (mask > 0.5).cpu().numpy()
        progress = comfy.utils.ProgressBar(len(masks))
        cleaned = []
        for found in masks:
            cleaned.append(clean(found, min_area, fill_holes, grow))
            progress.update(1)
        if masks.any() and not any(found.any() for found in cleaned):
            raise ValueError(
                f"every region of the mask is smaller than min_area, {min_area:.1%} of the image, so nothing is left; lower min_area"
            )
        cleaned = torch.from_numpy(np.stack(cleaned))
        warn_if_nothing_is_known(cleaned)
        return io.NodeOutput(cleaned.to(mask))


def clean(mask: np.ndarray, min_area: float, fill_holes: bool, grow: float) -> np.ndarray:
    """Return a cleaned copy of a mask (H, W) bool. Regions that touch at a corner count as one."""
    mask = drop_small(mask, min_area * mask.size)
    if fill_holes:
        mask = fill_enclosed(mask)
    return within(mask, grow * max(mask.shape)) if grow else mask
