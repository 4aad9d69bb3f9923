"""The loop: several processes, accumulation, averaging, validation, a full disk, a dry run."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.atomic import PREFIX
from training.engine import checkpoint
from training.engine.checkpoint import read_state
from training.engine.config import ConfigError
from training.engine.dry_run import CPU_ATTENTION, report
from training.engine.loop import Objective, RunConfig, fit, lr_at
from training.weights.card import card

pytestmark = pytest.mark.trains

ROOT = Path(__file__).parents[2]


class Numbers(Dataset):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.randn(3, generator=torch.Generator().manual_seed(index))}


class Regression(Objective):
    """Learns y = sum(x)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trained = nn.Linear(3, 1)

    def forward(self, batch):
        loss = (self.trained(batch["x"])[:, 0] - batch["x"].sum(1)).square().mean()
        return loss, {"doubled": 2 * loss.detach()}


def config(out: Path, **changes) -> RunConfig:
    return RunConfig(
        **{"out": str(out), "steps": 6, "batch_size": 4, "lr": 0.1, "workers": 0, "log_every": 1, **changes}
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_accumulated_micro_batches_are_one_batch(tmp_path):
    whole = fit(config(tmp_path / "whole"), Regression(), Numbers())
    parts = fit(config(tmp_path / "parts", gradient_accumulation_steps=4), Regression(), Numbers())
    torch.testing.assert_close(parts.weight, whole.weight)
    for a, b in zip(rows(tmp_path / "whole/log.csv"), rows(tmp_path / "parts/log.csv"), strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-4)
        assert float(a["doubled"]) == pytest.approx(2 * float(a["loss"]), rel=1e-4)


def test_finished_run_keeps_what_it_was_computed_on(tmp_path):
    fit(config(tmp_path), Regression(), Numbers())
    record = tmp_path / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"hardware": "1 x abacus"}))
    fit(config(tmp_path), Regression(), Numbers())
    assert json.loads(record.read_text())["hardware"] == "1 x abacus"
    fit(config(tmp_path, steps=8), Regression(), Numbers())
    assert json.loads(record.read_text())["hardware"] != "1 x abacus"


def test_averaged_weights_are_the_moving_average(tmp_path):
    """Two runs of the same seed: one is watched step by step, the other keeps the average."""
    fit(config(tmp_path / "watched", save_every=1, save_total_limit=10), Regression(), Numbers())
    paths = sorted((tmp_path / "watched").glob("step-*.pt"))
    expected, decay = Regression().trained.weight.detach().clone(), 0.9
    for updates, path in enumerate(paths, start=1):
        d = min(decay, (1 + updates) / (10 + updates))
        expected = d * expected + (1 - d) * torch.load(path, weights_only=True)["trained"]["weight"]
    averaged = fit(config(tmp_path / "averaged", ema=decay), Regression(), Numbers())
    torch.testing.assert_close(averaged.weight, expected)


def test_validation_keeps_the_best_weights(tmp_path):
    """Those that were validated: of two runs of the same seed one keeps every step's average."""
    run = config(tmp_path / "run", steps=8, lr=3.0, min_lr=3.0, validate_every=1, validation_batches=2, ema=0.5)

    def export(trained: nn.Module, folder: Path) -> None:
        torch.save(trained.state_dict(), folder / "weights.pt")

    fit(run, Regression(), Numbers(), validation={"a": Numbers(), "b": Numbers()}, export=export)
    losses = [float(row["a"]) + float(row["b"]) for row in rows(tmp_path / "run/validation.csv")]
    best = losses.index(min(losses)) + 1
    assert best < 8  # such a learning rate does not end at its best
    fit(config(tmp_path / "watched", steps=best, lr=3.0, min_lr=3.0, ema=0.5), Regression(), Numbers())
    state = torch.load(tmp_path / f"watched/step-{best:07d}.pt", weights_only=True)
    found = torch.load(tmp_path / "run/best/weights.pt", weights_only=True)
    for key, value in state["average"]["weights"].items():
        assert torch.equal(found[key], value)
    assert not torch.equal(state["trained"]["weight"], found["weight"])


