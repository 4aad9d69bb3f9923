"""The image files of folders and lists."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..engine.config import ConfigError
from .decoding import require_opencv

log = logging.getLogger(__name__)
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


def find_photos(
    locations: tuple[str, ...],
    selected: Callable[[str], bool] = lambda name: True,
    suffixes: tuple[str, ...] = SUFFIXES,
) -> list[Path]:
    """All images below folders and in list files, sorted; of these, the ones whose name is `selected`. Raises
    FileNotFoundError for a location without any, and where none is selected."""
    require_opencv()
    photos = []
    for location in locations:
        path = Path(location)
        if path.suffix == ".txt":
            lines = read_list(path)
            found = [Path(line.removesuffix("\r")) for line in lines if line.strip()]
        else:
            found = sorted(p for p in files_below(path) if p.suffix.lower() in suffixes)
        if not path.exists():
            raise FileNotFoundError(f"{location}: no such folder or list")
        if not found:
            raise FileNotFoundError(f"{location}: no images ({', '.join(suffixes)}) in it")
        photos += found
    chosen = [path for path in photos if selected(path.name)]
    if not chosen:
        raise FileNotFoundError(
            f"{', '.join(locations)}: none of the {len(photos)} images is in the split; change held_out"
        )
    return chosen


def read_list(path: Path) -> list[str]:
    """The lines of a text file. Raises ConfigError for what is no text; file names of any bytes are kept as they are."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise ConfigError(f"{path}: not a list of paths; expected one path per line, in UTF-8")
    return text.split("\n")


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its subfolders, linked ones included; each folder once, by its own name where it has one."""
    pending, seen = [folder], set()
    while pending:
        for name, subfolders, files in os.walk(pending.pop(0), onerror=tell):
            real = os.path.realpath(name)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            pending += [Path(name, sub) for sub in sorted(subfolders) if os.path.islink(os.path.join(name, sub))]
            yield from (Path(name, file) for file in files)


def tell(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # which find_photos tells
        log.warning("%s: this folder cannot be read, skipped (%s)", error.filename, error.strerror)
