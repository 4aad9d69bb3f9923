"""What a run shows while it runs: a progress bar, log.csv, and TensorBoard and Weights & Biases where they are wanted."""

import importlib.util
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch
from accelerate import PartialState
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from .config import ConfigError
from .git_revision import git_revision
from .precision import run_device
from .run_folder import RUN_NOTE, read_note, write_json
from .tables import Row, append_row, read_rows, write_rows

LOG, VALIDATION = "log.csv", "validation.csv"
SETTLED, MEASURED = 10, 100  # steps of a run from and to which its speed is measured for the forecast


class Measured:
    """Named values since the last row of the log: a number or one for each image, NaN where there is none."""

    def __init__(self, values: Mapping[str, list[float]] = {}):
        self.values = {key: [torch.tensor(numbers)] for key, numbers in values.items()}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for key, value in values.items():
            self.values.setdefault(key, []).append(value.detach().float().flatten())

    def numbers(self) -> dict[str, list[float]]:
        """The values of this process alone."""
        return {key: [number for value in values for number in value.tolist()] for key, values in self.values.items()}

    def gather(self) -> dict[str, list[float]]:
        """The values of all processes; the main process alone keeps them. Every process has to call this."""
        gathered: dict[str, list[float]] = {}
        for part in gather_object([self.numbers()]):
            for key, numbers in part.items():
                gathered.setdefault(key, []).extend(numbers)
        kept = gathered if PartialState().is_main_process else {}
        self.values = {key: [torch.tensor(numbers)] for key, numbers in kept.items()}
        return gathered

    def means(self) -> dict[str, float]:
        """The mean of each name's values that are not NaN, NaN if all are; begins anew. Every process has to call this."""
        gathered = self.gather()
        self.values = {}
        return {
            key: mean([number for number in numbers if not math.isnan(number)]) for key, numbers in gathered.items()
        }


