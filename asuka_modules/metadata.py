"""The description in the metadata of ASUKA files, checked against the tensors before anything is built."""

import json
import math
import typing
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from . import layouts
from .alignment import Alignment, AlignmentConfig
from .decoder import DecoderConfig, HarmonizingDecoder
from .layouts import Config, State
from .mae import MAE, MAEConfig
from .spl import SPLConfig, SPLGenerator
from .weight_file import CheckpointError, WeightFile

KEY = "asuka"  # of the description in the file's metadata
FORMAT_VERSION = 1
PARTS = {  # name of the part in a file -> network, its config
    "mae": (MAE, MAEConfig),
    "alignment": (Alignment, AlignmentConfig),
    "alignment_pooled": (Alignment, AlignmentConfig),  # FLUX: its tokens' mean is the pooled vector
    "decoder": (HarmonizingDecoder, DecoderConfig),
    "spl": (SPLGenerator, SPLConfig),
}
REPEATED = {  # number in a config -> prefix of the names of what is counted
    MAEConfig: {"depth": "blocks.", "decoder_depth": "decoder_blocks."},
    AlignmentConfig: {"depth": "blocks."},
    DecoderConfig: {"ch_mult": "decoder.up.", "num_res_blocks": "decoder.up.0.block."},
    SPLConfig: {
        "dense_blocks": "rdbs.",
        "dense_layers": "rdbs.0.layers.",
        "recon_blocks": "feature_recon.",
        "middle_blocks": "middle.",
    },
}


def describe(parts: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the metadata of a file with these networks, keyed as in `PARTS`."""
    described = {"format": FORMAT_VERSION, "parts": {name: asdict(network.config) for name, network in parts.items()}}
    return {KEY: json.dumps(described)}


def read_description(file: WeightFile) -> dict[str, Config]:
    """Read the config of each part of a file written by `save`. Raises CheckpointError if they are damaged or unknown."""
    try:
        content = json.loads(file.metadata[KEY])
        version = int(content["format"])
        described = {name: dict(config) for name, config in content["parts"].items()}
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(repr(error).split())[:200]
        raise CheckpointError(f"{file.path}: its description is damaged ({reason}); download it again") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{file.path}: format {version} is newer than {FORMAT_VERSION}; update the extension")
    if not described:
        raise CheckpointError(f"{file.path}: its description names no networks; download it again")
    configs = {}
    for name, values in described.items():
        if name not in PARTS:
            raise CheckpointError(f"{file.path}: unknown part {name[:50]!r}; expected {', '.join(PARTS)}")
        try:
            configs[name] = read_config(PARTS[name][1], values)
            require_counts(configs[name], part(file.outline, name))
        except ZeroDivisionError as error:
            raise CheckpointError(
                f"{file.path}: its description gives the {name} a size of 0; download it again"
            ) from error
        except ValueError as error:
            raise CheckpointError(f"{file.path}: {str(error)[:300]}") from error
    return configs


def part(tensors: State, name: str) -> State:
    """Return the tensors of one part, with the names that its network uses."""
    prefix = name + "."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def read_config(cls: type, values: Mapping) -> Config:
    """Make a config dataclass from JSON values. Raises ValueError for unknown keys and impossible values."""
    hints = typing.get_type_hints(cls)
    unknown = values.keys() - hints.keys()
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))[:200]}; update the extension")
    return cls(**{name: read_value(cls, name, hints[name], value) for name, value in values.items()})


def read_value(cls: type, name: str, hint: Any, value: Any) -> Any:
    """Return a JSON value as a field of type `hint`. Raises ValueError for another type, negative numbers, NaN and infinity."""
    if hint is float and type(value) in (int, float) and math.isfinite(value) and value >= 0:
        return float(value)
    if hint is int and type(value) is int and value >= 0:
        return value
    if hint in (bool, str) and type(value) is hint:
        return value
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(read_value(cls, name, int, item) for item in value)
    expected = {bool: "true or false", str: "a word", float: "a number of 0 or more"}.get(
        hint, "an integer of 0 or more"
    )
    raise ValueError(f"{cls.__name__} says {name} is {repr(value)[:50]}, expected {expected}; download it again")


def require_counts(config: Config, tensors: State) -> None:
    """Raise ValueError if the numbers of blocks in a config are not those of the tensors, since building 10^9 blocks never ends."""
    for name, prefix in REPEATED[type(config)].items():
        value, found = getattr(config, name), layouts.count(tensors, prefix)
        number = len(value) if isinstance(value, tuple) else value
        if number != found:
            raise ValueError(
                f"its description says {name} is for {number} of {prefix}*, but it holds {found}; download it again"
            )
