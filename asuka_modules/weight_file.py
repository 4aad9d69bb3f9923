"""Safetensors files, read and not memory-mapped: if a mapped file is truncated later, the process is killed."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

TENSORS = 20_000  # at most: ten times as many as a Stable Diffusion checkpoint has
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
PICKLES = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))  # their first bytes
OTHERS = {  # first bytes of files that are mistaken for weights -> what they are, and what to do
    b"<": "a web page, perhaps because the download needs a login; download it again",
    b"version https://git-lfs": "Git LFS's pointer to the weights; run git lfs pull, or download them",
    b"PK": "a zip archive; unpack it and take the weights in it",
    b"GGUF": "a GGUF file, which is quantized for other programs; a safetensors file was expected",
}


class CheckpointError(ValueError):
    """An unusable weight file; the message gives the file, what was found and what was expected, in one printable line."""

    def __init__(self, message: str):
        super().__init__("".join(character if character.isprintable() else "?" for character in message))


class NoNetworkError(CheckpointError):
    """An intact file that contains no network of ours."""


class WeightFile:
    """The metadata of a safetensors file and the outline of its tensors (shapes, on the meta device); `read` loads them.

    `shards` are the other shards of a sharded file. Raises FileNotFoundError, or CheckpointError for other kinds of files.
    """

    def __init__(self, path: Path, *shards: Path):
        self.path, self.shards = path, (path, *shards)
        self.metadata: dict[str, str] = {}
        self.outline: dict[str, Tensor] = {}
        self.stamps = [stamp(shard) for shard in self.shards]
        for shard in self.shards:
            if not shard.is_file():
                raise FileNotFoundError(f"{shard}: no such file")
            try:
                with opened(shard) as file:
                    self.metadata |= file.metadata() or {}
                    keys = file.keys()
                    if len(keys) > TENSORS:
                        raise NoNetworkError(f"{shard}: contains {len(keys)} tensors, more than any network of ours")
                    shapes = {key: file.get_slice(key).get_shape() for key in keys}
            except SafetensorError as error:
                raise unreadable(shard, error) from error
            self.outline |= {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}

    def read(self, keys: Collection[str]) -> dict[str, Tensor]:
        """Load some of the tensors. Raises CheckpointError for NaN and infinity, and if the file has changed."""
        tensors: dict[str, Tensor] = {}
        for shard in self.shards:
            try:
                with opened(shard) as file:
                    held = set(file.keys())
                    tensors |= {key: owned(file.get_tensor(key)) for key in keys if key in held}
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{shard}: not read ({error}); is it being written? Then run again later"
                ) from error
        if self.stamps != [stamp(shard) for shard in self.shards]:
            raise CheckpointError(f"{self.path}: changed while it was read; run again once it is complete")
        require_finite(tensors, self.path)
        return tensors


# Before 0.8 safetensors can only map.
READING = {"backend": "pread"} if hasattr(safe_open, "get_tensors") else {}


def opened(path: Path) -> safe_open:
    """Open a safetensors file, for reading without memory-mapping if possible."""
    return safe_open(path, framework="pt", **READING)


def owned(tensor: Tensor) -> Tensor:
    """Return a tensor that does not depend on its file."""
    return tensor if READING else tensor.clone()


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written, or None if there is no file."""
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError with the name of the first tensor that contains NaN or infinity."""
    broken = [key for key, value in tensors.items() if not finite(value)]
    if broken:
        others = f" and {len(broken) - 1} more" if broken[1:] else ""
        raise CheckpointError(
            f"{path}: {broken[0]}{others} of {len(tensors)} tensors hold NaN or infinity; download it again, or take an earlier checkpoint of the training"
        )


def finite(value: Tensor) -> bool:
    """Return whether all values are finite, from the extremes: a tenth of the time of `isfinite`."""
    if value.is_meta or not value.is_floating_point() or not value.numel():
        return True
    value = value.float() if value.element_size() == 1 else value  # torch has no extremes of fp8
    return bool(torch.stack(value.aminmax()).isfinite().all())


def shard_of(path: Path) -> tuple[str, int, int] | None:
    """Return (name without the numbers, number, count) of a shard, by the file's name, or None if it is the only one."""
    match = SHARD.fullmatch(path.stem)
    return (match[1], int(match[2]), int(match[3])) if match and int(match[3]) > 1 else None


def is_pickle(path: Path) -> bool:
    """Return whether a file is a PyTorch pickle, zipped or plain, whatever its name."""
    with path.open("rb") as file:
        start = file.read(512)
    if start[8:9] == b"{":  # the header of a safetensors file, whose length may begin like a pickle
        return False
    return start.startswith(PICKLES) or (start.startswith(b"PK") and b"/data.pkl" in start)


def other_kind(path: Path) -> str | None:
    """Return what a file mistaken for weights is and what to do, or None if its first bytes do not tell."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        return "empty; download it again"
    return next((found for begin, found in OTHERS.items() if start.startswith(begin)), None)


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file that is not a safetensors file."""
    if is_pickle(path):
        found = f"looks like a PyTorch pickle, which could run code; a safetensors file was expected: python convert.py {path.name} {path.stem}-converted.safetensors"
    else:
        found = f"not a readable safetensors file ({other_kind(path) or f'{error}; download it again'})"
    return CheckpointError(f"{path}: {found}")
