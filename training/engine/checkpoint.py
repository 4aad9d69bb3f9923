"""Training state on disk: written atomically, checked when it is read, the newest few kept."""

import hashlib
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from asuka_modules.atomic import atomic_write

from .config import ConfigError

log = logging.getLogger(__name__)


class EMA:
    """Exponential moving average of the trained weights."""

    def __init__(self, trained: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.weights = {k: v.detach().clone() for k, v in trained.state_dict().items()}

    @torch.no_grad()
    def update(self, trained: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in trained.state_dict().items():
            average = self.weights[key] = self.weights[key].to(value.device)
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def state_dict(self) -> dict:
        return {"weights": self.weights, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.weights, self.updates = state["weights"], state["updates"]


@contextmanager
def swap_ema_weights(trained: nn.Module, ema: EMA | None) -> Iterator[nn.Module]:
    """Inside the context the network is in evaluation mode and, if there is an `ema`, holds its weights."""
    trained.eval()
    last = {k: v.detach().clone() for k, v in trained.state_dict().items()} if ema else {}
    if ema:
        trained.load_state_dict(ema.weights)
    try:
        yield trained
    finally:
        if ema:
            trained.load_state_dict(last)
        trained.train()


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted(out.glob("step-*.pt"), key=lambda path: (len(path.name), path.name))


def save_checkpoint(out: Path, state: dict, keep: int) -> None:
    """Writes step-<n>.pt, n being `state["step"]`, and removes all but the newest `keep`.

    Raises OSError that names the last good state where the disk is full.
    """
    try:
        with atomic_write(out / f"step-{state['step']:07d}.pt") as partial, partial.open("wb") as file:
            torch.save(state | {"checksum": checksum(state)}, file)
    except OSError as error:
        good = checkpoints(out)
        last = f"{good[-1].name} is intact" if good else "there is no earlier checkpoint"
        raise OSError(f"{error}; free some space and start again, {last}") from error
    keep_newest(out, keep)


def keep_newest(out: Path, count: int) -> None:
    for old in checkpoints(out)[:-count]:
        old.unlink()


def load_checkpoint(out: Path) -> tuple[Path | None, dict]:
    """The newest intact checkpoint of a run, and its state; None and an empty one where the run has none at all.

    A warning names those that are damaged. Raises ConfigError where all are.
    """
    found = checkpoints(out)
    for path in reversed(found):
        try:
            return path, read_state(path)
        except DamagedCheckpoint as error:
            log.warning("%s; going on from the one before", error)
    if found:
        raise ConfigError(
            f"{out}: all {len(found)} checkpoints are damaged; restore one from a backup, or remove them to begin anew"
        )
    return None, {}


class DamagedCheckpoint(ConfigError):
    """A checkpoint whose bytes are not those that were written."""


def read_state(path: Path) -> dict:
    """A checkpoint's state, on the CPU. Raises DamagedCheckpoint for a file that is cut, empty, or has flipped bits."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                intact = archive.testzip() is None  # torch writes these checksums, but does not compare them
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True) if intact else {}
        except Exception as error:  # what a damaged file makes zipfile and torch raise is of many kinds
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DamagedCheckpoint(f"{path} is damaged ({reason})") from error
    expected = state.pop("checksum", None)  # an older version wrote none
    if not intact or expected not in (None, checksum(state)):
        raise DamagedCheckpoint(f"{path} is damaged (its checksum does not match)")
    return state


def checksum(state: object) -> str:
    """SHA-256 of everything in a state: the archive's own checksums do not cover which tensor is which."""
    digest = hashlib.sha256()

    def add(part: object) -> None:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        elif isinstance(part, dict | list | tuple):
            digest.update(f"{isinstance(part, dict)} {len(part)} ".encode())
            for item in part.items() if isinstance(part, dict) else part:
                add(item)
        else:
            digest.update(f"{part!r} ".encode())

    add(state)
    return digest.hexdigest()


def set_aside(out: Path, used: Path) -> None:
    """Renames the checkpoints that are newer than the one that a run goes on from: they are damaged."""
    found = checkpoints(out)
    for path in found[found.index(used) + 1 :]:
        path.rename(path.with_name(path.name + ".damaged"))
