"""Folders that runs fill bit by bit, and that must not mix what was made with different settings."""

import hashlib
import json
from pathlib import Path

from torch import nn

from asuka_modules.atomic import atomic_write, remove_leftovers

from .config import ConfigError

NOTE = "made_of.json"


def fingerprint(network: nn.Module) -> str:
    """Of a network's weights, wherever they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def claim(folder: Path, description: dict) -> None:
    """Notes what a folder is of; several processes may. Raises ConfigError where it holds something else."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    note, text = folder / NOTE, json.dumps(description, indent=2) + "\n"
    if not note.exists():
        with atomic_write(note) as partial:  # whole, for another process that reads it now
            partial.write_text(text)
    if note.read_text() != text:
        raise ConfigError(f"{folder} was made with other settings ({NOTE}); remove it, or choose another out")
