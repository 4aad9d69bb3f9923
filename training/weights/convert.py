"""Bring published weights into the one file format that Load ASUKA reads; several networks join into one file.

The command is `python convert.py` or `python -m training.convert`.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.alignment import AlignmentConfig
from asuka_modules.checkpoints import Part
from asuka_modules.weight_file import CheckpointError, NoNetworkError, is_pickle, shard_of

from ..engine import parsers
from .pickles import PICKLES, read_pickle

SAFETENSORS = {".safetensors", ".sft"}
EMPTY_TOKENS = {"alignment": 256, "alignment_pooled": 1}  # of the empty prompt's embeddings beside ASUKA-FLUX


def weight_files(source: Path) -> list[tuple[Path, ...]]:
    """A file, or a folder's weight files, safetensors first; each with the other shards if it is one of several.

    Raises FileNotFoundError, or CheckpointError for a folder or file without weights, and for a missing shard.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    files = [source] if source.is_file() else sorted(file for file in source.iterdir() if file.is_file())
    found = [file for suffixes in (SAFETENSORS, PICKLES) for file in files if file.suffix in suffixes]
    if not found:
        raise CheckpointError(f"{source}: no weights; expected {', '.join(sorted(SAFETENSORS | PICKLES))}")
    return list(dict.fromkeys(map(shards, found)))


def shards(file: Path) -> tuple[Path, ...]:
    """All shards of the network of which a file holds one; of most files that is the file. Raises CheckpointError."""
    shard = shard_of(file)
    if not shard:
        return (file,)
    name, _, count = shard
    files = [file.with_name(f"{name}-{i:05d}-of-{count:05d}{file.suffix}") for i in range(1, count + 1)]
    missing = [other.name for other in files if not other.is_file()]
    if missing:
        raise CheckpointError(f"{file}: {count} shards belong together, but {missing[0]} is missing; download it, too")
    return tuple(files)


def read(sources: list[Path], destination: Path) -> tuple[dict[str, Part], list[str]]:
    """The parts in the sources, and what was recognized in each file. Raises CheckpointError.

    A folder may hold other files, too: what is no network in there is told and left out, as is a pickle of a network that
    is there as safetensors.
    """
    parts: dict[str, Part] = {}
    embeddings: dict[Path, Tensor] = {}
    report, left_out = [], []
    for source in sources:
        for files in weight_files(source):
            if destination in files:
                if source == destination:
                    raise CheckpointError(f"{destination}: is to be read and written; give another name")
                continue
            try:
                found = read_file(files)
            except NoNetworkError as error:
                if source.is_file():
                    raise
                left_out.append(f"{files[0].name}: left out, {str(error).removeprefix(f'{files[0]}: ')}")
                continue
            if isinstance(found, Tensor):
                embeddings[files[0]] = found
                continue
            for part in found:
                first = Path(parts[part.name].file) if part.name in parts else None
                if first and first.parent == source and first.suffix in SAFETENSORS and files[0].suffix in PICKLES:
                    left_out.append(f"{files[0].name}: left out, for {first.name} holds the {part.name}, too")
                elif first:
                    raise CheckpointError(f"{files[0]}: a second {part.name} beside {first}; give one of them")
                else:
                    parts[part.name] = part
                    report.append(describe(files[0], part))
    for file, embedding in embeddings.items():
        report.append(f"{file.name}: {store_empty_prompt(parts, embedding)}")
    if not parts:
        reason = "; ".join(left_out[:3]) or "only embeddings; give the alignment's file with it"
        raise CheckpointError(f"{sources[0]}: holds no network, {reason}")
    return parts, report + left_out


def read_file(files: tuple[Path, ...]) -> list[Part] | Tensor:
    """The networks in a file, whose other shards follow it, or its one tensor; by what it is, not what it is called."""
    if files[0].suffix in SAFETENSORS and not is_pickle(files[0]):
        return list(checkpoints.load(*files).values())
    contents = [read_pickle(file) for file in files]
    if isinstance(contents[0], Tensor):
        return contents[0]
    return [checkpoints.recognize({key: value for content in contents for key, value in content.items()}, files[0])]


def describe(file: Path, part: Part) -> str:
    size = sum(value.numel() for value in part.state_dict.values())
    left_out = Counter(next(name for name in key.split(".") if not name.isdigit()) for key in part.ignored_keys)
    lines = [f"{file.name}: {part.format_name}, {size / 1e6:.1f} M parameters -> {part.name}", f"    {part.config}"]
    if left_out:
        lines.append("    left out: " + ", ".join(f"{name} ({n} tensors)" for name, n in left_out.items()))
    return "\n".join(lines)


def store_empty_prompt(parts: dict[str, Part], embedding: Tensor) -> str:
    """Adds an embedding, (1, T, C) or (1, C), to the alignment of its width, and says what became of it.

    The release of ASUKA-FLUX keeps the empty prompt's T5 tokens and pooled CLIP vector in files of their own.
    """
    for name, tokens in EMPTY_TOKENS.items():
        part = parts.get(name)
        if part is None or not isinstance(part.config, AlignmentConfig):
            continue
        if embedding.numel() == tokens * part.config.context_dim:
            context = embedding.reshape(1, tokens, part.config.context_dim)
            config = replace(part.config, empty_tokens=tokens)
            parts[name] = replace(part, config=config, state_dict={**part.state_dict, "empty_context": context})
            return f"the empty prompt, {tuple(embedding.shape)} -> {name}"
    return f"left out, a tensor {tuple(embedding.shape)} is no network"


def convert(sources: list[Path], destination: Path, dtype: torch.dtype | None = None) -> list[str]:
    """Writes what the sources hold into one file, in `dtype` (default: as it was), and returns what was recognized.

    Raises FileNotFoundError, or CheckpointError for anything unknown, incomplete, damaged or unsafe; then nothing is
    written.
    """
    if destination.suffix not in SAFETENSORS:
        raise CheckpointError(f"{destination}: expected a name that ends in .safetensors, which Load ASUKA lists")
    parts, report = read(sources, destination)
    networks = {name: part.build() for name, part in parts.items()}  # checks every name and shape
    destination.parent.mkdir(parents=True, exist_ok=True)
    origins = "; ".join(f"{name}: {Path(part.file).name} ({part.format_name})" for name, part in parts.items())
    checkpoints.save(destination, networks, {"converted from": origins}, dtype)
    return report


def main() -> None:
    parser = parsers.convert()
    arguments = parser.parse_args()
    try:
        dtype = getattr(torch, parsers.DTYPES[arguments.dtype]) if arguments.dtype else None
        report = convert(arguments.src, arguments.dst, dtype)
    except (CheckpointError, OSError) as error:
        parser.error(str(error))
    sys.stdout.write("\n".join([*report, f"wrote {arguments.dst}", ""]))
