"""The only place where ComfyUI's tensor layouts meet the networks', and where a node's inputs are checked."""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from ..asuka_modules.masking import fill_hole

log = logging.getLogger(__name__)
FAINT = 1.5 / 255  # up to this a mask is empty: ComfyUI reads opaque pictures of some formats as 1 / 256 all over
REMEDY = "check the node it comes from"
ROUNDING = 0.02  # by which a resized mask's shape may differ from the image's


def image_to_nchw(image: Tensor) -> Tensor:
    """IMAGE (B, H, W, 3) in [0, 1] -> (B, 3, H, W); an alpha channel is dropped, a single channel is grey."""
    if image.shape[-1] < 3:
        image = image[..., :1].expand(*image.shape[:-1], 3)
    return image[..., :3].movedim(-1, 1)


def nchw_to_image(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> IMAGE (B, H, W, 3)."""
    return image.movedim(1, -1).contiguous()


def find_hole(image: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """IMAGE (B, H, W, C), MASK (B, H, W) -> (B, H, W) bool, true in the hole.

    The hole is where the mask is above `threshold`, and above `FAINT`, so that a brush that is not quite opaque still counts. (H, W),
    (B, 1, H, W) and (B, H, W, 1) are masks, too; a smaller or larger one is brought to the image's size. Raises ValueError
    for a mask of another shape than the image's, and for one without a hole.
    """
    mask = without_channel(mask).to(image.device)
    if mask.shape[-2:] != image.shape[1:3]:
        mask = fit_mask(mask, image.shape[1:3])
    hole = mask > max(threshold, FAINT)
    if not hole.any():
        if (mask > FAINT).any():
            raise ValueError(
                f"the mask is {mask.max():.2f} at most but the hole begins above {threshold:g}; paint it with an opaque or thicker brush, or lower threshold in Inpaint Prepare"
            )
        raise ValueError("the mask is empty, so there is nothing to inpaint; paint the part to replace white")
    return hole


def without_channel(mask: Tensor) -> Tensor:
    """(B, H, W) floating-point from whatever nodes pass on as a MASK. Raises ValueError for anything that is none."""
    if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[3]):
        mask = mask.squeeze(1 if mask.shape[1] == 1 else 3)
    elif mask.ndim == 2:
        mask = mask.unsqueeze(0)
    if mask.ndim != 3:
        raise ValueError(
            f"the mask is {tuple(mask.shape)}, expected (batch, height, width); take one channel of it with Convert Image to Mask"
        )
    require_values("mask", mask, 3, "(batch, height, width)")
    mask = mask if mask.is_floating_point() else mask.float()
    require_finite("mask", torch.stack(mask.aminmax()))  # two numbers say it for all, without another mask's memory
    return mask


def fit_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask (B, h, w) of the image's shape at the image's size (H, W): masks that were found are often smaller."""
    (h, w), (height, width) = mask.shape[-2:], size
    found = f"the mask is {w}x{h} but the image is {width}x{height}"
    if (h, w) == (64, 64) and not (mask > FAINT).any():
        raise ValueError(
            f"{found}: Load Image gives an empty 64x64 mask for a picture without alpha; draw a mask (right-click, Open in Mask Editor)"
        )
    if abs(h * width - w * height) > ROUNDING * w * height:
        raise ValueError(f"{found}, which is another shape; connect this image's mask, or crop one of them")
    return F.interpolate(mask[:, None].float(), size, mode="bilinear", antialias=True)[:, 0]


def inpaint_inputs(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """IMAGE (B, H, W, 3), MASK (B, H, W) -> image (B, 3, H, W) with an empty hole, binary mask (B, 1, H, W), 1 = hole.

    One mask serves all images and one image all masks. What lies under the hole is replaced by grey. Raises ValueError as
    `find_hole` does, for batches that do not fit, and for known pixels that are not finite.
    """
    hole = find_hole(image, mask)
    warn_if_nothing_is_known(hole)
    mask = hole.to(image.dtype).unsqueeze(1)
    image, mask = broadcast("image", image_to_nchw(image), "mask", mask)
    image = fill_hole(image, mask, 0.5)
    require_finite("image", image)
    return image, mask


def warn_if_nothing_is_known(hole: Tensor) -> None:
    """Logs a warning for masks (B, H, W) bool of which one is all hole: there is nothing to go by."""
    if hole.flatten(1).all(dim=1).any():
        log.warning(
            "the mask leaves no known pixel, so that the fill has nothing to go by; make the mask smaller, raise context, or switch off fill_holes"
        )


def require_values(name: str, tensor: Tensor, axes: int, expected: str) -> None:
    """Raises ValueError for a tensor of another number of axes, and for one without any value."""
    if tensor.ndim != axes or not tensor.numel():
        raise ValueError(f"the {name} is {tuple(tensor.shape)}, expected {expected} and none of them 0; {REMEDY}")


def require_finite(name: str, values: Tensor, remedy: str = REMEDY) -> None:
    if not torch.isfinite(values).all():
        raise ValueError(f"the {name} holds values that are not numbers (NaN or infinity); {remedy}")


def broadcast(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Repeats a batch of one to the length of the other. Raises ValueError where neither is one nor both are equal."""
    n = max(len(a), len(b))
    for x in (a, b):
        if len(x) not in (1, n):
            raise ValueError(
                f"there are {len(a)} of {name_a} but {len(b)} of {name_b}; give one for each, or one for all"
            )
    return a.expand(n, *a.shape[1:]), b.expand(n, *b.shape[1:])
