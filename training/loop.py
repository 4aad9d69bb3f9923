"""The optimisation loop of every recipe: resumable, logged, on accelerate.

All randomness of a run is a function of (seed, sample index), so a checkpoint is the trained weights, the optimizer and
the step, and a resumed run continues bit by bit.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from asuka_modules.atomic import remove_leftovers

from . import dry_run
from .checkpoint import Average, Averaged, load_checkpoint, save_checkpoint
from .config import ConfigError
from .data import unpack
from .log import RUN_NOTE, Log
from .precision import has_bf16, run_device

REMEDY = "lower lr, or resume from the last checkpoint"


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
    precision: Literal["no", "bf16"] = "no"  # bf16: on CPUs that have none, float32 all the same
    workers: int = 2  # data loading processes
    seed: int = 0
    log_every: int = 20
    save_every: int = 1000
    sample_every: int = 1000
    validate_every: int = 1000
    validation_batches: int = 8
    keep: int = 2  # checkpoints
    dry_run: bool = False  # tell what the run would take, and stop

    def __post_init__(self):
        for name in (
            "steps",
            "batch_size",
            "accumulate",
            "log_every",
            "save_every",
            "sample_every",
            "validate_every",
            "keep",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"run.{name} is {getattr(self, name)}, expected 1 or more")
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"run.batch_size is {self.batch_size}, expected a multiple of run.accumulate, {self.accumulate}"
            )


class Objective(nn.Module):
    """A recipe's loss: `forward(batch)` -> (loss, {name: value to log}). `trained` is what the recipe produces."""

    trained: nn.Module

    def train(self, mode: bool = True) -> "Objective":
        """What is frozen stays in evaluation mode: LPIPS, for one, has dropout."""
        super().train(False)
        self.trained.train(mode)
        return self


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
    validation: Mapping[str, Dataset] = {},
    export: Callable[[nn.Module, Path], None] | None = None,
    recipe: object | None = None,
) -> nn.Module:
    """Trains `objective.trained` for `run.steps` optimizer steps, resuming what `run.out` holds, and returns it.

    `sample(trained, path)` draws a picture of the current state into `path`; `export(trained, folder)` writes the weights,
    in the end into `run.out`, and into `best` in it whenever the mean loss over `validation`, named sets of samples of
    other photos, is the lowest so far. `recipe` is noted in run.json, which training.export reads. The returned network
    holds the averaged weights if the run keeps any. Raises FloatingPointError at the first loss or gradient that is not
    finite, OSError where the disk is full; the last checkpoint is untouched by either.
    """
    accelerator = Accelerator(
        mixed_precision=run.precision if has_bf16(run_device()) else "no",
        gradient_accumulation_steps=run.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        step_scheduler_with_optimizer=False,
    )
    if run.batch_size // run.accumulate % accelerator.num_processes:
        raise ConfigError(
            f"run.batch_size / run.accumulate is {run.batch_size // run.accumulate}, expected a multiple of the {accelerator.num_processes} processes"
        )
    main, out = accelerator.is_main_process, Path(run.out)
    noted = asdict(run) | ({"recipe": asdict(recipe) | {"run": None}} if recipe else {})
    if not run.dry_run:
        require_recipe(out, noted)
    optimizer = torch.optim.AdamW(decayed_or_not(objective.trained, run.weight_decay), lr=run.lr, betas=run.betas)
    average = Average(objective.trained, run.ema) if run.ema else None
    start = 0 if run.dry_run else load_checkpoint(out, objective.trained, optimizer, average)
    if len(set(gather_object([start]))) > 1:
        raise ConfigError(f"{out} holds another checkpoint on other machines; give a folder on a disk that they share")
    loader = DataLoader(
        dataset,
        batch_size=run.batch_size // run.accumulate,
        sampler=range(start * run.batch_size, run.steps * run.batch_size),
        num_workers=run.workers,
        persistent_workers=run.workers > 0,
        pin_memory=accelerator.device.type == "cuda",  # the next batch travels while the GPU works
    )
    model, optimizer, loader = accelerator.prepare(objective, optimizer, loader)
    for state in optimizer.state.values():
        state["step"] = state["step"].cpu()  # prepare moves it along; on a GPU every step would wait for it
    model.train()
    if run.dry_run:
        tell_dry_run(run, accelerator, model, unpack(next(iter(loader))))
        return objective.trained
    out.mkdir(parents=True, exist_ok=True)
    if main:
        for folder in (out, out / "best"):
            remove_leftovers(folder)
    log = Log(out, noted, accelerator.num_processes, start) if main else None
    step, values = start, []
    for batch in loader:
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, run)
        with accelerator.accumulate(model):
            loss, parts = model(unpack(batch))
            values.append({"loss": loss.detach(), **parts})
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                grad_norm = accelerator.clip_grad_norm_(model.parameters(), run.max_grad_norm)
                require_finite([part["loss"] for part in values], grad_norm, out, step)
            optimizer.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        if average:
            average.update(objective.trained)
        step += 1
        measured, values = values, []
        if not main:
            continue
        log.step(step, measured, grad_norm, lr_at(step - 1, run))
        last = step == run.steps
        if sample and (step % run.sample_every == 0 or last):
            path = out / "samples" / f"{step:07d}.png"
            path.parent.mkdir(exist_ok=True)
            with Averaged(objective.trained, average) as trained, torch.no_grad():
                sample(trained, path)
        if validation and (step % run.validate_every == 0 or last):
            with Averaged(objective.trained, average) as trained, accelerator.autocast():
                losses = {
                    name: validate(run, objective, samples, accelerator.device) for name, samples in validation.items()
                }
                if log.validation(step, losses) and export:
                    (out / "best").mkdir(exist_ok=True)
                    export(trained, out / "best")
        if step % run.save_every == 0 or last:  # after all that a run that goes on from here must not repeat
            save_checkpoint(out, step, objective.trained, optimizer, average, run.keep)
    if log:
        log.close()
    if average:
        objective.trained.load_state_dict(average.weights)
    if main and export:
        export(objective.trained, out)
    accelerator.wait_for_everyone()
    return objective.trained