def test_resumed_run_validates_what_it_repeats_once(tmp_path):
    """Killed after the validation at 3, the last checkpoint being that of step 2."""
    run = config(tmp_path / "whole", steps=6, save_every=2, validate_every=3, validation_batches=1)
    fit(run, Regression(), Numbers(), validation={"a": Numbers()})
    killed = config(
        tmp_path / "killed", steps=6, save_every=2, validate_every=3, validation_batches=1, save_total_limit=9
    )
    fit(killed, Regression(), Numbers(), validation={"a": Numbers()})
    for step in (4, 6):
        (tmp_path / f"killed/step-{step:07d}.pt").unlink()
    fit(killed, Regression(), Numbers(), validation={"a": Numbers()})
    assert rows(tmp_path / "killed/validation.csv") == rows(tmp_path / "whole/validation.csv")


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"batch_size": 20, "gradient_accumulation_steps": 8},
            "run.batch_size is 20, expected a multiple of run.gradient_accumulation_steps, 8",
        ),
        ({"steps": 0}, "run.steps is 0, expected 1 or more"),
    ],
)
def test_impossible_runs_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **changes)


def test_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    fit(config(tmp_path, steps=2, save_every=2), Regression(), Numbers())
    before = (tmp_path / "step-0000002.pt").read_bytes()

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(
        OSError, match=r"No space left on device.*; free some space and start again, step-0000002.pt is intact"
    ):
        fit(config(tmp_path, steps=4, save_every=2), Regression(), Numbers())
    assert [path.name for path in tmp_path.glob("*.pt")] == ["step-0000002.pt"]
    assert (tmp_path / "step-0000002.pt").read_bytes() == before
    assert not list(tmp_path.glob(f"{PREFIX}*"))


class Infinite(Regression):
    """A finite loss whose gradient is not, from the third step on."""

    seen = 0

    def forward(self, batch):
        self.seen += 1
        loss, values = super().forward(batch)
        broken = (self.trained.weight - self.trained.weight.detach()).abs().sqrt().sum() * 0.0
        return (loss + broken if self.seen > 2 else loss), values


def test_gradient_that_is_not_finite_leaves_the_last_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match=r"the gradient is not finite at step 2; lower lr"):
        fit(config(tmp_path, save_every=1, save_total_limit=1), Infinite(), Numbers())
    state = torch.load(tmp_path / "step-0000002.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state["trained"].values())


def test_averaging_cannot_begin_in_between(tmp_path):
    fit(config(tmp_path, steps=2), Regression(), Numbers())
    with pytest.raises(ConfigError, match=r"step-0000002.pt was made without run.ema; set it to 0"):
        fit(config(tmp_path, steps=4, ema=0.9), Regression(), Numbers())


class Convolution(Regression):
    def __init__(self):
        super().__init__()
        self.trained = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, batch):
        picture = batch["x"][:, :, None, None] * torch.linspace(0, 1, 5)
        found = self.trained(picture.expand(-1, -1, 5, -1))
        return (found - picture.sum(1, keepdim=True)).square().mean(), {}


def test_memory_format_may_change_under_way(tmp_path):
    out = tmp_path / "changing"
    for steps, channels_last in ((2, False), (4, True), (6, False)):
        found = fit(config(out, steps=steps, min_lr=0.1, channels_last=channels_last), Convolution(), Numbers())
        assert found.weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    expected = fit(config(tmp_path / "constant", min_lr=0.1), Convolution(), Numbers())
    torch.testing.assert_close(found.weight, expected.weight)


class Traced(Regression):
    def compile(self):
        super().compile(backend="eager")  # a machine that tests may have no C++ compiler


def test_compiled_run_gives_the_same(tmp_path):
    expected = fit(config(tmp_path / "plain"), Traced(), Numbers())
    assert not counters["frames"]["ok"]
    found = fit(config(tmp_path / "compiled", compile=True), Traced(), Numbers())
    assert counters["frames"]["ok"]
    torch.testing.assert_close(found.weight, expected.weight)


class Still(Regression):
    """A gradient of zero."""

    def forward(self, batch):
        return super().forward(batch)[0] * 0.0, {}


