"""Reading and writing ASUKA weights: safetensors whose metadata says what is inside and how it is shaped."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .alignment import Alignment, AlignmentConfig
from .decoder import DecoderConfig, HarmonizingDecoder
from .mae import MAE, MAEConfig
from .spl import SPLConfig, SPLGenerator

FORMAT = 1
PARTS = {  # name of the part in a file -> network, its config
    "mae": (MAE, MAEConfig),
    "alignment": (Alignment, AlignmentConfig),
    "decoder": (HarmonizingDecoder, DecoderConfig),
    "spl": (SPLGenerator, SPLConfig),
}


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names the file, what was found and what was expected."""


@dataclass(frozen=True)
class Part:
    """One network of a weight file: its config and its tensors, not yet built."""

    name: str
    config: MAEConfig | AlignmentConfig | DecoderConfig | SPLConfig
    state_dict: dict[str, Tensor]
    file: str

    def build(self, operations=nn, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """The network with its weights, in `dtype` (default: the file's own), in evaluation mode.

        Raises CheckpointError where names or shapes of the tensors are not those of the network.
        """
        with torch.device("meta"):
            network = PARTS[self.name][0](self.config, operations)
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        missing = sorted(shapes.keys() - self.state_dict.keys())
        unexpected = sorted(self.state_dict.keys() - shapes.keys())
        misshapen = [
            f"{k} is {tuple(v.shape)}, not {tuple(shapes[k])}"
            for k, v in self.state_dict.items()
            if k in shapes and v.shape != shapes[k]
        ]
        problems = [
            f"{what}: {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''} ({len(keys)})"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
            if keys
        ]
        if problems:
            raise CheckpointError(f"{self.file}: not the {self.name} its metadata describes; {'; '.join(problems)}")
        network.load_state_dict(self.state_dict, assign=True)
        return network.to(device=device, dtype=dtype).eval()


def save(path: str | os.PathLike, parts: Mapping[str, nn.Module], info: Mapping[str, str] = {}, dtype=None) -> None:
    """Writes networks, keyed as in `PARTS`, into one safetensors file, atomically; `info` are free metadata strings."""
    path = Path(path)
    tensors = {
        f"{name}.{key}": (value.to(dtype) if dtype else value).detach().cpu().contiguous()
        for name, network in parts.items()
        for key, value in network.state_dict().items()
    }
    described = {"format": FORMAT, "parts": {name: asdict(network.config) for name, network in parts.items()}}
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={"asuka": json.dumps(described), **info})
    os.replace(temporary, path)


def load(path: str | os.PathLike) -> dict[str, Part]:
    """The parts of a file written by `save`.

    Raises FileNotFoundError, or CheckpointError for a file that is damaged, foreign or made by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); download it again") from error
    if "asuka" not in metadata:
        some = ", ".join(sorted(tensors)[:5])
        raise CheckpointError(f"{path}: no ASUKA weights; it holds {len(tensors)} tensors such as {some}")
    described = json.loads(metadata["asuka"])
    if described["format"] > FORMAT:
        raise CheckpointError(f"{path}: format {described['format']} is newer than {FORMAT}; update the extension")
    parts = {}
    for name, config in described["parts"].items():
        if name not in PARTS:
            raise CheckpointError(f"{path}: unknown part {name!r}; expected {', '.join(PARTS)}")
        prefix = name + "."
        state_dict = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        parts[name] = Part(name, read_config(PARTS[name][1], config, path), state_dict, str(path))
    return parts


def read_config(cls: type, values: Mapping, path: Path):
    """A config dataclass from JSON values. Raises CheckpointError for a key it does not have."""
    unknown = values.keys() - {field.name for field in fields(cls)}
    if unknown:
        raise CheckpointError(f"{path}: {cls.__name__} has no {', '.join(sorted(unknown))}; update the extension")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
