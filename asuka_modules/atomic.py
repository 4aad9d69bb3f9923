"""Files that are written completely or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

PREFIX = ".asuka-partial-"  # of the temporary folders that files are written in
_LOCK = "lock"  # held by the writing process; the system releases it when the process dies
_CONTENT = "content"  # the file itself; created after the lock is held


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary file to write to; at the end of the block it replaces `path`.

    After an exception `path` is unchanged and the temporary file is gone. Files left by an interrupted process are removed
    by the next write to the same folder. Use the block only for writing: raises OSError for any error in it.
    """
    path = Path(path)
    try:
        remove_leftovers(path.parent)
        with (
            tempfile.TemporaryDirectory(prefix=PREFIX, dir=path.parent, ignore_cleanup_errors=True) as folder,
            FileLock(Path(folder, _LOCK)),
        ):
            partial = Path(folder, _CONTENT)
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
    """Remove the files that interrupted writes left in `folder`, if it exists, except those still being written."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        partial = [Path(entry) for entry in entries if entry.name.startswith(PREFIX)]
    for found in partial:
        if (found / _CONTENT).exists():
            with suppress(Timeout, OSError):
                with FileLock(found / _LOCK, timeout=0):
                    pass  # the process that wrote here is gone
                shutil.rmtree(found, ignore_errors=True)
