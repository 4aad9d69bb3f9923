"""Paired differences between two methods of a finished benchmark."""

import json
import re

import numpy as np
import pytest
from finished import command

from training.evaluation.compare import compare, fid_difference, read_images
from training.evaluation.distributions import frechet_distance


def test_comparing_needs_the_pairs_and_features_of_the_run(bench, monkeypatch, capsys):
    bench.config["features"] = "random-vgg16"
    command(bench, monkeypatch)
    for change, message in (
        ("pairs.count=4", rf"pairs has 4 pairs \(\d to \d\) but {bench.out} was measured on 6 pairs \(\d to \d\); set"),
        ("pairs.seed=1", rf"pairs has 6 pairs \(\d to \d\) but {bench.out} was measured on 6 pairs"),
        (
            "features=efficientnet-lite0",
            f"features is efficientnet-lite0 but {bench.out} was measured with random-vgg16; set features to that",
        ),
    ):
        with pytest.raises(SystemExit):
            command(bench, monkeypatch, "--set", change, "--compare", "off by 8", "off by 2")
        assert re.search(message, capsys.readouterr().err)
    command(bench, monkeypatch, "--set", "features=none", "--compare", "off by 8", "off by 2")
    assert "PSNR" in capsys.readouterr().out


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_fid_difference_is_inside_its_interval(spread):
    """Of two methods far apart, in nearly as many dimensions as there are pairs: where resampling alone would be off."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 100))
    a, b = (real * scale + rng.normal(0, spread, (2, 60, 100)) for scale in (0.5, 0.9))
    mean, low, high = fid_difference(a, b, real, resamples=30)
    by_seed = [frechet_distance(x, real) - frechet_distance(y, real) for x, y in zip(a, b, strict=True)]
    assert mean == pytest.approx(np.mean(by_seed))
    assert low < mean < high


def test_differences_are_paired(tmp_path):
    rng = np.random.default_rng(0)
    common = rng.normal(30, 10, 50)  # between pictures; cancels
    rows = [
        {"methods": {"a": {"psnr": x + 0.5 + rng.normal(0, 0.2), "grad": 1.0}, "b": {"psnr": x, "grad": float("nan")}}}
        for x in common
    ]
    (tmp_path / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = compare(read_images(tmp_path), "a", "b")
    name, mean, interval, better = text.splitlines()[2].strip("| ").split(" | ")
    low, high = map(float, interval.split(" to "))
    assert (name, better) == ("PSNR (dB)", "a")
    assert 0.4 < low < float(mean) < high < 0.6
    assert "grad" not in text  # never both
