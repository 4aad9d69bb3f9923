"""The benchmarks run; what they find is no test's business, where it depends on the machine."""

import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks import resizing, steps
from benchmarks import training as benchmark

pytestmark = pytest.mark.trains

SMALL = {"data": {"size": 64}, "masks": {"size": 64}}
CHANGES = {
    "mae": SMALL | {"model": {"image_size": 64, "patch_size": 4}},
    "align": {"latents": SMALL},
    "decoder": SMALL,
}


def test_training_benchmark(photos, masks, tmp_path, monkeypatch):
    for name, changes in CHANGES.items():
        extends, run = f"{benchmark.CONFIGS.resolve() / name}.yaml", {"batch_size": 1, "workers": 0}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"extends": extends, "run": run, **changes}))
    monkeypatch.setattr(benchmark, "CONFIGS", tmp_path)
    for name in ("WARM_UP", "STEPS", "ROUNDS"):
        monkeypatch.setattr(benchmark, name, 1)
    results = benchmark.measure_recipes([str(photos)], str(masks))
    assert results.keys() == {"mae, first epoch", "mae, later epochs", "align", "decoder"}
    for rates in results.values():
        assert min(rates["bare step"], rates["with data and log"]) > 0


def test_steps_of_two_checkouts_are_compared(photos, masks, tmp_path, monkeypatch):
    """Of one with itself here."""
    for i in range(50):  # of which the recipe holds a tenth out
        shutil.copy(photos / "chelsea.jpg", tmp_path / f"{i}.jpg")
    for name, value in {"WARM_UP": 0, "ROUNDS": 1, "RECIPES": ("mae",)}.items():
        monkeypatch.setattr(steps, name, value)
    found = steps.compare(Path(steps.__file__).parents[1], [str(tmp_path)], str(masks), {"channels_last": True})
    assert found.keys() == {"mae"}
    assert min(found["mae"].values()) > 0


def test_resizing_loses_no_more_than_opencvs():
    found = resizing.measure(300, 256)
    assert found["largest difference from cv2.INTER_AREA"] < 1e-5
    assert found["ours"] > found["whole pixels, as until beb75f1"] + 3
