"""The optimization loop of every recipe: resumable, logged, on accelerate.

All randomness of a run is a function of (seed, sample index), so a checkpoint is the trained weights, the optimizer and
the step, and a resumed run continues bit by bit.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data import to_float
from . import dry_run
from .checkpoint import EMA, keep_newest, load_checkpoint, save_checkpoint, set_aside, swap_ema_weights
from .config import ConfigError
from .cpu import fast_steps
from .log import Log, Measured
from .precision import has_bf16, run_device
from .run_folder import BEST, BEST_NOTE, RUN_NOTE, SAMPLES, locked, read_note, require_recipe, write_json
from .tables import Row

REMEDY = "lower lr, or resume from the last checkpoint"


@dataclass(frozen=True)
class RunConfig:
    """How long, how fast and where."""

    out: str  # folder for checkpoints, logs and sample images; an existing run there is resumed
    steps: int
    batch_size: int  # over all processes, per optimizer step
    lr: float
    gradient_accumulation_steps: int = 1  # micro-batches per optimizer step
    min_lr: float = 0.0  # the cosine's end
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema: float = 0.0  # decay of the averaged weights that are exported; 0: the last weights are
    precision: Literal["no", "bf16"] = "no"  # bf16: on CPUs that have none, float32 all the same
    channels_last: bool = False  # memory format of convolutions, in which bf16 is faster on a GPU and on some CPUs
    compile: bool = False  # by torch.compile: takes minutes at first, and a C++ compiler on a CPU
    workers: int = 2  # data loading processes
    seed: int = 0
    log_every: int = 20
    save_every: int = 1000
    sample_every: int = 1000
    validate_every: int = 1000
    validation_batches: int = 8
    save_total_limit: int = 2  # checkpoints kept
    wandb: str | None = None  # project at Weights & Biases to log to as well; needs `pip install wandb`
    dry_run: bool = False  # tell what the run would take, and stop

    def __post_init__(self):
        for name in (
            "steps",
            "batch_size",
            "gradient_accumulation_steps",
            "log_every",
            "save_every",
            "sample_every",
            "validate_every",
            "save_total_limit",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"run.{name} is {getattr(self, name)}, expected 1 or more")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ConfigError(
                f"run.batch_size is {self.batch_size}, expected a multiple of run.gradient_accumulation_steps, {self.gradient_accumulation_steps}"
            )


class Objective(nn.Module):
    """A recipe's loss: `forward(batch)` -> (loss, {name: value to log}). `trained` is what the recipe produces.

    A value is a number, or (B,) with one for each image, NaN where an image has none. So the log shows the same however a
    batch is split over micro-batches and processes.
    """

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


class Training:
    """The state of a run: what is trained, its optimizer and EMA, how far it is, and what the next row of the log is of."""

    def __init__(self, run: RunConfig, objective: Objective):
        self.run, self.objective = run, objective
        if run.channels_last:
            objective.to(memory_format=torch.channels_last)
        if run.compile:
            objective.compile()
        self.accelerator = Accelerator(
            mixed_precision=run.precision if has_bf16(run_device()) else "no",
            gradient_accumulation_steps=run.gradient_accumulation_steps,
            dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
            step_scheduler_with_optimizer=False,
        )
        self.main, processes = self.accelerator.is_main_process, self.accelerator.num_processes
        if run.batch_size // run.gradient_accumulation_steps % processes:
            raise ConfigError(
                f"run.batch_size / run.gradient_accumulation_steps is {run.batch_size // run.gradient_accumulation_steps}, expected a multiple of the {processes} processes"
            )
        groups = decayed_or_not(objective.trained, run.weight_decay)
        fused = True if self.accelerator.device.type == "cpu" else None  # None: torch chooses, for a GPU well
        self.optimizer = torch.optim.AdamW(groups, lr=run.lr, betas=run.betas, fused=fused)
        self.fast = fast_steps(self.accelerator.device)
        self.ema = EMA(objective.trained, run.ema) if run.ema else None
        self.step, self.measured = 0, Measured()
        self.losses: list[Tensor] = []
        self.tables: dict[str, list[Row]] | None = None  # of the log, as the checkpoint has them

    def resume(self, out: Path, noted: dict) -> None:
        """Goes on from the newest intact checkpoint of `out`, if there is any.

        Raises ConfigError where it is of another recipe than `noted`, or where all are damaged.
        """
        path, state = load_checkpoint(out)
        if len(set(gather_object([state.get("step", 0)]))) > 1:
            raise ConfigError(
                f"{out} holds another checkpoint on other machines; give a folder on a disk that they share"
            )
        if path is None:
            return
        if (out / RUN_NOTE).exists():  # who removes it wants to go on with another recipe
            require_recipe(out, read_note(out) or state.get("noted", {}), noted)
        if self.ema and "average" not in state:
            raise ConfigError(f"{path} was made without run.ema; set it to 0, or choose another run.out")
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        try:
            self.objective.trained.load_state_dict(state["trained"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:  # torch's for other shapes
            raise ConfigError(f"{path} is of another network than this recipe's; choose another run.out") from error
        for group, kept in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(kept)  # the config's, which may have changed
        if self.ema:
            self.ema.load_state_dict(state["average"])
        self.step, self.tables = state["step"], state.get("tables")
        if self.main:
            self.measured = Measured(state.get("measured", {}))
            set_aside(out, path)
            keep_newest(out, self.run.save_total_limit)  # a kill may have come before

    def prepare(self, dataset: Dataset) -> DataLoader:
        """Moves everything to the device of this process; returns the micro-batches that are left."""
        run, pin = self.run, self.accelerator.device.type == "cuda"  # the next batch travels while the GPU works
        loader = DataLoader(
            dataset,
            batch_size=run.batch_size // run.gradient_accumulation_steps,
            sampler=range(self.step * run.batch_size, run.steps * run.batch_size),
            num_workers=run.workers,
            persistent_workers=run.workers > 0,
            pin_memory=pin,
        )
        self.model, self.optimizer, loader = self.accelerator.prepare(self.objective, self.optimizer, loader)
        for weight, state in self.optimizer.state.items():
            state["step"] = state["step"].cpu()  # prepare moves it along; on a GPU every step would wait for it
            for key in ("exp_avg", "exp_avg_sq"):  # AdamW's fused kernel takes both to lie in memory as the weight does
                state[key] = torch.empty_like(weight).copy_(state[key])
        self.model.train()
        return loader

    def advance(self, batch: dict[str, Tensor]) -> bool:
        """Forward and backward of a micro-batch; whether it was the last of an optimizer step, which then is done."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.step, self.run)
        with self.accelerator.accumulate(self.model):
            with self.fast:
                loss, values = self.model(batch)
            self.losses.append(loss.detach())
            self.measured.add({"loss": loss, **values})
            self.accelerator.backward(loss)
            done = self.accelerator.sync_gradients
            if done:
                self.grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.run.max_grad_norm)
                require_finite(self.losses, self.grad_norm, Path(self.run.out), self.step)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if done:
            self.losses = []
            self.step += 1
            if self.ema:
                self.ema.update(self.objective.trained)
        return done

    def due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.run.steps

    def ema_weights(self) -> AbstractContextManager[nn.Module]:
        return swap_ema_weights(self.objective.trained, self.ema)

    def state_dict(self, noted: dict, tables: dict[str, list[Row]]) -> dict:
        """What `resume` takes: of the main process, which alone has the log's tables."""
        state = {"step": self.step, "trained": self.objective.trained.state_dict(), "noted": noted, "tables": tables}
        state |= {"optimizer": self.optimizer.state_dict(), "measured": self.measured.numbers()}
        return state | ({"average": self.ema.state_dict()} if self.ema else {})


