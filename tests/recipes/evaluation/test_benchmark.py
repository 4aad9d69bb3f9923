"""A benchmark from a config file to the page, on finished results; no network but the random one."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.utils import Bunch
from spandrel.architectures.LaMa import LaMa

from training import evaluate
from training.commit import commit
from training.evaluation import benchmark, methods
from training.evaluation.compare import compare, fid_difference, read_images
from training.evaluation.distributions import frechet_distance
from training.evaluation.exhibits import outline_point, sheet, zoom
from training.evaluation.methods import MethodConfig, ask, make_method
from training.evaluation.pairs import PairsConfig, open_pairs
from training.evaluation.report import table, write_plots
from training.masks import MaskConfig

SIZE, COUNT = 64, 6


@pytest.fixture
def bench(tmp_path) -> Bunch:
    """A config file of two methods whose results are finished: "off by 8" and "off by 2"."""
    rng = np.random.default_rng(0)
    for folder in ("photos", "masks", "off by 8", "off by 2"):
        (tmp_path / folder).mkdir()
    for i in range(COUNT):
        photo = cv2.resize(rng.integers(40, 200, (8, 8, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[10 + i : 40, 20:50] = 255
        Image.fromarray(photo).save(tmp_path / "photos" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        for offset in (8, 2):
            Image.fromarray(photo + np.uint8(offset)).save(tmp_path / f"off by {offset}" / f"{i}.png")
    config = {
        "pairs": {"photos": str(tmp_path / "photos"), "mask_folder": str(tmp_path / "masks"), "size": SIZE},
        "methods": [{"name": f"off by {n}", "folder": str(tmp_path / f"off by {n}")} for n in (8, 2)],
        "out": str(tmp_path / "out"),
        "features": "none",
        "lpips": False,
        "clip": False,
        "pictures": 2,
    }
    return Bunch(folder=tmp_path, config=config, path=tmp_path / "config.yaml", out=tmp_path / "out")


def command(bench: Bunch, monkeypatch, *arguments: str) -> None:
    bench.path.write_text(yaml.safe_dump(bench.config))
    monkeypatch.setattr(sys, "argv", ["evaluate", str(bench.path), *arguments])
    evaluate.main()


def test_one_command_writes_the_whole_report(bench, monkeypatch, capsys):
    bench.config["features"] = "random-vgg16"
    command(bench, monkeypatch)
    results = json.loads((bench.out / "results.json").read_text())
    for offset in (8, 2):
        means = results["methods"][f"off by {offset}"]["means"]
        assert means["hole_psnr"] == pytest.approx(-10 * np.log10((offset / 255) ** 2 + 1e-7), abs=1e-4)
        assert means["grad"] == pytest.approx(4 * offset, rel=0.02)
    assert (results["protocol"], results["pairs"], results["domains"]) == ("asuka", COUNT, {"photos": COUNT})
    assert results["commit"] == commit()
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len((bench.out / "images.jsonl").read_text().splitlines()) == COUNT

    text = (bench.out / "results.md").read_text()
    assert "6 pairs at 64 px (6 photos)" in text
    assert "No U-IDS and P-IDS: 6 pairs in 64 dimensions are too few, " in text
    page = (bench.out / "index.html").read_text()
    shown = [bench.out / part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(shown) == 2 * 9 + 6
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
    assert ("| grad (grey levels) |" in capsys.readouterr().out) == (whole == 1)


def test_commit_tells_of_changed_files(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert commit() == "unknown"
    (tmp_path / "file").write_text("a")
    for arguments in (
        ["init", "-q"],
        ["add", "file"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *arguments], check=True)
    (tmp_path / "untracked").touch()
    clean = commit()
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "file").write_text("b")
    assert commit() == f"{clean}-dirty"


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
    found = np.asarray(sheet(["a", "b", "c"], rows))
    assert [[found[28 + 260 * row + 128, 260 * column + 128, 0] for column in range(3)] for row in range(2)] == [
        [0, 10, 20],
        [50, 60, 70],
    ]
    assert found[:28, 260:516].min() == 0  # a title in black
    assert (found[28 + 256 : 28 + 260] == 255).all()


def test_finished_pictures_are_kept_and_others_made(bench, monkeypatch):
    asked = []
    answer = methods.Finished.__call__
    monkeypatch.setattr(methods.Finished, "__call__", lambda self, q: asked.append(q.name) or answer(self, q))
    command(bench, monkeypatch)
    assert len(asked) == 2 * COUNT
    (bench.out / "pictures" / "off by 2" / "3-0.png").unlink()
    command(bench, monkeypatch)
    assert asked[2 * COUNT :] == ["3"]


def test_kept_pictures_tell_by_what_they_were_made(bench, monkeypatch):
    def found() -> list[list[str]]:
        methods = json.loads((bench.out / "results.json").read_text())["methods"]
        return [method["made_by"]["commit"] for method in methods.values()]

    for made in ("first", "second"):
        monkeypatch.setattr(benchmark, "commit", lambda made=made: made)
        command(bench, monkeypatch)
        assert found() == [["first"], ["first"] if made == "first" else ["first", "second"]]
        (bench.out / "pictures" / "off by 2" / "3-0.png").unlink()


def test_more_pairs_can_be_asked_for_later(bench, monkeypatch):
    pictures = bench.out / "pictures" / "off by 2"
    bench.config["pairs"]["count"] = 2
    command(bench, monkeypatch)
    assert len(list(pictures.glob("*.png"))) == 2
    bench.config["pairs"]["count"] = 4
    command(bench, monkeypatch)
    assert len(list(pictures.glob("*.png"))) == 4


def test_what_has_another_question_is_asked_again(bench, monkeypatch):
    """A mask that has changed under the same name."""
    asked = []
    answer = methods.Finished.__call__
    monkeypatch.setattr(methods.Finished, "__call__", lambda self, q: asked.append(q.name) or answer(self, q))
    command(bench, monkeypatch)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:20] = 255
    Image.fromarray(mask).save(bench.folder / "masks" / "3.png")
    command(bench, monkeypatch)
    assert asked[2 * COUNT :] == ["3", "3"]


def test_results_of_other_files_are_not_mixed(bench, monkeypatch, capsys):
    command(bench, monkeypatch)
    Image.new("RGB", (SIZE, SIZE)).save(bench.folder / "off by 2" / "3.png")
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "off by 2 was made with other settings (made_of.json); remove it" in capsys.readouterr().err


def test_missing_results_are_told_before_the_long_part(bench, monkeypatch, capsys):
    for i in (2, 4):
        (bench.folder / "off by 2" / f"{i}.png").unlink()
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "off by 2: 2 results are missing, such as" in capsys.readouterr().err
    assert not (bench.out / "pictures").exists()


@pytest.mark.parametrize("misato", [False, True])
def test_missing_masks_are_told_before_the_long_part(bench, monkeypatch, capsys, misato):
    if misato:
        make_misato(bench)
    folder = bench.folder / ("misato/64/mask" if misato else "masks")
    lost = sorted(folder.iterdir())[:2]
    for path in lost:
        path.unlink()
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert re.search(
        rf"{folder}: 2 masks are missing, such as ({lost[0].name}|{lost[1].name}); name", capsys.readouterr().err
    )
    assert not (bench.out / "pictures").exists()


def test_methods_of_one_name(bench, monkeypatch, capsys):
    bench.config["methods"][1]["name"] = "off by 8"
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "two have the same name" in capsys.readouterr().err


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


def test_no_method_sees_what_is_under_the_hole():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    mask[20:40, 20:40] = 255
    other = np.where(mask[..., None] > 0, 255 - image, image)
    question = ask("0", image, mask, 7)
    assert np.array_equal(question.image, ask("0", other, mask, 7).image)
    assert np.array_equal(question.image[~question.hole], image[~question.hole])


def test_methods_that_cannot_be(bench, monkeypatch, capsys):
    for change, message in (
        ({"folder": None}, "'bad' needs exactly one of diffusion, spandrel and folder"),
        ({"folder": "nowhere"}, "nowhere: 6 results are missing, such as nowhere/"),
        ({"folder": None, "spandrel": "nowhere.pt"}, "nowhere.pt: no such file"),
        ({"folder": None, "diffusion": {"checkpoint": "x"}}, "'bad' needs a ComfyUI; give comfyui.url"),
    ):
        bench.config["methods"] = [{"name": "bad", **change}]
        with pytest.raises(SystemExit):
            command(bench, monkeypatch)
        assert message in capsys.readouterr().err


def test_only_pictures_are_results(bench, monkeypatch, capsys):
    (bench.folder / "off by 2" / "3.txt").write_text("not a picture")
    command(bench, monkeypatch)
    (bench.folder / "off by 2" / "3.txt").unlink()
    command(bench, monkeypatch)  # the same pictures
    Image.new("RGB", (SIZE, SIZE)).save(bench.folder / "off by 2" / "3.jpg")
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "off by 2/3.jpg and 3.png are of the same name; remove one of them" in capsys.readouterr().err


@pytest.mark.parametrize("template", ["{name}-{seed}.png", "{seed}/{name}", "{name}/{seed}.png"])
def test_finished_results_of_several_seeds_have_a_spread(bench, monkeypatch, capsys, template):
    folder = bench.folder / "seeds [2]"
    for i in range(COUNT):
        for seed, offset in enumerate((8, 2)):
            path = folder / template.format(name=i, seed=seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bench.folder / f"off by {offset}" / f"{i}.png", path.with_suffix(".png"))
    bench.config["methods"].append({"name": "both", "folder": f"{folder}/{template}"})
    bench.config["seeds"] = 2
    command(bench, monkeypatch)
    found = json.loads((bench.out / "results.json").read_text())["methods"]
    assert [method["seeds"] for method in found.values()] == [1, 1, 2]
    assert "seed_spread" not in found["off by 8"]["means"]
    assert found["both"]["means"]["seed_spread"] == pytest.approx(np.std([8, 2], ddof=1), rel=1e-4)
    bench.config["seeds"] = 3
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert re.search(f"{COUNT} results are missing, such as {re.escape(str(folder))}", capsys.readouterr().err)


@pytest.mark.parametrize("ignored", [{"whole_cells": False}, {"noise_mask": True}])
def test_what_repaint_would_ignore_is_refused(bench, monkeypatch, capsys, ignored):
    bench.config["methods"] = [{"name": "x", "diffusion": {"checkpoint": "x", "repaint": {}, **ignored}}]
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert (
        f"{bench.path}: repaint with whole_cells {'whole_cells' not in ignored} and noise_mask"
        in capsys.readouterr().err
    )


def test_results_of_another_size_are_named(bench, monkeypatch, capsys):
    Image.new("RGB", (SIZE, SIZE - 8)).save(bench.folder / "off by 2" / "4.png")
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "off by 2 made 4 64x56; expected 64x64" in capsys.readouterr().err


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
    assert len(links) == 9 * COUNT + 5
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


def make_misato(bench: Bunch) -> None:
    """Nine pairs of three domains, the brightness of the i-th 20 i."""
    folder = bench.folder / "misato" / str(SIZE)
    for kind in ("image", "mask"):
        (folder / kind).mkdir(parents=True)
    for i, number in enumerate(first + i for first in (0, 500, 1000) for i in range(3)):
        for pictures in (folder / "image", bench.folder / "off by 8", bench.folder / "off by 2"):
            Image.new("RGB", (SIZE, SIZE), (20 * i, 20 * i, 20 * i)).save(pictures / f"{number:04d}.png")
        Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(folder / "mask" / f"{number:04d}.png")
    bench.config["pairs"] = {"misato": str(folder.parent), "size": SIZE}


def test_more_of_misatos_pairs_can_be_asked_for_later(bench, monkeypatch):
    """Those that are there already keep their noise."""
    asked = []
    answer = methods.Finished.__call__
    monkeypatch.setattr(methods.Finished, "__call__", lambda self, q: asked.append(q.name) or answer(self, q))
    make_misato(bench)
    bench.config["pairs"]["count"] = 3
    command(bench, monkeypatch)
    assert asked == ["0000", "0500", "1000"] * 2
    bench.config["pairs"]["count"] = 9
    command(bench, monkeypatch)
    assert len(asked) == 2 * 9


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


@pytest.mark.parametrize("size, mask_name", [(512, "{}.png"), (1024, "00{}.png")])
def test_misato_in_its_published_layout(tmp_path, size, mask_name):
    names = ["0000", "0500", "1499"] + ["1500"] * (size == 512)
    for kind in ("image", "mask"):
        (tmp_path / str(size) / kind).mkdir(parents=True)
    for i, name in enumerate(names):
        mask = np.zeros((size, size), np.uint8)
        mask[: 100 + i] = 255
        Image.new("RGB", (size, size), (10 * i, 0, 0)).save(tmp_path / str(size) / "image" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / str(size) / "mask" / mask_name.format(name))
    pairs = list(open_pairs(PairsConfig(misato=str(tmp_path), size=size)))
    assert [pair.name for pair in pairs] == names
    assert [pair.domain for pair in pairs] == ["outdoor", "indoor", "building", "background"][: len(names)]
    assert [int(pair.image[0, 0, 0]) for pair in pairs] == [10 * i for i in range(len(names))]
    assert [(pair.mask[:, 0] > 0).sum() for pair in pairs] == [100 + i for i in range(len(names))]


def test_photos_with_drawn_masks(photos, masks, tmp_path):
    drawn = MaskConfig(objects=str(masks), size=96)
    config = PairsConfig(photos=str(photos), masks=drawn, size=96, count=3, hole=(0.1, 0.4))
    pairs, again = list(open_pairs(config)), open_pairs(config)
    assert len({pair.name for pair in pairs}) == 3
    for i, pair in enumerate(pairs):
        assert pair.image.shape == (96, 96, 3)
        assert 0.1 <= (pair.mask == 255).mean() <= 0.4
        assert np.array_equal(pair.mask, again[i].mask)
    with pytest.raises(ValueError, match="has 4 photos, fewer than count, 9"):
        open_pairs(replace(config, count=9))
    (tmp_path / "photos").mkdir()
    for suffix in (".png", ".jpg"):
        Image.new("RGB", (96, 96)).save(tmp_path / "photos" / f"same{suffix}")
    with pytest.raises(ValueError, match="photos of the same name"):
        open_pairs(replace(config, photos=str(tmp_path / "photos"), count=None))
    with pytest.raises(ValueError, match="either mask_folder or masks"):
        open_pairs(replace(config, masks=None))


def test_close_up_is_on_the_outline():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[30:60, 40:60] = 255
    y, x = outline_point(mask)
    assert (y, x) == (32, 40)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[32, 40] = 255
    assert (zoom(image, (y, x)) == 255).all(-1).sum() == 64  # one pixel, eight times as wide and high
    assert zoom(image, outline_point(np.full_like(mask, 255))).shape == image.shape


def test_lama_is_run_by_spandrel(tmp_path):
    torch.manual_seed(0)
    network = LaMa(in_nc=4, out_nc=3).eval()
    torch.save(network.state_dict(), tmp_path / "lama.pth")
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (SIZE, SIZE + 4, 3), np.uint8), np.zeros((SIZE, SIZE + 4), np.uint8)
    mask[20:40, 20:40] = 255
    lama = make_method(MethodConfig("LaMa", spandrel=str(tmp_path / "lama.pth")), None)
    question = ask("0", image, mask, 0)
    result = lama(question)
    assert np.array_equal(result[mask == 0], image[mask == 0])
    x, m = (
        torch.from_numpy(question.image / 255).float().movedim(-1, 0)[None],
        torch.from_numpy(mask / 255).float()[None, None],
    )
    with torch.inference_mode():  # LaMa takes multiples of 8
        expected = network(*(torch.nn.functional.pad(v, (0, 4, 0, 0), mode="reflect") for v in (x, m)))[..., : SIZE + 4]
    assert np.abs(result / 255 - expected[0].movedim(0, -1).numpy()).max() < 0.01
    assert not lama.uses_seed
    assert list(lama.weights) == ["lama.pth"]
    assert len(lama.weights["lama.pth"]) == 64
