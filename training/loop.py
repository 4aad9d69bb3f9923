"""The optimisation loop of every recipe: resumable, logged, on accelerate.

All randomness of a run is a function of (seed, sample index), so a checkpoint is the trained weights, the optimizer and
the step, and a resumed run continues bit by bit.
"""

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm


@dataclass(frozen=True)
class RunConfig:
    """How long, how fast and where."""

    out: str  # folder for checkpoints, logs and sample pictures; an existing run there is resumed
    steps: int
    batch_size: int  # over all processes, per optimizer step
    lr: float
    accumulate: int = 1  # micro-batches per optimizer step
    min_lr: float = 0.0  # the cosine's end
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema: float = 0.0  # decay of the averaged weights that are exported; 0: the last weights are
    precision: Literal["no", "bf16"] = "no"
    workers: int = 2  # data loading processes
    seed: int = 0
    log_every: int = 20
    save_every: int = 1000
    sample_every: int = 1000
    keep: int = 2  # checkpoints


class Objective(nn.Module):
    """A recipe's loss: `forward(batch)` -> (loss, {name: value to log}). `trained` is what the recipe produces."""

    trained: nn.Module

    def parameter_groups(self, run: RunConfig) -> list[dict]:
        return [{"params": [p for p in self.trained.parameters() if p.requires_grad], "scale": 1.0}]


