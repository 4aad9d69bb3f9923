"""Files that are written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

PREFIX = ".asuka-partial-"  # of the folders in which files are written
LOCK = "lock"  # held by whoever writes there; the system frees it when they die
CONTENT = "content"  # what is written; not there before the lock is held


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a file to write instead of `path`, which takes the place of `path` at the end of the block.

    After an exception `path` is as it was and nothing stays behind; what an interrupted process left in the folder is
    removed by the next write there. The block does nothing but write: what goes wrong in it is raised as OSError.
    """
    path = Path(path)
    try:
        remove_leftovers(path.parent)
        with (
            tempfile.TemporaryDirectory(prefix=PREFIX, dir=path.parent, ignore_cleanup_errors=True) as folder,
            FileLock(Path(folder, LOCK)),
        ):
            partial = Path(folder, CONTENT)
            partial.touch()
            mode = partial.stat().st_mode  # safetensors makes files that only their owner can read
            yield partial
            partial.chmod(mode)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        kept = "; what was there before is intact" if path.exists() else ""
        raise OSError(f"{path}: not written ({error}){kept}") from error


def remove_leftovers(folder: Path) -> None:
    """Removes what interrupted writes left in a folder, if there is one; what another process is writing now stays."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        partial = [Path(entry) for entry in entries if entry.name.startswith(PREFIX)]
    for found in partial:
        if (found / CONTENT).exists():
            with suppress(Timeout, OSError):
                with FileLock(found / LOCK, timeout=0):
                    pass  # whoever wrote here is gone
                shutil.rmtree(found, ignore_errors=True)
