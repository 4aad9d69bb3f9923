"""The manifest of a folder that is filled step by step: results of different settings must never mix in it."""

import hashlib
import json
from pathlib import Path

from torch import nn

from asuka_modules.atomic import atomic_write, remove_leftovers

from .config import ConfigError

MANIFEST = "made_of.json"


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of a network's weights by name, whichever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        name = name.replace("alphas_cumprod", "alpha_bar")  # its name when existing folders were made
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_manifest(folder: Path, description: dict) -> None:
    """Records in a folder which settings it was made with; several processes may call it at once.

    Raises ConfigError if the folder was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    note, text = folder / MANIFEST, json.dumps(description, indent=2) + "\n"
    if not note.exists():
        with atomic_write(note) as partial:  # whole, for another process that reads it now
            partial.write_text(text)
    if note.read_text() != text:
        raise ConfigError(f"{folder} was made with other settings ({MANIFEST}); remove it, or choose another out")
