"""What a dry run forecasts beside the steps: the encoding of latents; and what it keeps to itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY_MAE

from asuka_modules import checkpoints
from asuka_modules.mae import MAE
from training.engine.config import ConfigError
from training.engine.precision import run_device

ROOT = Path(__file__).parents[2]


def align(photos: Path, masks: Path, base: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    checkpoints.save(folder / "mae.safetensors", {"mae": MAE(TINY_MAE)})
    changes = {
        "base": base,
        "mae": folder / "mae.safetensors",
        "init": "null",
        "model.prior_dim": 24,
        "latents.out": folder / "latents",
        "latents.count": 6,
        "latents.batch_size": 2,
        "latents.workers": 0,
        "latents.data.folders": f"[{photos}]",
        "latents.data.size": 64,
        "latents.data.held_out": 0,
        "latents.masks.objects": masks,
        "latents.masks.size": 64,
        "run.out": folder / "run",
        "run.batch_size": 2,
        "run.steps": 1,
        "run.workers": 0,
    }
    overrides = [argument for key, value in changes.items() for argument in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "training.align", "training/configs/miniature/align.yaml", *overrides, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)


def test_dry_run_tells_what_encoding_takes(photos, masks, base, tmp_path):
    """The disk as it is then taken, for which there is a real run; and none of diffusers' warnings."""
    result = align(photos, masks, base, tmp_path, "--dry-run")
    told = re.search(r"latents      6 crops to encode first, \d+ s here, (\S+) GB of disk", result.stdout)
    assert "0.0 h" not in result.stdout
    assert "of the peak is reached, which was not measured" in result.stdout
    assert "should be kept in float32" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"mae.safetensors"}
    align(photos, masks, base, tmp_path)
    taken = sum(path.stat().st_size for path in tmp_path.glob("latents*/**/*.safetensors"))
    assert float(told[1]) * 1e9 == pytest.approx(taken, rel=0.1)


def test_processes_that_would_train_alone_are_refused(monkeypatch):
    """As accelerate leaves them that were launched for GPUs where there is none."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were launched without a GPU for each"):
        run_device()
