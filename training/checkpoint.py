"""Training state on disk: written atomically, the newest few kept."""

from pathlib import Path

import torch
from torch import nn

from asuka_modules.atomic import atomic_write

from .config import ConfigError


class Average:
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


class Averaged:
    """Context in which a network is in evaluation mode and holds its averaged weights, if any are kept."""

    def __init__(self, trained: nn.Module, average: Average | None):
        self.trained, self.average = trained, average

    def __enter__(self) -> nn.Module:
        self.trained.eval()
        if self.average:
            self.kept = {k: v.detach().clone() for k, v in self.trained.state_dict().items()}
            self.trained.load_state_dict(self.average.weights)
        return self.trained

    def __exit__(self, *exception) -> None:
        if self.average:
            self.trained.load_state_dict(self.kept)
        self.trained.train()


def save_checkpoint(out: Path, step: int, trained: nn.Module, optimizer, average: Average | None, keep: int) -> None:
    """Writes step-<n>.pt and removes all but the newest `keep`."""
    state = {"step": step, "trained": trained.state_dict(), "optimizer": optimizer.state_dict()}
    if average:
        state["average"] = {"weights": average.weights, "updates": average.updates}
    write(out / f"step-{step:07d}.pt", state)
    for old in sorted(out.glob("step-*.pt"))[:-keep]:
        old.unlink()


def write(path: Path, state: dict) -> None:
    """Saves atomically. Raises OSError that names the last good state where the disk is full."""
    try:
        with atomic_write(path) as partial, partial.open("wb") as file:
            torch.save(state, file)
    except OSError as error:
        good = sorted(path.parent.glob("step-*.pt"))
        last = f"{good[-1].name} is intact" if good else "there is no earlier checkpoint"
        raise OSError(f"{error}; free some space and start again, {last}") from error


def load_checkpoint(out: Path, trained: nn.Module, optimizer, average: Average | None) -> int:
    """Restores the newest checkpoint of `out` and returns its step; 0 where there is none. The optimizer keeps the settings
    that it has: of a checkpoint it takes what it has gathered."""
    checkpoints = sorted(out.glob("step-*.pt"))
    if not checkpoints:
        return 0
    state = torch.load(checkpoints[-1], map_location="cpu", weights_only=True)
    trained.load_state_dict(state["trained"])
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state["optimizer"])
    for group, kept in zip(optimizer.param_groups, settings, strict=True):
        group.update(kept)
    if average and "average" not in state:
        raise ConfigError(f"{checkpoints[-1]} was made without run.ema; set it to 0, or choose another run.out")
    if average:
        average.weights, average.updates = state["average"]["weights"], state["average"]["updates"]
    return state["step"]
