"""What a benchmark writes: tables, valid JSON, a page, plots, pictures."""

import json
import re
import subprocess
from html import unescape
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from finished import COUNT, SIZE, command, make_misato
from PIL import Image

from training.engine.git_revision import git_revision
from training.evaluation.report import table, write_plots
from training.evaluation.visualize import image_grid, outline_point, zoom


def test_one_command_writes_the_whole_report(bench, monkeypatch, capsys):
    bench.config["features"] = "random-vgg16"
    command(bench, monkeypatch)
    results = json.loads((bench.out / "results.json").read_text())
    for offset in (8, 2):
        means = results["methods"][f"off by {offset}"]["means"]
        assert means["hole_psnr"] == pytest.approx(-10 * np.log10((offset / 255) ** 2 + 1e-7), abs=1e-4)
        assert means["grad"] == pytest.approx(4 * offset, rel=0.02)
    assert (results["protocol"], results["pairs"], results["domains"]) == ("asuka", COUNT, {"photos": COUNT})
    assert results["commit"] == git_revision()
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len((bench.out / "images.jsonl").read_text().splitlines()) == COUNT

    text = (bench.out / "results.md").read_text()
    assert "6 pairs at 64 px (6 photos)" in text
    assert "No U-IDS and P-IDS: 6 pairs in 64 dimensions are too few, " in text
    page = (bench.out / "index.html").read_text()
    shown = [bench.out / part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(shown) == 2 * 9 + 7
    assert all(path.exists() for path in shown)
    with Image.open(bench.out / "examples.jpg") as examples:
        assert examples.size == (4 * 260 - 4, 28 + 2 * 260 - 4)  # input, both methods, original; two photos shown

    command(bench, monkeypatch, "--compare", "off by 8", "off by 2")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| PSNR", "| FID"))]
    assert [row.split("|")[1].split()[0] for row in rows] == ["FID", "PSNR"]
    assert all(row.endswith("| off by 2 |") for row in rows)
    with pytest.raises(SystemExit):
        command(bench, monkeypatch, "--compare", "off by 8", "nothing")
    assert f"no method 'nothing' in {bench.out}, only off by 8, off by 2" in capsys.readouterr().err


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("whole", [1, COUNT])
def test_masks_without_an_outline_have_null_in_valid_json(bench, monkeypatch, capsys, whole):
    for i in range(whole):
        Image.new("L", (SIZE, SIZE), 255).save(bench.folder / "masks" / f"{i}.png")
    command(bench, monkeypatch)
    images = [json.loads(line, parse_constant=refuse) for line in (bench.out / "images.jsonl").read_text().splitlines()]
    grads = [image["methods"]["off by 8"]["grad"] for image in images]
    assert grads.count(None) == whole
    results = json.loads((bench.out / "results.json").read_text(), parse_constant=refuse)
    mean = results["methods"]["off by 8"]["means"]["grad"]
    assert mean == (pytest.approx(32, rel=0.02) if whole == 1 else None)
    assert ("grad" in {path.stem for path in (bench.out / "plots").iterdir()}) == (whole == 1)
    command(bench, monkeypatch, "--compare", "off by 8", "off by 2")
    assert ("| grad (gray levels) |" in capsys.readouterr().out) == (whole == 1)


def test_commit_tells_of_changed_files(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert git_revision() == "unknown"
    (tmp_path / "file").write_text("a")
    for arguments in (
        ["init", "-q"],
        ["add", "file"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *arguments], check=True)
    (tmp_path / "untracked").touch()
    clean = git_revision()
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "file").write_text("b")
    assert git_revision() == f"{clean}-dirty"


def test_one_pair_has_no_fid(bench, monkeypatch, capsys):
    bench.config["features"] = "random-vgg16"
    bench.config["pairs"]["count"] = 1
    command(bench, monkeypatch)
    (scores,) = json.loads((bench.out / "results.json").read_text())["methods"]["off by 8"]["sets"]
    assert scores["fid"] is None
    text = (bench.out / "results.md").read_text()
    assert "No FID: 1 pair has no covariance; at least 2 are needed.\n" in text
    assert "| FID" not in text
    command(bench, monkeypatch, "--compare", "off by 8", "off by 2")
    assert "| PSNR (dB) |" in capsys.readouterr().out


def test_sheet_has_every_picture_in_its_cell():
    rows = [[np.full((8, 8, 3), 50 * row + 10 * column, np.uint8) for column in range(3)] for row in range(2)]
    found = np.asarray(image_grid(["a", "b", "c"], rows))
    assert [[found[28 + 260 * row + 128, 260 * column + 128, 0] for column in range(3)] for row in range(2)] == [
        [0, 10, 20],
        [50, 60, 70],
    ]
    assert found[:28, 260:516].min() == 0  # a title in black
    assert (found[28 + 256 : 28 + 260] == 255).all()


def test_table_has_the_papers_numbers_beside_ours():
    method = {
        "means": {"lpips": 0.2, "psnr": 20.0},
        "sets": [{"fid": 10.0, "components": 9, "fid_reason": None, "reason": "too few", "warning": "few"}],
    }
    recipe = {"pairs": {"size": 512, "misato": None}, "seeds": 1, "methods": []}
    results = {
        "protocol": "asuka",
        "pairs": 9,
        "domains": {"indoor": 9},
        "commit": "c",
        "features": "net",
        "recipe": recipe,
    }
    text = table(results | {"methods": {"ASUKA": method, "mine": method}})
    assert "| ASUKA | 10.000 (11.460) | 20.000 | 0.200 (0.150) |" in text
    assert "| mine | 10.000 | 20.000 | 0.200 |" in text
    assert text.endswith("No U-IDS and P-IDS: too few.\nU-IDS and P-IDS: few.\n")


def test_page_finds_pictures_of_any_name(bench, monkeypatch):
    for folder in ("photos", "masks", "off by 8", "off by 2"):
        (bench.folder / folder / "3.png").rename(bench.folder / folder / '50% "off" #1?.png')
    bench.config["pictures"] = COUNT
    command(bench, monkeypatch)
    page = (bench.out / "index.html").read_text()
    links = [urlsplit(unescape(link)) for link in re.findall('src="(.*?)"', page)]
    assert len(links) == 9 * COUNT + 6
    assert all((bench.out / unquote(link.path)).is_file() for link in links)
    assert re.findall('<section id="(.*?)">', page) == [str(i) for i in range(COUNT)]


def test_fid_of_every_seed_is_plotted(tmp_path):
    fids = {"a": [1.0, 3.0], "b": [2.0, None]}
    results = {"methods": {name: {"sets": [{"fid": fid} for fid in each]} for name, each in fids.items()}}
    assert write_plots(tmp_path / "plots", results, [{"methods": {"a": {}, "b": {}}}]) == ["fid.svg"]
    svg = (tmp_path / "plots" / "fid.svg").read_text()
    assert "<!-- FID (less is better) -->" in svg
    x, y = np.array(re.findall(r'<use xlink:href="#\w+" x="(.+?)" y="(.+?)" style="fill: #1f77b4', svg), float).T
    assert (x[1] - x[0], y[0]) == (pytest.approx(2 * (x[2] - x[0])), y[1])
    assert y[2] > y[1]


def test_page_and_examples_show_every_domain(bench, monkeypatch):
    make_misato(bench)
    bench.config["pictures"] = 3
    command(bench, monkeypatch)
    page = (bench.out / "index.html").read_text()
    assert re.findall("<h2>(.+?)</h2>", page) == ["0000, outdoor", "0500, indoor", "1000, building"]
    bench.config["pictures"] = 9
    command(bench, monkeypatch)
    with Image.open(bench.out / "examples.jpg") as examples:
        rows = [examples.getpixel((examples.width - 128, 28 + 260 * row + 128))[0] // 20 for row in range(4)]
    assert rows == [0, 2, 4, 6]


def test_close_up_is_on_the_outline():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[30:60, 40:60] = 255
    y, x = outline_point(mask)
    assert (y, x) == (32, 40)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[32, 40] = 255
    assert (zoom(image, (y, x)) == 255).all(-1).sum() == 64  # one pixel, eight times as wide and high
    assert zoom(image, outline_point(np.full_like(mask, 255))).shape == image.shape
