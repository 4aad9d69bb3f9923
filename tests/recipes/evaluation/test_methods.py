"""The compared methods: what they are asked, and which cannot be."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from finished import COUNT, SIZE, command
from PIL import Image
from spandrel.architectures.LaMa import LaMa

from asuka_modules.texture import transfer_texture
from training.evaluation.inpaint_input import prepare_input
from training.evaluation.methods import MethodConfig, make_method


def test_no_method_sees_what_is_under_the_hole():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    mask[20:40, 20:40] = 255
    other = np.where(mask[..., None] > 0, 255 - image, image)
    question = prepare_input("0", image, mask, 7)
    assert np.array_equal(question.image, prepare_input("0", other, mask, 7).image)
    assert np.array_equal(question.image[~question.hole], image[~question.hole])


def test_methods_that_cannot_be(bench, monkeypatch, capsys):
    for change, message in (
        ({"folder": None}, "'bad' needs exactly one of diffusion, pytorch, spandrel, fill and folder"),
        ({"folder": "nowhere"}, "nowhere: 6 results are missing, such as nowhere/"),
        ({"folder": None, "spandrel": "nowhere.pt"}, "nowhere.pt: no such file"),
        ({"folder": None, "pytorch": {}}, "'bad' needs weights; give pytorch.base and pytorch.bundle"),
        ({"folder": None, "diffusion": {"checkpoint": "x"}}, "'bad' needs a ComfyUI; give comfyui.url"),
    ):
        bench.config["methods"] = [{"name": "bad", **change}]
        with pytest.raises(SystemExit):
            command(bench, monkeypatch)
        assert message in capsys.readouterr().err


def test_methods_of_one_name(bench, monkeypatch, capsys):
    bench.config["methods"][1]["name"] = "off by 8"
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "two have the same name" in capsys.readouterr().err


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


def test_lama_is_run_by_spandrel(tmp_path):
    torch.manual_seed(0)
    network = LaMa(in_nc=4, out_nc=3).eval()
    torch.save(network.state_dict(), tmp_path / "lama.pth")
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (SIZE, SIZE + 4, 3), np.uint8), np.zeros((SIZE, SIZE + 4), np.uint8)
    mask[20:40, 20:40] = 255
    lama = make_method(MethodConfig("LaMa", spandrel=str(tmp_path / "lama.pth")))
    question = prepare_input("0", image, mask, 0)
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


def test_any_method_can_be_given_texture():
    """The same as transferring it to the composite by hand, and under the hole nothing matters."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[20:40, 24:44] = 255
    plain, textured = (make_method(MethodConfig("flat", fill="flat", texture=scale)) for scale in (0.0, 4.0))
    question = prepare_input("photo", image, mask, 0)
    fill, result = plain(question), textured(question)
    inside = mask > 0
    assert np.array_equal(result[~inside], image[~inside])
    assert result[inside].std() > 4 * fill[inside].std()
    composite = torch.from_numpy(np.where(inside[..., None], fill, image)).movedim(-1, 0)[None] / 255
    expected = transfer_texture(composite, torch.from_numpy(inside)[None, None].float(), 4.0)
    assert np.abs(result - expected[0].movedim(0, -1).numpy() * 255).max() <= 0.5001
