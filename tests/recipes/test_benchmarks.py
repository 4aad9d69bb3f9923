"""The benchmarks run; what they find is no test's business, where it depends on the machine."""

import pytest
import yaml

from benchmarks import resizing
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


def test_resizing_loses_no_more_than_opencvs():
    found = resizing.measure(300, 256)
    assert found["largest difference from cv2.INTER_AREA"] < 1e-5
    assert found["ours"] > found["whole pixels, as until beb75f1"] + 3