def lr_at(step: int, run: RunConfig) -> float:
    """Linear warm-up to `run.lr`, then cosine to `run.min_lr` at the last step."""
    if step < run.warmup_steps:
        return run.lr * (step + 1) / run.warmup_steps
    done = (step - run.warmup_steps) / max(1, run.steps - run.warmup_steps)
    return run.min_lr + (run.lr - run.min_lr) * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    run: RunConfig,
    objective: Objective,
    dataset: Dataset,
    sample: Callable[[nn.Module, Path], None] | None = None,
) -> nn.Module:
    """Trains `objective.trained` for `run.steps` optimizer steps, resuming what `run.out` holds, and returns it.

    `sample(trained, path)` draws a picture of the current state into `path`. The returned network holds the averaged
    weights if the run keeps any. Raises FloatingPointError at the first loss that is not finite: the last checkpoint is
    untouched.
    """
    out = Path(run.out)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(
        mixed_precision=run.precision,
        gradient_accumulation_steps=run.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        step_scheduler_with_optimizer=False,
    )
    optimizer = torch.optim.AdamW(
        objective.parameter_groups(run), lr=run.lr, betas=run.betas, weight_decay=run.weight_decay
    )
    average = Average(objective.trained, run.ema) if run.ema else None
    start = load_checkpoint(out, objective.trained, optimizer, average)
    loader = DataLoader(
        dataset,
        batch_size=run.batch_size // run.accumulate,
        sampler=range(start * run.batch_size, run.steps * run.batch_size),
        num_workers=run.workers,
        persistent_workers=run.workers > 0,
    )
    model, optimizer, loader = accelerator.prepare(objective, optimizer, loader)
    model.train()
    log = Log(out, run, start, accelerator.is_main_process)
    step, losses = start, []
    for batch in loader:
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, run) * group["scale"]
        with accelerator.accumulate(model):
            loss, values = model(batch)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"{out}: loss is {loss.item()} at step {step}; lower lr, or resume from the last checkpoint"
                )
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                grad_norm = accelerator.clip_grad_norm_(model.parameters(), run.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        losses.append({"loss": loss.detach(), **values})
        if not accelerator.sync_gradients:
            continue
        if average:
            average.update(objective.trained)
        step += 1
        log.step(step, losses, grad_norm, lr_at(step - 1, run))
        losses = []
        if accelerator.is_main_process and (step % run.save_every == 0 or step == run.steps):
            save_checkpoint(out, step, objective.trained, optimizer, average, run.keep)
        if accelerator.is_main_process and sample and (step % run.sample_every == 0 or step == run.steps):
            path = out / "samples" / f"{step:07d}.png"
            path.parent.mkdir(exist_ok=True)
            with Averaged(objective.trained, average), torch.no_grad():
                sample(objective.trained, path)
    log.close()
    if average:
        average.copy_to(objective.trained)
    return objective.trained


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
            average = self.weights[key]
            if average.device != value.device:
                average = self.weights[key] = average.to(value.device)
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    @torch.no_grad()
    def copy_to(self, trained: nn.Module) -> None:
        trained.load_state_dict(self.weights)


class Averaged:
    """Context in which a network holds its averaged weights."""

    def __init__(self, trained: nn.Module, average: Average | None):
        self.trained, self.average = trained, average

    def __enter__(self) -> None:
        self.trained.eval()
        if self.average:
            self.kept = {k: v.detach().clone() for k, v in self.trained.state_dict().items()}
            self.average.copy_to(self.trained)

    def __exit__(self, *exception) -> None:
        if self.average:
            self.trained.load_state_dict(self.kept)
        self.trained.train()


def save_checkpoint(out: Path, step: int, trained: nn.Module, optimizer, average: Average | None, keep: int) -> None:
    """Writes step-<n>.pt atomically and removes all but the newest `keep`."""
    state = {"step": step, "trained": trained.state_dict(), "optimizer": optimizer.state_dict()}
    if average:
        state["average"] = {"weights": average.weights, "updates": average.updates}
    temporary = out / "checkpoint.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, out / f"step-{step:07d}.pt")
    for old in sorted(out.glob("step-*.pt"))[:-keep]:
        old.unlink()


def load_checkpoint(out: Path, trained: nn.Module, optimizer, average: Average | None) -> int:
    """Restores the newest checkpoint of `out` and returns its step; 0 where there is none."""
    checkpoints = sorted(out.glob("step-*.pt"))
    if not checkpoints:
        return 0
    state = torch.load(checkpoints[-1], map_location="cpu", weights_only=True)
    trained.load_state_dict(state["trained"])
    optimizer.load_state_dict(state["optimizer"])
    if average:
        average.weights, average.updates = state["average"]["weights"], state["average"]["updates"]
    return state["step"]


class Log:
    """Progress bar and log.csv; rows written after the checkpoint that a run resumes from are dropped."""

    def __init__(self, out: Path, run: RunConfig, start: int, enabled: bool):
        self.enabled, self.run, self.path = enabled, run, out / "log.csv"
        if not enabled:
            return
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]
            self.path.unlink()
            self.write(rows)
        self.bar = tqdm(total=run.steps, initial=start, desc=out.name, unit="step", dynamic_ncols=True)
        self.pending: list[dict[str, Tensor]] = []
        self.since, self.since_step = time.monotonic(), start

    def step(self, step: int, losses: list[dict[str, Tensor]], grad_norm: Tensor, lr: float) -> None:
        if not self.enabled:
            return
        self.pending += losses
        self.bar.update()
        if step % self.run.log_every and step != self.run.steps:
            return
        seconds, done = time.monotonic() - self.since, step - self.since_step
        means = {k: sum(float(p[k]) for p in self.pending) / len(self.pending) for k in self.pending[0]}
        row = {
            "step": step,
            **{k: f"{v:.6g}" for k, v in means.items()},
            "grad_norm": f"{float(grad_norm):.4g}",
            "lr": f"{lr:.4g}",
            "images_per_second": f"{done * self.run.batch_size / seconds:.4g}",
        }
        self.bar.set_postfix(loss=row["loss"], ips=row["images_per_second"])
        self.write([row])
        self.pending = []
        self.since, self.since_step = time.monotonic(), step

    def write(self, rows: list[dict]) -> None:
        if not rows:
            return
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            if new:
                writer.writeheader()
            writer.writerows(rows)

    def close(self) -> None:
        if self.enabled:
            self.bar.close()