def test_biases_do_not_decay(tmp_path):
    """With a gradient of zero only the decay is left, as AdamW defines it: 1 - lr * weight_decay a step."""
    before = Still().trained
    after = fit(config(tmp_path, steps=2, weight_decay=0.5, min_lr=0.1), Still(), Numbers())
    assert torch.equal(after.bias, before.bias)
    torch.testing.assert_close(after.weight, before.weight * (1 - 0.1 * 0.5) ** 2)


def test_frozen_networks_stay_in_evaluation_mode():
    objective = Regression()
    objective.frozen = nn.Dropout()
    objective.train()
    assert (objective.training, objective.trained.training, objective.frozen.training) == (False, True, False)
    objective.eval()
    assert not objective.trained.training


def test_learning_rate_warms_up_and_follows_a_cosine():
    run = config(Path(), steps=110, lr=1.0, min_lr=0.1, warmup_steps=10)
    found = [lr_at(step, run) for step in (0, 4, 9, 10, 60, 110)]
    assert found == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.55, 0.1])


@dataclass(frozen=True)
class Recipe:
    """As every recipe: what is trained on what, and how."""

    mae: object
    run: object = None
    validation: tuple[str, ...] = ()


def test_run_goes_on_with_the_recipe_that_it_began_with(tmp_path):
    """It may take longer, and be validated otherwise; weights of two recipes are nobody's."""
    out = tmp_path / "out"
    fit(config(out, steps=2), Regression(), Numbers(), recipe=Recipe("a"))
    fit(config(out, steps=3), Regression(), Numbers(), recipe=Recipe("a", validation=("b",)))
    with pytest.raises(
        ConfigError, match=r"out holds a run that began with another mae; choose another run\.out, or remove run"
    ):
        fit(config(out, steps=4), Regression(), Numbers(), recipe=Recipe("b"))
    (out / "run.json").unlink()
    fit(config(out, steps=4), Regression(), Numbers(), recipe=Recipe("b"))
    assert (out / "step-0000004.pt").exists()


def test_run_goes_on_with_the_batch_size_that_it_began_with(tmp_path):
    """Which sample comes next depends on it."""
    fit(config(tmp_path, steps=2), Regression(), Numbers())
    with pytest.raises(ConfigError, match="another batch_size"):
        fit(config(tmp_path, steps=4, batch_size=8), Regression(), Numbers())


def test_decay_may_change_under_way(tmp_path):
    """A matrix whose gradient is zero shows it: the first half decays, the second does not."""
    before = Still().trained.weight
    fit(config(tmp_path, steps=2, weight_decay=0.5, min_lr=0.1), Still(), Numbers())
    after = fit(config(tmp_path, steps=4, weight_decay=0.0, min_lr=0.1), Still(), Numbers()).weight
    torch.testing.assert_close(after, before * (1 - 0.1 * 0.5) ** 2)


def test_run_goes_on_with_settings_that_came_later(tmp_path):
    out = tmp_path / "out"
    fit(config(out, steps=2), Regression(), Numbers(), recipe=Recipe({"size": 64}))
    fit(config(out, steps=3), Regression(), Numbers(), recipe=Recipe({"size": 64, "grow": 0.1}))
    with pytest.raises(ConfigError, match="another mae"):
        fit(config(out, steps=4), Regression(), Numbers(), recipe=Recipe({"size": 32, "grow": 0.1}))


def test_dry_run_tells_sizes_and_leaves_nothing(tmp_path, capsys):
    fit(config(tmp_path / "out", dry_run=True), Regression(), Numbers())
    text = capsys.readouterr().out
    assert "run          6 steps, 24 images" in text
    assert not (tmp_path / "out").exists()


def test_dry_run_estimate_follows_from_the_measured_work():
    model = nn.Linear(1000, 1000, bias=False)
    x = torch.randn(50, 1000)

    def step() -> torch.Tensor:
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with FlopCounterMode(display=False) as counter:
        step()
    assert counter.get_total_flops() == 2 * 2 * 50 * 1000 * 1000  # forward, and the weight's gradient
    text = report(model, step, 50, steps=10**9)
    hours = 2e8 * 1e9 / (312e12 * 0.35) / 3600
    assert f"A100 {hours:.1f} h" in text
    assert "1.0 M trained, 1.0 M in all" in text
    assert "50 images, 0.00 TFLOP" in text
    assert f"A100 {4 * hours:.1f} h" in report(model, step, 200, steps=10**9, parts=4)
    assert "used by 25 images at once" in report(model, step, 200, steps=1, parts=4, processes=2)