def fit(
    run: RunConfig,
    objective: Objective,
    dataset: Dataset,
    *,
    sample: Callable[[nn.Module, Path], None] | None = None,
    validation: Mapping[str, Dataset] = {},
    export: Callable[[nn.Module, Path], None] | None = None,
    recipe: Any = None,
) -> nn.Module:
    """Trains `objective.trained` for `run.steps` optimizer steps, resuming what `run.out` holds, and returns it.

    `sample(trained, path)` draws an image of the current state into `path`; `export(trained, folder)` writes the weights,
    in the end into `run.out`, and into `best` in it whenever the mean loss over `validation`, named sets of samples of
    other photos, is the lowest so far. `recipe` is noted in run.json, which training.export reads. The returned network
    holds the averaged weights if the run keeps any. Raises FloatingPointError at the first loss or gradient that is not
    finite, OSError where the disk is full; the last checkpoint is untouched by either. Raises ConfigError where another run
    is at work in `run.out`.
    """
    training, out = Training(run, objective), Path(run.out)
    if run.dry_run:
        loader = training.prepare(dataset)
        tell_dry_run(training, to_float(next(iter(loader))))
        return objective.trained
    noted = json.loads(
        json.dumps(asdict(run) | ({"recipe": asdict(recipe) | {"run": None} | lists(dataset)} if recipe else {}))
    )
    with ExitStack() as stack:
        if training.main:
            stack.enter_context(locked(out))
        training.resume(out, noted)
        loader = training.prepare(dataset)
        log = stack.enter_context(closing(Log(out, noted, training.step, training.tables))) if training.main else None
        for batch in loader:
            if not training.advance(to_float(batch)):
                continue
            if log:
                log.step(training.step)
            if training.due(run.log_every):
                means = training.measured.means()
                if log:
                    log.row(training.step, means, training.grad_norm, lr_at(training.step - 1, run))
            if log and sample and training.due(run.sample_every):
                draw_samples(training, log, sample)
            if log and validation and training.due(run.validate_every):
                validate(training, log, validation, export)
            if training.due(run.save_every):  # after all that a run that goes on from here must not repeat
                training.measured.gather()
                if log:
                    with log.pause("saving a checkpoint"):
                        save_checkpoint(out, training.state_dict(noted, log.tables), run.save_total_limit)
        if training.ema:
            objective.trained.load_state_dict(training.ema.weights)
        if log and export:
            export(objective.trained, out)
        training.accelerator.wait_for_everyone()
    return objective.trained


