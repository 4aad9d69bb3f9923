"""Checks a node's inputs against its schema: a link can pass values that a widget would not allow."""

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
    """Decorate a node's `execute` so that its inputs are checked before it runs.

    It then gets numbers within their limits, non-empty images (B, H, W, C), masks (B, H, W) and latents (B, C, h, w), and
    for all other inputs the annotated type. Raises ValueError otherwise, saying what was found and expected, and the remedy.
    """
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def execute_checked(cls, *args, **kwargs) -> io.NodeOutput:
        given = signature.bind(cls, *args, **kwargs)
        types, validated = get_type_hints(execute), inspect.signature(cls.validate_inputs).parameters
        for socket in cls.define_schema().inputs:
            if socket.id in given.arguments:
                value, type_ = given.arguments[socket.id], types.get(socket.id)
                given.arguments[socket.id] = check(socket, type_, value, socket.id in validated)
        return execute(*given.args, **given.kwargs)

    return execute_checked


def check(socket: io.Input, type_: type | None, value: object, validated: bool) -> object:
    """Return the value of an input, with masks and numbers converted as nodes expect. Raises ValueError if it is invalid.

    An option that the node's `validate_inputs` looks at is left to it, as ComfyUI does.
    """
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
    if kind == "COMBO" and not validated and value not in socket.options:
        raise ValueError(f"{name} is {value}, expected {' or '.join(socket.options)}; {REMEDY}")
    return SHAPES[kind](name, value) if kind in SHAPES else value


def describe(value: object) -> str:
    """Describe a value in a few words for an error message."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if value is None or isinstance(value, (str, numbers.Number)):
        return f"{value!r:.40}"
    return f"of type {type(value).__name__}"


def check_number(socket: io.Input, value: Any) -> int | float:
    """Return an int or float between the socket's limits. Raises ValueError for anything else."""
    whole = socket.get_io_type() == "INT"
    fits = isinstance(value, numbers.Real) and socket.min <= value <= socket.max  # false for NaN
    if not fits or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{socket.id} is {describe(value)}, expected {kind} from {socket.min:g} to {socket.max:g}; {REMEDY}"
        )
    return int(value) if whole else float(value)


def check_image(name: str, image: Tensor) -> Tensor:
    """Return a floating-point IMAGE (B, H, W, C). Raises ValueError for anything else."""
    require_values(name, image, 4, "(batch, height, width, channels)")
    if not image.is_floating_point():
        found = str(image.dtype).removeprefix("torch.")
        raise ValueError(
            f"the {name} has dtype {found}, expected floating-point values from 0 to 1; divide integers by 255"
        )
    return image


def check_mask(name: str, mask: Tensor) -> Tensor:
    """Return a MASK (B, H, W), without a channel axis. Raises ValueError for anything else."""
    return without_channel(mask)


def check_latent(name: str, latent: dict) -> dict:
    """Return a LATENT whose samples are finite and (B, C, h, w). Raises ValueError for anything else."""
    samples = latent.get("samples")
    if not isinstance(samples, Tensor):
        found = "nested (audio or video)" if getattr(samples, "is_nested", False) else describe(samples)
        raise ValueError(f"the latent is {found}, expected (batch, channels, height, width); {REMEDY}")
    require_values("latent", samples, 4, "(batch, channels, height, width)")
    require_finite("latent", samples, "check the KSampler, or start ComfyUI with --force-fp32")
    return latent


def check_conditioning(name: str, conditioning: list) -> list:
    """Return a non-empty CONDITIONING, a list of [tensor, options]. Raises ValueError for anything else."""
    for item in conditioning:
        if not (isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], Tensor)):
            raise ValueError(f"{name} holds {describe(item)}, expected a tensor and its options; {REMEDY}")
    if not conditioning:
        raise ValueError(f"{name} is empty, expected at least one conditioning; {REMEDY}")
    return conditioning


def check_prior(name: str, prior: Tensor) -> Tensor:
    """Return a finite MAE prior (B, N, C). Raises ValueError for anything else."""
    require_values(name, prior, 3, "(batch, tokens, width)")
    require_finite(name, prior)
    return prior


def check_vae(name: str, vae: Any) -> Any:
    """Return a VAE, of ComfyUI or of another pack. Raises ValueError for anything else."""
    if not (hasattr(vae, "encode") and hasattr(vae, "decode")):  # text has the one alone
        raise ValueError(f"{name} is {describe(vae)}, expected VAE; {REMEDY}")
    return vae


SHAPES: dict[str, Callable] = {
    "IMAGE": check_image,
    "MASK": check_mask,
    "LATENT": check_latent,
    "CONDITIONING": check_conditioning,
    "ASUKA_PRIOR": check_prior,
    "VAE": check_vae,
}
