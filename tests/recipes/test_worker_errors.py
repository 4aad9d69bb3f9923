"""What ends a run from within the data ends it in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from tiny import TINY_MAE, run_config
from torch.utils.data import DataLoader, Dataset

from training import mae
from training.data import DataConfig
from training.engine.config import ConfigError
from training.engine.mask_file import MaskError
from training.engine.worker_errors import one_line
from training.masks import MaskConfig, Mixture

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.trains


def start(tmp_path: Path, photos: Path, masks: Path) -> subprocess.Popen:
    """A long run with one data worker."""
    model = {"image_size": 64, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "decoder_embed_dim": 24}
    model |= {"decoder_depth": 3, "decoder_num_heads": 4, "prior_depth": 2}
    run = {"out": str(tmp_path / "out"), "steps": 10**6, "batch_size": 2, "lr": 1.0e-3, "workers": 1}
    data, holes = {"folders": [str(photos)], "size": 64}, {"objects": str(masks), "size": 64}
    (tmp_path / "mae.yaml").write_text(yaml.safe_dump({"data": data, "masks": holes, "model": model, "run": run}))
    command = [sys.executable, "-m", "training.mae", str(tmp_path / "mae.yaml")]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_killed_data_worker_ends_the_run_in_one_line(photos, masks, tmp_path):
    run = start(tmp_path, photos, masks)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "log.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    (worker,) = (p for p in psutil.Process(run.pid).children() if "resource_tracker" not in " ".join(p.cmdline()))
    os.kill(worker.pid, signal.SIGKILL)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 1
    assert stderr.splitlines()[-1].startswith("error: a data worker was killed, most often for lack of memory; start")
    assert "Traceback" not in stderr


class Broken(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


@pytest.mark.parametrize("error", [ConfigError, MaskError, OSError])
def test_error_in_a_data_worker_is_one_line(error):
    dataset = Broken()
    dataset.error = error("photos/a.jpg: found this, expected that")
    with pytest.raises(error) as caught:
        list(DataLoader(dataset, num_workers=1))
    assert "Traceback" in str(caught.value)
    assert one_line(caught.value) == "photos/a.jpg: found this, expected that"
    with pytest.raises(RuntimeError, match="a fault of the program"):
        one_line(RuntimeError("a fault of the program"))


def test_photos_added_before_a_run_goes_on_are_told(photos, masks, tmp_path):
    """Its samples would be others from the start."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    data, holes = DataConfig(folders=(str(folder),), size=64), MaskConfig(objects=str(masks), size=64)
    recipe = mae.MAERecipe(data, holes, run_config(tmp_path / "out"), TINY_MAE)
    mae.train(recipe)
    longer = replace(recipe, run=replace(recipe.run, steps=3))
    shutil.copy(photos / "coffee.jpg", folder / "more.jpg")
    with pytest.raises(
        ConfigError, match=r"holds a run that began with another list of photos; choose another run.out"
    ):
        mae.train(longer)
    (folder / "more.jpg").unlink()
    mae.train(longer)


@pytest.mark.parametrize("change", ["added", "removed"])
def test_masks_changed_before_a_run_goes_on_are_told(photos, masks, tmp_path, change):
    folder = shutil.copytree(masks, tmp_path / "masks")
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(folder), size=64)
    recipe = mae.MAERecipe(data, holes, run_config(tmp_path / "out"), TINY_MAE)
    mae.train(recipe)
    longer = replace(recipe, run=replace(recipe.run, steps=3))
    if change == "added":
        shutil.copy(masks / "0.png", folder / "more.png")
    else:
        (folder / "2.png").rename(tmp_path / "2.png")
    with pytest.raises(ConfigError, match=r"holds a run that began with another list of masks; choose another run.out"):
        mae.train(longer)
    if change == "added":
        (folder / "more.png").unlink()
    else:
        (tmp_path / "2.png").rename(folder / "2.png")
    mae.train(longer)


def test_other_instances_of_coco_have_another_fingerprint(tmp_path):
    def fingerprint(*corners: int) -> str:
        shapes = [
            {"id": i, "image_id": 1, "area": 900, "segmentation": [[x, x, x + 30, x, x + 30, x + 30, x, x + 30]]}
            for i, x in enumerate(corners)
        ]
        path = tmp_path / f"{corners}.json"
        path.write_text(json.dumps({"images": [{"id": 1, "width": 100, "height": 100}], "annotations": shapes}))
        return Mixture(MaskConfig(objects=str(path))).fingerprint()

    assert fingerprint(5, 10) == fingerprint(5, 10)
    assert len({fingerprint(5, 10), fingerprint(10, 5), fingerprint(5), fingerprint(5, 10, 20)}) == 4