def test_dry_run_counts_attention():
    """On a CPU too: as much as the same products written out."""
    q, k, v = (torch.randn(2, 4, 48, 32, requires_grad=True) for _ in range(3))

    def counted(attention, mapping) -> int:
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            attention().sum().backward()
        return counter.get_total_flops()

    fused = counted(lambda: F.scaled_dot_product_attention(q, k, v), CPU_ATTENTION)
    written_out = counted(lambda: (q @ k.transpose(-1, -2)).softmax(-1) @ v, {})
    scores = 2 * 2 * 4 * 48 * 48 * 32  # which the fused backward computes once more
    assert fused == written_out + scores > scores

    def step() -> torch.Tensor:
        loss = F.scaled_dot_product_attention(q, k, v).sum()
        loss.backward()
        return loss

    hours = fused * 1e12 / (312e12 * 0.35) / 3600
    assert f"A100 {hours:.1f} h" in report(nn.ParameterList([q, k, v]), step, 2, steps=10**12)


def test_dry_run_counts_the_parts_of_a_step(tmp_path, capsys):
    fit(config(tmp_path / "out", dry_run=True, batch_size=4, gradient_accumulation_steps=2), Regression(), Numbers())
    text = capsys.readouterr().out
    for expected in ("6 steps, 24 images", "4 images, ", "used by 2 images at once"):
        assert expected in text


class Uneven(Regression):
    """Logs a value that only some images have: more of them in one process's half of a batch than in the other's."""

    def forward(self, batch):
        loss, values = super().forward(batch)
        return loss, {**values, "some": batch["x"][:, 0].masked_fill(batch["x"][:, 1] > 0, torch.nan)}


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from accelerate import PartialState
from test_loop import Numbers, Recipe, Uneven, config, export_as_alignment
from training.engine.loop import fit
out = Path({out!r})
assert PartialState(cpu=True).num_processes == {processes}
run = config(out, batch_size=8, log_every=2, validate_every=3, validation_batches=1)
fit(run, Uneven(), Numbers(), validation={{"loss": Numbers()}}, export=export_as_alignment, recipe=Recipe("mae"))
"""


def export_as_alignment(trained: nn.Module, folder: Path) -> None:
    """Weights of which the model card can be written."""
    alignment = Alignment(AlignmentConfig(prior_dim=3, context_dim=1, depth=0))
    with torch.no_grad():
        for value in alignment.parameters():
            value.copy_(trained.weight.mean())
    checkpoints.save(folder / "alignment.safetensors", {"alignment": alignment})


def test_two_processes_give_the_weights_log_and_card_of_one(tmp_path):
    """Both split the same batches of 8; gradients and what is logged meet through gloo."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        script = tmp_path / f"{processes}.py"
        paths = {"root": str(ROOT), "tests": str(Path(__file__).parent), "out": str(out)}
        script.write_text(SCRIPT.format(**paths, processes=processes))
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(processes),
            str(script),
        ]
        subprocess.run(launch, check=True, capture_output=True, cwd=ROOT, timeout=600, env=environment)
    states = [read_state(tmp_path / n / "step-0000006.pt")["trained"] for n in "12"]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, atol=1e-6, rtol=1e-5)
    for table in ("log.csv", "validation.csv"):
        for one, two in zip(*(rows(tmp_path / n / table) for n in "12"), strict=True):
            values = [{k: float(v) for k, v in row.items() if k != "images_per_second"} for row in (one, two)]
            assert values[1] == pytest.approx(values[0], rel=1e-4)
            assert values[0]
    cards = []
    for n in "12":
        hardware = json.loads((tmp_path / n / "run.json").read_text())["hardware"]
        for folder in (tmp_path / n, tmp_path / n / "best"):
            text = card("card", {"alignment": folder / "alignment.safetensors"}, {})
            cards.append([cell for cell in text.split("|") if not re.fullmatch(r" \d\.\d\d ", cell)])  # hours
            cards[-1] = [cell.replace(hardware, "") for cell in cards[-1]]
    assert cards[:2] == cards[2:]
