"""The only place where tensors change between ComfyUI's layout and the networks', with the checks of images and masks."""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from ..asuka_modules.masking import fill_hole

log = logging.getLogger(__name__)
FAINT = 1.5 / 255  # a mask up to this is empty: ComfyUI reads opaque images of some formats as 1 / 256 everywhere
REMEDY = "check the node it comes from"
ASPECT_TOLERANCE = 0.02  # by which the aspect ratio of a resized mask may differ from the image's


def image_to_nchw(image: Tensor) -> Tensor:
    """Convert an IMAGE (B, H, W, C) to (B, 3, H, W), both in [0, 1]: alpha is dropped, a single channel becomes gray."""
    if image.shape[-1] < 3:
        image = image[..., :1].expand(*image.shape[:-1], 3)
    return image[..., :3].movedim(-1, 1)


def nchw_to_image(image: Tensor) -> Tensor:
    """Convert (B, 3, H, W) to a contiguous IMAGE (B, H, W, 3), both in [0, 1]."""
    return image.movedim(1, -1).contiguous()


def find_hole(image: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the hole (B, H, W) bool of a MASK (B, H, W) for an IMAGE (B, H, W, C).

    The hole is where the mask is above both `threshold` and `FAINT`, so that a brush that is not quite opaque still counts.
    Masks may also be (H, W), (B, 1, H, W) or (B, H, W, 1), and are resized to the image. Raises ValueError for a mask with
    another aspect ratio, and for one without a hole.
    """
    mask = without_channel(mask).to(image.device)
    if mask.shape[-2:] != image.shape[1:3]:
        mask = fit_mask(mask, image.shape[1:3])
    hole = mask > max(threshold, FAINT)
    if not hole.any():
        if (mask > FAINT).any():
            raise ValueError(
                f"the mask is at most {mask.max():.2f} but the hole must be above {threshold:g}; paint it with an opaque or thicker brush, or lower threshold in Inpaint Prepare"
            )
        raise ValueError("the mask is empty, so there is nothing to inpaint; paint the part to replace in white")
    return hole


def without_channel(mask: Tensor) -> Tensor:
    """Convert any tensor that nodes pass as a MASK to floating-point (B, H, W). Raises ValueError for anything else."""
    require_dense("mask", mask)
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
    require_finite("mask", mask)
    return mask


def fit_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask (B, h, w) to the image's `size` (H, W): detected masks are often smaller.

    Raises ValueError if its aspect ratio differs from the image's, and for the empty mask that Load Image gives.
    """
    (h, w), (height, width) = mask.shape[-2:], size
    found = f"the mask is {w}x{h} but the image is {width}x{height}"
    if (h, w) == (64, 64) and not (mask > FAINT).any():
        raise ValueError(
            f"{found}: Load Image gives an empty 64x64 mask for an image without alpha; draw a mask (right-click, Open in Mask Editor)"
        )
    if abs(h * width - w * height) > ASPECT_TOLERANCE * w * height:
        raise ValueError(f"{found}, with another aspect ratio; connect this image's mask, or crop one of them")
    return F.interpolate(mask[:, None].float(), size, mode="bilinear", antialias=True)[:, 0]


def inpaint_inputs(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Convert an IMAGE (B, H, W, C) and a MASK (B, H, W) to (B, 3, H, W) in [0, 1] and a binary mask (B, 1, H, W), 1 = hole.

    The masked content is replaced by gray. Raises ValueError as `image_and_hole` does.
    """
    image, hole = image_and_hole(image, mask)
    return hide(image, hole)


def image_and_hole(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return an IMAGE (B, H, W, C) as (B, 3, H, W) in [0, 1] and the hole of its MASK (B, H, W) as (B, 1, H, W) bool.

    The image is a view, so that a long batch takes no second copy: `hide` its masked content image by image. A batch of one
    is repeated to the length of the other. Raises ValueError as `find_hole` does, if the batch sizes differ otherwise, and
    for known pixels that are not finite.
    """
    hole = find_hole(image, mask)
    warn_if_nothing_is_known(hole)
    image, hole = broadcast("image", image_to_nchw(image), "mask", hole.unsqueeze(1))
    for single in zip(image.split(1), hole.split(1), strict=True):
        require_finite("image", hide(*single)[0])
    return image, hole


def hide(image: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    """Return `image` (B, 3, H, W) with gray in the `hole` (B, 1, H, W) bool, and the hole as a binary mask, 1 = hole."""
    return fill_hole(image, hole, 0.5), hole.to(image.dtype)


def warn_if_nothing_is_known(hole: Tensor) -> None:
    """Log a warning if one of the masks (B, H, W) bool leaves no known pixel."""
    if hole.flatten(1).all(dim=1).any():
        log.warning(
            "the mask leaves no known pixel to continue from; make the mask smaller, raise context, or turn off fill_holes"
        )


def require_values(name: str, tensor: Tensor, axes: int, expected: str) -> None:
    """Raise ValueError if a tensor has another number of axes, is empty, or is of a kind that torch cannot compute with."""
    require_dense(name, tensor)
    if tensor.ndim != axes or not tensor.numel():
        raise ValueError(f"the {name} is {tuple(tensor.shape)}, expected {expected} and none of them 0; {REMEDY}")


def require_dense(name: str, tensor: Tensor) -> None:
    """Raise ValueError for sparse, nested and meta tensors, and for complex numbers and fp8."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
        raise ValueError(f"the {name} is not a dense tensor in memory; {REMEDY}")
    if tensor.is_complex() or (tensor.is_floating_point() and tensor.element_size() == 1):
        found = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"the {name} has dtype {found}, expected float32 or float16; {REMEDY}")


def require_finite(name: str, values: Tensor, remedy: str = REMEDY) -> None:
    """Raise ValueError if a tensor of any shape contains NaN or infinity."""
    extremes = torch.stack(values.aminmax())  # NaN and infinity show in these two, without the memory of another tensor
    if not torch.isfinite(extremes).all():
        raise ValueError(f"the {name} holds values that are not numbers (NaN or infinity); {remedy}")


def broadcast(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat a batch of one, (1, ...), to the length of the other. Raises ValueError if the lengths differ otherwise."""
    n = max(len(a), len(b))
    for x in (a, b):
        if len(x) not in (1, n):
            raise ValueError(
                f"batch sizes differ: {len(a)} of {name_a} but {len(b)} of {name_b}; use equal counts, or a single one"
            )
    return a.expand(n, *a.shape[1:]), b.expand(n, *b.shape[1:])
