"""The command that trains the whole miniature: its stages, their order, and what it tells."""

import shutil
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import run_config
from torch import nn
from torch.utils.data import Dataset

from asuka_modules import checkpoints
from training import miniature
from training.data.split import is_held_out
from training.engine import config
from training.engine.loop import Objective, fit
from training.miniature import CONFIGS, STAGES


def values(recipe: object) -> list[str]:
    """All strings of a recipe."""
    if isinstance(recipe, str):
        return [recipe]
    if isinstance(recipe, dict | list | tuple):
        return [x for value in (recipe.values() if isinstance(recipe, dict) else recipe) for x in values(value)]
    return []


def test_each_stage_needs_the_stages_whose_files_it_reads():
    """And comes after them."""
    folders, read = {}, {}
    for name in STAGES:
        settings = config.load(CONFIGS / f"{name}.yaml")
        paths = [Path(value) for value in values(settings) if value.startswith("runs/miniature/")]
        read[name] = {path.parts[2] for path in paths}
        folders[name] = next(path.parts[2] for path in paths if path.parts[2].startswith(name))
    assert list(STAGES) == sorted(STAGES, key=lambda name: max(map(list(STAGES).index, (name, *STAGES[name].needs))))
    for name, stage in STAGES.items():
        others = {other for other, folder in folders.items() if folder in read[name]} - {name}
        assert others == set(stage.needs) | ({"base"} if name == "align" else set())


def test_every_stage_gets_the_photos_and_masks_of_the_command_line():
    for name, stage in STAGES.items():
        read = config.load(CONFIGS / f"{name}.yaml")
        recipe = config.read(stage.recipe, CONFIGS / f"{name}.yaml", stage.overrides(["a: b", "c"], "d"))
        text = repr(recipe)
        assert "folders=('photos',)" not in text
        assert "validation=('photos',)" not in text
        assert "objects='masks'" not in text
        assert text.count("('a: b', 'c')") == repr(read).count("['photos']")


class One(Dataset):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.ones(1)}


class Constant(Objective):
    def __init__(self):
        super().__init__()
        self.trained = nn.Linear(1, 1)

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        return self.trained(batch["x"]).mean(), {}


def test_tells_what_is_left_of_a_run(tmp_path):
    run = run_config(tmp_path / "run", steps=6, log_every=2, save_every=2)
    assert miniature.tell(run) == f"{run.out}: 6 steps of 2 images"
    fit(replace(run, steps=4), Constant(), One())
    text = miniature.tell(run)
    rate = float((tmp_path / "run" / "log.csv").read_text().split("\n")[2].split(",")[-1])
    hours = 2 * 2 / rate / 3600
    assert text == f"{run.out}: 6 steps of 2 images, 4 done, {hours:.1f} hours left at {rate:.3g} images/s"
    assert miniature.tell(replace(run, steps=4)) == f"{run.out}: finished"


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command with stages that only note that they were reached."""
    reached = []

    def note(name: str, stage: miniature.Stage) -> miniature.Stage:
        return replace(stage, train=lambda recipe: reached.append((name, recipe)))

    monkeypatch.setattr(miniature, "STAGES", {name: note(name, stage) for name, stage in STAGES.items()})
    monkeypatch.setattr(miniature, "write", lambda recipes, out: reached.append(("write", out)))

    def run(*arguments: str) -> tuple[list[str], str]:
        reached.clear()
        monkeypatch.setattr(sys, "argv", ["miniature", "--photos", "a", "b", "--masks", "c", *arguments])
        miniature.main()
        return [name for name, _ in reached], capsys.readouterr().out

    return run


def test_stages_in_order_and_then_the_weights(command):
    assert command()[0] == [*STAGES, "write"]


def test_some_stages_alone_write_no_weights(command):
    reached, told = command("--only", "mae", "base")
    assert reached == ["base", "mae"]
    assert "mae, waits for no other stage\n  runs/miniature/mae: 24000 steps of 32 images\n" in told
    assert "decoder" not in told


def test_plan_trains_nothing(command):
    reached, told = command("--plan")
    assert reached == []
    assert "decoder, after base, latent_augment, latent_sample\n  runs/miniature/decoder: " in told


def test_error_names_the_stage(command, monkeypatch):
    def fail(recipe: object) -> None:
        raise FileNotFoundError("lost.safetensors: no such file")

    monkeypatch.setitem(miniature.STAGES, "words", replace(STAGES["words"], train=fail))
    with pytest.raises(SystemExit, match=r"^error: words: lost\.safetensors: no such file$"):
        command()


SMALL = {  # of each stage: its lists as a whole, and what else makes it small
    "base": {
        "autoencoder": [{"data": {"folders": ["photos"], "size": 64, "held_out": 0.1}} for _ in range(2)],
        "latents": {"count": 2, "batch_size": 1},
        "unet": [{"cells": 8}],
    },
    "mae": {},
    "words": {},
    "align": {"latents": {"count": 2}},
    "latent_augment": {"count": 1, "max_side": 64},
    "latent_sample": {"crops": {"count": 2, "batch_size": 1}, "steps": 1},
    "decoder": {"sampled": {"count": 2}},
    "spl": {},
}


@pytest.mark.slow
def test_from_photos_and_masks_to_weights(photos, masks, tmp_path, monkeypatch):
    """The committed configs with one step each; the second time there is nothing left to do."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    names = (f"{i}.jpg" for i in count())
    shutil.copy(folder / "coffee.jpg", folder / next(name for name in names if is_held_out(name, 0.1)))
    short = {"steps": 1, "precision": "bf16", "batch_size": 1, "workers": 0, "validation_batches": 1}
    for name, changes in SMALL.items():
        changes = {"extends": str(CONFIGS / f"{name}.yaml"), **changes}
        if "run" in config.load(CONFIGS / f"{name}.yaml"):
            changes["run"] = short
        for i, stage in enumerate([*changes.get("autoencoder", ()), *changes.get("unet", ())]):
            stage["run"] = {**short, "out": f"runs/miniature/base/{i}", "lr": 1e-4}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(changes))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(miniature, "CONFIGS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["miniature", "--photos", str(folder), "--masks", str(masks), "--out", "out"])
    miniature.main()
    made = {path.name: load_file(path) for path in Path("out").glob("*.safetensors")}
    assert len(made) == 3
    assert set(checkpoints.load(Path("out", "asuka-miniature.safetensors"))) == {"mae", "alignment", "decoder"}
    shards = [path.stat().st_mtime_ns for path in Path("runs/miniature/latent_sampled").iterdir()]
    miniature.main()
    for name, tensors in made.items():
        again = load_file(Path("out", name))
        assert all(torch.equal(value.float(), again[key].float()) for key, value in tensors.items())
    assert shards == [path.stat().st_mtime_ns for path in Path("runs/miniature/latent_sampled").iterdir()]
