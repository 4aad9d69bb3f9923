"""Folders that runs fill bit by bit, and that must not mix what was made with different settings."""

import json
from pathlib import Path

from .config import ConfigError

NOTE = "made_of.json"


def claim(folder: Path, description: dict) -> None:
    """Notes what a folder is of. Raises ConfigError where it holds something else."""
    folder.mkdir(parents=True, exist_ok=True)
    note, text = folder / NOTE, json.dumps(description, indent=2) + "\n"
    if note.exists() and note.read_text() != text:
        raise ConfigError(f"{folder} was made with other settings ({NOTE}); remove it, or choose another out")
    note.write_text(text)
