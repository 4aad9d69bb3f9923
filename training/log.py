"""What a run tells while it runs: a progress bar, log.csv, and TensorBoard where it is installed."""

import csv
import importlib.util
import json
import math
import time
from pathlib import Path

import psutil
import torch
from torch import Tensor
from tqdm.auto import tqdm

from asuka_modules.atomic import atomic_write

from .commit import commit
from .precision import run_device

RUN_NOTE = "run.json"  # in a run's folder: its settings, recipe, hardware and commit


class Log:
    """One row every `log_every` steps; rows written after the checkpoint that a run resumes from are dropped.

    `run` is the run's RunConfig, and its recipe, written to run.json beside the log, with hardware and commit, for the
    model card.
    """

    def __init__(self, out: Path, run: dict, processes: int, start: int):
        self.path, self.steps, self.batch_size = out / "log.csv", run["steps"], run["batch_size"]
        self.every = run["log_every"]
        if start < self.steps or not (out / RUN_NOTE).exists():  # a finished run keeps what it was computed on
            noted = {**run, "hardware": hardware(processes), "commit": commit()}
            with atomic_write(out / RUN_NOTE) as partial:
                partial.write_text(json.dumps(noted, indent=2) + "\n")
        self.validations = out / "validation.csv"
        for path in (self.path, self.validations):
            trim(path, start)
        self.board = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(out / "tensorboard", purge_step=start + 1)
        self.bar = tqdm(total=self.steps, initial=start, desc=out.name, unit="step", dynamic_ncols=True)
        self.pending: list[dict[str, Tensor]] = []
        self.since, self.since_step = time.monotonic(), start

    def step(self, step: int, values: list[dict[str, Tensor]], grad_norm: Tensor, lr: float) -> None:
        """Takes the values of one optimizer step's micro-batches, NaN for one that has none."""
        self.pending += values
        self.bar.update()
        if step % self.every and step != self.steps:
            return
        seconds, done = time.monotonic() - self.since, step - self.since_step
        means = {k: mean([float(p[k]) for p in self.pending]) for k in self.pending[0]}
        row = means | {"grad_norm": float(grad_norm), "lr": lr, "images_per_second": done * self.batch_size / seconds}
        self.bar.set_postfix(
            loss=f"{row['loss']:.4g}", images=f"{row['images_per_second']:.3g}/s", memory=f"{memory() / 2**30:.1f}GiB"
        )
        cells = {key: "" if math.isnan(value) else f"{value:.6g}" for key, value in row.items()}
        write(self.path, [{"step": step, **cells}])
        self.scalars(step, row)
        self.pending = []
        self.since, self.since_step = time.monotonic(), step

    def validation(self, step: int, values: dict[str, float]) -> bool:
        """Shows validation losses and appends them to validation.csv; whether their mean is the lowest so far."""
        best = min((sum(row.values()) for row in self.validated()), default=float("inf"))
        self.bar.write(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
        write(self.validations, [{"step": step, **values}])
        self.scalars(step, {f"validation/{key}": value for key, value in values.items()})
        self.since = time.monotonic()
        return sum(values.values()) < best

    def validated(self) -> list[dict[str, float]]:
        if not self.validations.exists():
            return []
        with self.validations.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if k != "step"} for row in csv.DictReader(file)]

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items() if self.board else ():
            if not math.isnan(value):
                self.board.add_scalar(key, value, step)

    def close(self) -> None:
        self.bar.close()
        if self.board:
            self.board.close()


def mean(values: list[float]) -> float:
    """Of those that are not NaN; NaN where all are."""
    there = [value for value in values if not math.isnan(value)]
    return sum(there) / len(there) if there else math.nan


def write(path: Path, rows: list[dict]) -> None:
    """Appends rows to a table, which then begins with their names."""
    if not rows:
        return
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        if not file.tell():
            writer.writeheader()
        writer.writerows(rows)


def trim(path: Path, start: int) -> None:
    """Drops the rows of a table that were written after step `start`."""
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]
        if not rows:
            return path.unlink()
        with atomic_write(path) as partial:
            write(partial, rows)


def hardware(processes: int) -> str:
    """What the run was computed on."""
    one = torch.cuda.get_device_name() if run_device().type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{processes} x {one}"


def memory() -> int:
    """Bytes used at most on the GPU, or now by this process where there is none."""
    return torch.cuda.max_memory_allocated() if run_device().type == "cuda" else psutil.Process().memory_info().rss
