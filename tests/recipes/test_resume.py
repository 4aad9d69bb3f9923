"""A run killed at any moment continues bit by bit."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asuka_modules.atomic import PREFIX

pytestmark = pytest.mark.trains

ROOT = Path(__file__).parents[2]
STEPS = 24


def command(out: Path, photos: Path, masks: Path, workers: int) -> list[str]:
    changes = {
        "data.folders": f"[{photos}]",
        "masks.objects": masks,
        "validation": "[]",
        "data.size": 64,
        "model.image_size": 64,
        "model.patch_size": 4,
        "model.embed_dim": 32,
        "model.depth": 2,
        "model.decoder_embed_dim": 48,
        "masks.size": 64,
        "run.out": out,
        "run.steps": STEPS,
        "run.batch_size": 4,
        "run.warmup_steps": 4,
        "run.save_every": 3,
        "run.sample_every": 1000,
        "run.log_every": 1,
        "run.workers": workers,
    }
    overrides = [argument for key, value in changes.items() for argument in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "training.mae", "training/configs/miniature/mae.yaml", *overrides]


def losses(out: Path) -> list[tuple[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def uninterrupted(photos, masks, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    subprocess.run(command(out, photos, masks, workers=0), cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_run_continues_identically(uninterrupted, photos, masks, tmp_path, workers):
    out = tmp_path / "killed"
    for kill_after in (1, 3):  # checkpoints
        process = subprocess.Popen(
            command(out, photos, masks, workers),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        known = set(out.glob("step-*.pt"))
        while len(set(out.glob("step-*.pt")) - known) < min(kill_after, 2) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.poll() is None, process.stderr.read().decode()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    for folder in (out, out / "best"):
        (folder / f"{PREFIX}killed").mkdir(parents=True)
        (folder / f"{PREFIX}killed" / "lock").touch()
        (folder / f"{PREFIX}killed" / "content").write_bytes(b"half a checkpoint")
    subprocess.run(command(out, photos, masks, workers), cwd=ROOT, check=True, capture_output=True)
    assert losses(out) == losses(uninterrupted)
    assert (out / "mae.safetensors").read_bytes() == (uninterrupted / "mae.safetensors").read_bytes()
    assert not list(out.rglob(f"{PREFIX}*"))


def test_loss_that_is_not_finite_stops_with_the_last_checkpoint_intact(photos, masks, tmp_path):
    out = tmp_path / "diverging"
    result = subprocess.run(
        [*command(out, photos, masks, workers=0), "--set", "run.lr=1.0e+30", "--set", "run.save_every=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "loss is nan at step" in result.stderr
    assert "lower lr" in result.stderr
    assert list(out.glob("step-*.pt"))