def require_finite(losses: list[Tensor], grad_norm: Tensor, out: Path, step: int) -> None:
    """Raises FloatingPointError, before weights are changed; waits for a GPU once a step."""
    if math.isfinite(torch.stack([*losses, grad_norm.to(losses[0])]).sum()):
        return
    for loss in losses:
        if not math.isfinite(loss):
            raise FloatingPointError(f"{out}: loss is {loss.item()} at step {step}; {REMEDY}")
    raise FloatingPointError(f"{out}: the gradient is not finite at step {step}; {REMEDY}")


def require_recipe(out: Path, noted: dict) -> None:
    """Raises ConfigError where `out` holds checkpoints of another recipe, or of another batch size or seed, on which it
    depends what the next sample is. How long, how fast and how it is validated may change under way."""
    if not any(out.glob("step-*.pt")) or not (out / RUN_NOTE).exists():
        return
    runs = json.loads((out / RUN_NOTE).read_text()), json.loads(json.dumps(noted))
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


def decayed_or_not(network: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's parameter groups, as MAE's: matrices and convolutions decay, biases, norms and single numbers do not."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def validate(run: RunConfig, objective: Objective, samples: Dataset, device: torch.device) -> float:
    """Mean loss over the first `run.validation_batches` batches of `samples`, always the same ones."""
    size = run.batch_size // run.accumulate
    loader = DataLoader(samples, size, sampler=range(size * run.validation_batches), num_workers=run.workers)
    losses = [objective(unpack({key: value.to(device) for key, value in batch.items()}))[0] for batch in loader]
    return float(torch.stack(losses).mean())


def tell_dry_run(run: RunConfig, accelerator: Accelerator, model: nn.Module, batch: dict[str, Tensor]) -> None:
    def part() -> Tensor:
        loss, _ = model(batch)
        accelerator.backward(loss)
        return loss

    text = dry_run.report(model, part, run.batch_size, run.steps, run.accumulate, accelerator.num_processes)
    if accelerator.is_main_process:
        sys.stdout.write(text + "\n")