class Log:
    """The main process's view of a run that goes on from step `start`.

    `noted` is the run's RunConfig, and its recipe, written to run.json beside the log, with hardware and commit, for the
    model card. `tables` are the rows of log.csv and validation.csv up to `start`, which replace what the files hold now.
    """

    def __init__(self, out: Path, noted: dict, start: int, tables: dict[str, list[Row]] | None = None):
        self.out, self.steps, self.batch_size, self.start = out, noted["steps"], noted["batch_size"], start
        if start < self.steps or read_note(out) is None:  # a finished run keeps what it was computed on
            write_json(out / RUN_NOTE, {**noted, "hardware": hardware(), "commit": git_revision()})
        self.tables = tables or rows_until(out, start)
        for name, rows in self.tables.items():
            write_rows(out / name, rows)
        self.trackers = open_trackers(out, start, noted)
        self.bar = tqdm(total=self.steps, initial=start, desc=out.name, unit="step", dynamic_ncols=True)
        self.paused = 0.0  # seconds that the run spent on other things than steps
        self.since, self.since_step = self.clock(), start
        self.settled: float | None = None

    def clock(self) -> float:
        """Seconds spent on steps, without the pauses between them."""
        return time.monotonic() - self.paused

    @contextmanager
    def pause(self, doing: str) -> Iterator[None]:
        """Shows what is done between two steps, and leaves its time out of theirs."""
        start = time.monotonic()
        self.bar.set_description(f"{self.out.name}, {doing}")
        yield
        self.bar.set_description(self.out.name)
        self.paused += time.monotonic() - start

    def step(self, step: int) -> None:
        """Moves the bar, and once the speed is known tells how long the whole run takes."""
        self.bar.update()
        if step == self.start + SETTLED:
            self.settled = self.clock()
        if step == self.start + MEASURED and self.settled is not None:
            seconds = (self.clock() - self.settled) / (MEASURED - SETTLED)
            self.bar.write(
                f"{self.out.name}: {self.batch_size / seconds:.3g} images/s on this machine; all {self.steps} steps take about "
                f"{duration(seconds * self.steps)}, the {self.steps - step} left {duration(seconds * (self.steps - step))}, "
                "without sample images, validation and checkpoints"
            )

    def row(self, step: int, means: dict[str, float], grad_norm: Tensor, lr: float) -> None:
        """One row of log.csv: means since the last one, NaN for those that have no value."""
        seconds, done = self.clock() - self.since, step - self.since_step
        row = means | {"grad_norm": float(grad_norm), "lr": lr, "images_per_second": done * self.batch_size / seconds}
        self.bar.set_postfix(
            loss=f"{row['loss']:.4g}", images=f"{row['images_per_second']:.3g}/s", memory=f"{memory() / 2**30:.1f}GiB"
        )
        cells = {key: "" if math.isnan(value) else f"{value:.6g}" for key, value in row.items()}
        append_row(self.out / LOG, self.tables[LOG], {"step": str(step), **cells})
        self.track(step, row)
        self.since, self.since_step = self.clock(), step

    def validation(self, step: int, losses: dict[str, float]) -> bool:
        """Shows validation losses and appends them to validation.csv; whether their mean is the lowest so far."""
        rows = self.tables[VALIDATION]
        before = [[float(row[key]) for key in losses if row.get(key)] for row in rows]
        best = min((sum(row) for row in before if len(row) == len(losses)), default=float("inf"))
        self.bar.write(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in losses.items()))
        append_row(self.out / VALIDATION, rows, {"step": str(step), **{k: str(v) for k, v in losses.items()}})
        self.track(step, {f"validation/{key}": value for key, value in losses.items()})
        return sum(losses.values()) < best

    def track(self, step: int, values: dict[str, float]) -> None:
        with self.naming_tensorboard():
            for tracker in self.trackers:
                tracker.log({key: value for key, value in values.items() if not math.isnan(value)}, step)

    def samples(self, step: int, path: Path) -> None:
        """Shows an image file to the trackers."""
        image = np.asarray(Image.open(path).convert("RGB"))[None] if self.trackers else None
        with self.naming_tensorboard():
            for tracker in self.trackers:
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"samples": image}, step, **layout)

    @contextmanager
    def naming_tensorboard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f"{self.out / 'tensorboard'}: not written ({error}); free some space") from error

    def close(self) -> None:
        self.bar.close()
        with self.naming_tensorboard():
            for tracker in self.trackers:
                tracker.finish()


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


def rows_until(out: Path, start: int) -> dict[str, list[Row]]:
    """The rows up to step `start` of the files in a run's folder: checkpoints of an older version hold no rows."""
    return {name: [row for row in read_rows(out / name) if int(row["step"]) <= start] for name in (LOG, VALIDATION)}


def open_trackers(out: Path, start: int, noted: dict) -> list[GeneralTracker]:
    """TensorBoard's where it is installed, Weights & Biases' where `run.wandb` names a project."""
    trackers: list[GeneralTracker] = []
    if importlib.util.find_spec("tensorboard"):
        trackers.append(TensorBoardTracker("tensorboard", out, purge_step=start + 1))
    if project := noted.get("wandb"):
        if not importlib.util.find_spec("wandb"):
            raise ConfigError(f"run.wandb is {project} but wandb is not installed; pip install wandb, or leave it out")
        trackers.append(WandBTracker(project, name=out.name, dir=str(out), resume="auto", config=noted))
    for tracker in trackers:
        tracker.start()
    return trackers


def duration(seconds: float) -> str:
    """A time in hours, minutes or seconds, whichever reads best."""
    if seconds >= 360:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{max(seconds, 1):.0f} s"


def hardware() -> str:
    """What the run was computed on."""
    one = torch.cuda.get_device_name() if run_device().type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{PartialState().num_processes} x {one}"


def memory() -> int:
    """Bytes used at most on the GPU, or now by this process where there is none."""
    return torch.cuda.max_memory_allocated() if run_device().type == "cuda" else psutil.Process().memory_info().rss
