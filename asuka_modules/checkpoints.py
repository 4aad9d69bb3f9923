"""Reads and writes ASUKA weights: safetensors files whose metadata describes the networks and their sizes."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import layouts, metadata
from .atomic import atomic_write
from .metadata import PARTS
from .weight_file import CheckpointError, NoNetworkError, WeightFile, require_finite, shard_of


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
            reason = str(error).split("\n")[0][:200]  # torch may append a C++ stack trace
            raise CheckpointError(f"{self.file}: cannot build a {self.name} from {self.config} ({reason})") from error
        missing = sorted(shapes.keys() - self.state_dict.keys())
        unexpected = sorted(self.state_dict.keys() - shapes.keys())
        size_mismatches = [
            f"{k} is {tuple(v.shape)}, not {tuple(shapes[k])}"
            for k, v in self.state_dict.items()
            if k in shapes and v.shape != shapes[k]
        ]
        integers = [key for key, value in self.state_dict.items() if not value.is_floating_point()]
        problems = [
            f"{what}: {', '.join(keys[:5])[:500]}{' ...' if len(keys) > 5 else ''} ({len(keys)})"
            for what, keys in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("size mismatch", size_mismatches),
                ("integers, perhaps quantized", integers),
            )
            if keys
        ]
        if problems:
            remedy = f"; {layouts.INCOMPLETE}" if missing else ""
            raise CheckpointError(f"{self.file}: looks like {self.format_name}, but {'; '.join(problems)}{remedy}")
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
    write(path, tensors, {**metadata.describe(parts), **info})


def write(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, str] = {}) -> None:
    """Write a safetensors file completely or not at all. Raises OSError if it cannot be written."""
    with atomic_write(path) as partial:
        save_file(dict(tensors), partial, metadata=dict(info))


def load(path: str | os.PathLike, *shards: Path) -> dict[str, Part]:
    """Load the parts of a file written by `save`, or the one part of a published file (`layouts.CHECKPOINT_FORMATS`).

    `shards` are the other shards of a sharded file.
    Raises FileNotFoundError, or CheckpointError for a file that is damaged, unknown or written by a newer version.
    """
    path = Path(path)
    file = WeightFile(path, *shards)
    if metadata.KEY in file.metadata:
        configs = metadata.read_description(file)
        tensors = file.read([key for key in file.outline if key.split(".")[0] in configs])
        return {
            name: Part(name, config, dict(metadata.part(tensors, name)), str(path), f"the {name} of an ASUKA file")
            for name, config in configs.items()
        }
    if (shard := shard_of(path)) and not shards:
        raise CheckpointError(
            f"{path}: shard {shard[1]} of {shard[2]}, but Load ASUKA reads single files; join them: python convert.py FOLDER {shard[0]}.safetensors"
        )
    checkpoint_format = recognize_format(file.outline, path)
    tensors = file.read([key for key in file.outline if checkpoint_format.owns(key)])
    return {checkpoint_format.part: read_part(checkpoint_format, tensors, path, file.outline)}


def load_part(path: str | os.PathLike, name: str) -> Part:
    """Load one part of a file. Raises as `load` does, and CheckpointError if the file does not contain it."""
    parts = load(path)
    if name not in parts:
        raise CheckpointError(f"{path}: contains no {name}, only {', '.join(parts)}")
    return parts[name]


def recognize(tensors: Mapping[str, Tensor], path: Path) -> Part:
    """Convert published weights to the network in our names. Raises CheckpointError if the format is unknown, or values are not finite."""
    checkpoint_format = recognize_format(tensors, path)
    require_finite({key: value for key, value in tensors.items() if checkpoint_format.owns(key)}, path)
    return read_part(checkpoint_format, tensors, path, tensors)


def recognize_format(tensors: Mapping[str, Tensor], path: Path) -> layouts.CheckpointFormat:
    """Return the format of the tensors of a file. Raises NoNetworkError if it is unknown."""
    try:
        return layouts.recognize(tensors)
    except layouts.FormatError as error:
        raise NoNetworkError(f"{path}: {error}") from error


def read_part(
    checkpoint_format: layouts.CheckpointFormat, tensors: Mapping[str, Tensor], path: Path, names: Iterable[str]
) -> Part:
    """Return the network in `tensors`; `names` are those of all tensors in the file. Raises CheckpointError if some are missing."""
    try:
        config, state_dict = checkpoint_format.read(tensors)
    except layouts.FormatError as error:
        raise CheckpointError(f"{path}: {error}") from error
    ignored_keys = tuple(key for key in names if not checkpoint_format.owns(key))
    return Part(checkpoint_format.part, config, state_dict, str(path), checkpoint_format.name, ignored_keys)
