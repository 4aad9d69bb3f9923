"""Reads and writes ASUKA weights: safetensors files whose metadata describes the networks and their sizes."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import layouts
from .alignment import Alignment, AlignmentConfig
from .atomic import atomic_write
from .decoder import DecoderConfig, HarmonizingDecoder
from .mae import MAE, MAEConfig
from .spl import SPLConfig, SPLGenerator

FORMAT_VERSION = 1
PARTS = {  # name of the part in a file -> network, its config
    "mae": (MAE, MAEConfig),
    "alignment": (Alignment, AlignmentConfig),
    "alignment_pooled": (Alignment, AlignmentConfig),  # FLUX: its tokens' mean is the pooled vector
    "decoder": (HarmonizingDecoder, DecoderConfig),
    "spl": (SPLGenerator, SPLConfig),
}


class CheckpointError(ValueError):
    """An unusable weight file; the message gives the file, what was found and what was expected."""


@dataclass(frozen=True)
class Part:
    """One network of a weight file: its config and its tensors, not yet built."""

    name: str
    config: layouts.Config
    state_dict: dict[str, Tensor]
    file: str
    format_name: str  # e.g. "transformers' ViTMAE"
    ignored_keys: tuple[str, ...] = ()  # tensors of the file that are not part of the network

    def build(self, operations=nn, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """Build the network with its weights, in `dtype` (default: that of the file) and evaluation mode.

        Raises CheckpointError if the names or shapes of the tensors do not match the network.
        """
        try:
            with torch.device("meta"):
                # Torch's layers give the shapes: ComfyUI's have no weights before loading.
                shapes = {key: value.shape for key, value in PARTS[self.name][0](self.config).state_dict().items()}
                network = PARTS[self.name][0](self.config, operations)
        except Exception as error:  # torch's layers object to impossible sizes in many ways
            raise CheckpointError(f"{self.file}: cannot build a {self.name} from {self.config} ({error})") from error
        missing = sorted(shapes.keys() - self.state_dict.keys())
        unexpected = sorted(self.state_dict.keys() - shapes.keys())
        size_mismatches = [
            f"{k} is {tuple(v.shape)}, not {tuple(shapes[k])}"
            for k, v in self.state_dict.items()
            if k in shapes and v.shape != shapes[k]
        ]
        integers = [key for key, value in self.state_dict.items() if not value.is_floating_point()]
        problems = [
            f"{what}: {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''} ({len(keys)})"
            for what, keys in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("size mismatch", size_mismatches),
                ("integers, perhaps quantized", integers),
            )
            if keys
        ]
        if problems:
            raise CheckpointError(f"{self.file}: looks like {self.format_name}, but {'; '.join(problems)}")
        network.load_state_dict(self.state_dict, assign=True)
        # Convolutions are faster with channels_last: the full-size decode takes an eighth less time on a CPU.
        return network.to(device=device, dtype=dtype, memory_format=torch.channels_last).eval()


def save(path: str | os.PathLike, parts: Mapping[str, nn.Module], info: Mapping[str, str] = {}, dtype=None) -> None:
    """Write networks, keyed as in `PARTS`, atomically to one safetensors file; `info` has additional metadata strings."""
    path = Path(path)
    tensors = {
        f"{name}.{key}": (value.to(dtype) if dtype else value).detach().cpu().contiguous()
        for name, network in parts.items()
        for key, value in network.state_dict().items()
    }
    described = {"format": FORMAT_VERSION, "parts": {name: asdict(network.config) for name, network in parts.items()}}
    write(path, tensors, {"asuka": json.dumps(described), **info})


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = {}) -> None:
    """Write a safetensors file completely or not at all. Raises OSError if it cannot be written."""
    with atomic_write(path) as partial:
        save_file(dict(tensors), partial, metadata=dict(metadata))


def load(path: str | os.PathLike) -> dict[str, Part]:
    """Load the parts of a file written by `save`, or the one part of a published file (`layouts.CHECKPOINT_FORMATS`).

    Raises FileNotFoundError, or CheckpointError for a file that is damaged, unknown or written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        if looks_like_pickle(path):
            raise CheckpointError(
                f"{path}: looks like a PyTorch pickle, which could run code; a safetensors file was expected: python convert.py {path.name} {path.stem}.safetensors"
            ) from error
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); download it again") from error
    if "asuka" in metadata:
        return described(metadata["asuka"], tensors, path)
    part = recognize(tensors, path)
    return {part.name: part}


def load_part(path: str | os.PathLike, name: str) -> Part:
    """Load one part of a file. Raises as `load` does, and CheckpointError if the file does not contain it."""
    parts = load(path)
    if name not in parts:
        raise CheckpointError(f"{path}: contains no {name}, only {', '.join(parts)}")
    return parts[name]


def looks_like_pickle(path: Path) -> bool:
    """Return whether a file is a PyTorch pickle, by its first two bytes."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")  # PyTorch's zip archives, and its older plain pickles


def described(description: str, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Part]:
    """Read the parts of a file written by `save` from its metadata. Raises CheckpointError if they are damaged or unknown."""
    try:
        content = json.loads(description)
        version = int(content["format"])
        configs = {name: dict(config) for name, config in content["parts"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description is damaged ({error!r}); download it again") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path}: format {version} is newer than {FORMAT_VERSION}; update the extension")
    parts = {}
    for name, config in configs.items():
        if name not in PARTS:
            raise CheckpointError(f"{path}: unknown part {name!r}; expected {', '.join(PARTS)}")
        prefix = name + "."
        state_dict = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        config = read_config(PARTS[name][1], config, path)
        parts[name] = Part(name, config, state_dict, str(path), f"the {name} of an ASUKA file")
    return parts


def recognize(tensors: Mapping[str, Tensor], path: Path) -> Part:
    """Convert published weights to the network in our names. Raises CheckpointError if the format is unknown."""
    try:
        checkpoint_format = layouts.recognize(tensors)
        config, state_dict = checkpoint_format.read(tensors)
    except layouts.FormatError as error:
        raise CheckpointError(f"{path}: {error}") from error
    ignored_keys = tuple(key for key in tensors if not checkpoint_format.owns(key))
    return Part(checkpoint_format.part, config, state_dict, str(path), checkpoint_format.name, ignored_keys)


def read_config(cls: type, values: Mapping, path: Path):
    """Make a config dataclass from JSON values. Raises CheckpointError for unknown keys."""
    unknown = values.keys() - {field.name for field in fields(cls)}
    if unknown:
        raise CheckpointError(f"{path}: {cls.__name__} has no {', '.join(sorted(unknown))}; update the extension")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
