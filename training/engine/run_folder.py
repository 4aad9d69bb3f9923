"""The folder of a run: one run at a time writes to it, and run.json in it says which."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from asuka_modules.atomic import PREFIX, atomic_write

from .config import ConfigError, with_current_names

log = logging.getLogger(__name__)
RUN_NOTE = "run.json"  # a run's settings, recipe, hardware and commit
BEST, BEST_NOTE = "best", "best.json"  # the folder of the weights with the lowest validation loss; when that was
SAMPLES = "samples"  # the folder of sample images
LOCK = "run.lock"
PATIENCE = 6  # seconds: the data workers of a killed run take five to notice


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the folder and keeps other runs out of it; the system frees it when this process dies.

    Raises ConfigError where another run is at work in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(out / LOCK).acquire(timeout=PATIENCE)
    except Timeout as error:
        raise ConfigError(
            f"{out} is in use by another run; wait until it has finished, stop it, or choose another folder"
        ) from error
    with held:
        for folder in (out, out / BEST, out / SAMPLES):
            for partial in folder.glob(f"{PREFIX}*"):  # of killed runs: nobody else writes here
                shutil.rmtree(partial, ignore_errors=True)
        yield


def read_note(out: Path) -> dict | None:
    """What run.json says; None where there is none or, with a warning, where it is damaged."""
    return read_json(out / RUN_NOTE)


def read_json(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        reason = f"it holds {type(content).__name__}, not a mapping"
    except ValueError as error:  # not JSON, or not text
        reason = str(error)
    log.warning("%s is damaged (%s)", path, reason)
    return None


def write_json(path: Path, content: dict) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def require_recipe(out: Path, before: dict, now: dict) -> None:
    """Raises ConfigError where a run began with another recipe, or with another batch size or seed, on which it depends
    what the next sample is. How long, how fast and how it is validated may change under way."""
    runs = with_current_names(before), json.loads(json.dumps(now))
    before, now = (run.get("recipe", {}) | {key: run.get(key) for key in ("batch_size", "seed")} for run in runs)
    changed = [key for key in now if key in before and key != "validation" and differs(before[key], now[key])]
    if changed:
        raise ConfigError(
            f"{out} holds a run that began with another {', another '.join(changed)}; choose another run.out, or remove {RUN_NOTE} there to go on with this"
        )


def differs(before: object, now: object) -> bool:
    """Settings that only one of the two knows do not count: a newer version may have more of them."""
    if isinstance(before, dict) and isinstance(now, dict):
        return any(differs(before[key], now[key]) for key in before.keys() & now.keys())
    return before != now
