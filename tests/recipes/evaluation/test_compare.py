"""Paired differences between two methods of a finished benchmark."""

import json
import re

import numpy as np
import pytest
from finished import command

from training.evaluation.compare import compare, differences, fid_difference, read_images
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
    text = compare("a", "b", differences(read_images(tmp_path), "a", "b"))
    name, mean, interval, better = text.splitlines()[2].strip("| ").split(" | ")
    low, high = map(float, interval.split(" to "))
    assert (name, better) == ("PSNR (dB)", "a")
    assert 0.4 < low < float(mean) < high < 0.6
    assert "grad" not in text  # never both


def test_the_report_tells_how_ours_differs_from_the_others(bench, monkeypatch, capsys):
    bench.config |= {"ours": "off by 2", "features": "random-vgg16"}
    command(bench, monkeypatch)
    lines = (bench.out / "results.md").read_text().splitlines()
    (head,) = (i for i, line in enumerate(lines) if line.startswith("| off by 2 - |"))
    names, cells = (line.strip("| ").split(" | ") for line in (lines[head], lines[head + 2]))
    assert cells[0] == "off by 8"
    mean, low, high = map(float, re.split(r" \(| to |\)", cells[names.index("hole PSNR")])[:3])
    expected = 20 * np.log10(8 / 2)
    assert mean == pytest.approx(expected, abs=0.06)
    assert low <= mean <= high
    assert cells[names.index("FID")].startswith("-")
    assert "off by 2 -" in (bench.out / "index.html").read_text()
    command(bench, monkeypatch, "--only", "off by 8")
    assert "off by 2 -" not in (bench.out / "results.md").read_text()
    bench.config["ours"] = "off by 3"
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "ours is 'off by 3', expected one of off by 8, off by 2" in capsys.readouterr().err
