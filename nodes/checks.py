"""What a node was given, checked against its schema: a link passes on what a widget would not let through."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, get_type_hints

import numpy as np
from comfy_api.latest import io
from torch import Tensor

from .tensors import REMEDY, require_finite, require_values, without_channel


def checked(execute: Callable) -> Callable:
    """Decorates a node's `execute`, which then gets numbers within their limits, images (B, H, W, C), masks (B, H, W)
    and latents (B, C, h, w) of at least one value, and everything else of the type that it is annotated with.

    Raises ValueError for anything else: what was found, what was expected, what to do.
    """
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def execute_checked(cls, *args, **kwargs) -> io.NodeOutput:
        given = signature.bind(cls, *args, **kwargs)
        types = get_type_hints(execute)
        for socket in cls.define_schema().inputs:
            if socket.id in given.arguments:
                value, type_ = given.arguments[socket.id], types.get(socket.id)
                given.arguments[socket.id] = check(socket, type_, value)
        return execute(*given.args, **given.kwargs)

    return execute_checked


def check(socket: io.Input, type_: type | None, value: object) -> object:
    """The value of an input, masks and numbers as nodes expect them. Raises ValueError for one that does not fit."""
    name, kind = socket.id, socket.get_io_type()
    if kind in ("INT", "FLOAT"):
        return check_number(socket, value)
    if kind == "BOOLEAN":
        if not isinstance(value, (numbers.Integral, np.bool_)) or value not in (0, 1):
            raise ValueError(f"{name} is {describe(value)}, expected true or false; {REMEDY}")
        return bool(value)
    if value is None and socket.optional:
        return None
    if value is None or (type_ is not None and not isinstance(value, type_)):
        raise ValueError(f"{name} is {describe(value)}, expected {kind}; {REMEDY}")
    if kind == "COMBO" and value not in socket.options:
        raise ValueError(f"{name} is {value}, expected {' or '.join(socket.options)}; {REMEDY}")
    return SHAPES[kind](name, value) if kind in SHAPES else value


def describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if value is None or isinstance(value, (str, numbers.Number)):
        return f"{value!r:.40}"
    return f"of type {type(value).__name__}"


def check_number(socket: io.Input, value: Any) -> int | float:
    whole = socket.get_io_type() == "INT"
    fits = isinstance(value, numbers.Real) and socket.min <= value <= socket.max  # which NaN is not
    if not fits or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{socket.id} is {describe(value)}, expected {kind} from {socket.min:g} to {socket.max:g}; {REMEDY}"
        )
    return int(value) if whole else float(value)


def check_image(name: str, image: Tensor) -> Tensor:
    require_values(name, image, 4, "(batch, height, width, channels)")
    if not image.is_floating_point():
        found = str(image.dtype).removeprefix("torch.")
        raise ValueError(
            f"the {name} holds {found} numbers, expected floating-point numbers from 0 to 1; divide whole numbers by 255"
        )
    return image


def check_mask(name: str, mask: Tensor) -> Tensor:
    return without_channel(mask)


def check_latent(name: str, latent: dict) -> dict:
    samples = latent.get("samples")
    if not isinstance(samples, Tensor):
        found = "of several kinds" if getattr(samples, "is_nested", False) else describe(samples)
        raise ValueError(f"the latent is {found}, expected (batch, channels, height, width); {REMEDY}")
    require_values("latent", samples, 4, "(batch, channels, height, width)")
    require_finite("latent", samples, "check the KSampler, or start ComfyUI with --force-fp32")
    return latent


def check_conditioning(name: str, conditioning: list) -> list:
    for item in conditioning:
        if not (isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], Tensor)):
            raise ValueError(f"{name} holds {describe(item)}, expected a tensor and its options; {REMEDY}")
    if not conditioning:
        raise ValueError(f"{name} is empty, expected at least one conditioning; {REMEDY}")
    return conditioning


def check_prior(name: str, prior: Tensor) -> Tensor:
    require_values(name, prior, 3, "(batch, tokens, width)")
    require_finite(name, prior)
    return prior


SHAPES: dict[str, Callable] = {
    "IMAGE": check_image,
    "MASK": check_mask,
    "LATENT": check_latent,
    "CONDITIONING": check_conditioning,
    "ASUKA_PRIOR": check_prior,
}