def draw_samples(training: Training, log: Log, sample: Callable[[nn.Module, Path], None]) -> None:
    path = log.out / SAMPLES / f"{training.step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    with log.pause("drawing samples"), training.ema_weights() as trained, torch.no_grad():
        sample(trained, path)
    log.samples(training.step, path)


def validate(
    training: Training,
    log: Log,
    validation: Mapping[str, Dataset],
    export: Callable[[nn.Module, Path], None] | None,
) -> None:
    """Logs the loss on each validation set, and exports the weights into `best` if their mean is the lowest so far."""
    with log.pause("validating"), training.ema_weights() as trained, training.accelerator.autocast():
        losses = {name: validation_loss(training, samples) for name, samples in validation.items()}
        if log.validation(training.step, losses) and export:
            best = log.out / BEST
            best.mkdir(exist_ok=True)
            write_json(best / BEST_NOTE, {})  # a kill in between leaves weights of an unknown step
            export(trained, best)
            write_json(best / BEST_NOTE, {"step": training.step, "validation": losses})


@torch.no_grad()
def validation_loss(training: Training, samples: Dataset) -> float:
    """Mean loss over the first `run.validation_batches` batches of `samples`, always the same ones."""
    run, device = training.run, training.accelerator.device
    size = run.batch_size // run.gradient_accumulation_steps
    loader = DataLoader(samples, size, sampler=range(size * run.validation_batches), num_workers=run.workers)
    losses = [
        training.objective(to_float({key: value.to(device) for key, value in batch.items()}))[0] for batch in loader
    ]
    return float(torch.stack(losses).mean())


def lists(dataset: Dataset) -> dict[str, str]:
    """Fingerprints of photos and masks, where the dataset has them, under the names by which a run with others is refused."""
    return dataset.lists() if hasattr(dataset, "lists") else {}


def require_finite(losses: list[Tensor], grad_norm: Tensor, out: Path, step: int) -> None:
    """Raises FloatingPointError, before weights are changed; waits for a GPU once a step."""
    if math.isfinite(torch.stack([*losses, grad_norm.to(losses[0])]).sum()):
        return
    for loss in losses:
        if not math.isfinite(loss):
            raise FloatingPointError(f"{out}: loss is {loss.item()} at step {step}; {REMEDY}")
    raise FloatingPointError(f"{out}: the gradient is not finite at step {step}; {REMEDY}")


def decayed_or_not(network: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's parameter groups, as MAE's: matrices and convolutions decay, biases, norms and single numbers do not."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def tell_dry_run(training: Training, batch: dict[str, Tensor]) -> None:
    run, accelerator = training.run, training.accelerator

    def part() -> Tensor:
        loss, _ = training.model(batch)
        accelerator.backward(loss)
        return loss

    text = dry_run.report(
        training.model, part, run.batch_size, run.steps, run.gradient_accumulation_steps, accelerator.num_processes
    )
    if training.main:
        sys.stdout.write(text + "\n")
