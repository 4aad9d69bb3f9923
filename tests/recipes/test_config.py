"""Configs are read strictly, and every shipped one is valid."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from training.align import AlignRecipe
from training.base.__main__ import BaseRecipe
from training.base.words import WordsRecipe
from training.decoder import DecoderRecipe
from training.engine import config
from training.evaluation.benchmark import Benchmark
from training.evaluation.misato import MisatoRecipe
from training.latent_augment import LatentAugmentRecipe
from training.latent_sample import LatentSampleRecipe
from training.mae import MAERecipe
from training.spl import SPLRecipe
from training.spl_table import TableRecipe

RECIPES = {
    "base": BaseRecipe,
    "benchmark": Benchmark,
    "mae": MAERecipe,
    "misato": MisatoRecipe,
    "align": AlignRecipe,
    "decoder": DecoderRecipe,
    "evaluate": Benchmark,
    "latent_augment": LatentAugmentRecipe,
    "latent_sample": LatentSampleRecipe,
    "spl": SPLRecipe,
    "start": DecoderRecipe,
    "spl_table": TableRecipe,
    "words": WordsRecipe,
}
COMMANDS = {"benchmark": "evaluate", "misato": "evaluation.misato", "start": "decoder", "words": "base.words"}
FILES = sorted((Path(__file__).parents[2] / "training" / "configs").rglob("*.yaml"))

VARIANTS = [path.with_stem(f"{path.stem}-{name}") for path in FILES for name in config.variants(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_config_is_valid_and_says_how_to_run_it(path):
    recipe = path.stem.split("-")[0]
    config.read(RECIPES[recipe], path)
    assert path.read_text().startswith(
        f"# python -m training.{COMMANDS.get(recipe, recipe)} training/configs/{path.parent.name}/{path.name}\n"
    )


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_variant_is_valid_and_has_a_folder_of_its_own(path):
    recipe = path.stem.split("-")[0]
    found = config.read(RECIPES[recipe], path)
    assert found.run.out == f"runs/{path.parent.name}/{path.stem}"
    assert found != config.read(RECIPES[recipe], path.with_stem(recipe))


def test_variant_changes_its_recipe_and_may_extend_another_variant(tmp_path):
    (tmp_path / "mae.yaml").write_text(
        VALID + "variants:\n  short: {run: {steps: 2}}\n  short-fast: {extends: short, run: {lr: 2.0}}\n"
    )
    (tmp_path / "own.yaml").write_text("extends: mae-short-fast.yaml\nrun: {steps: 3}\n")
    runs = [
        config.read(MAERecipe, tmp_path / f"{name}.yaml").run for name in ("mae", "mae-short", "mae-short-fast", "own")
    ]
    assert [(run.steps, run.lr) for run in runs] == [(1, 1.0e-4), (2, 1.0e-4), (2, 2.0), (3, 2.0)]
    with pytest.raises(FileNotFoundError, match=r"mae-long.yaml"):
        config.read(MAERecipe, tmp_path / "mae-long.yaml")


def read(tmp_path: Path, text: str, *overrides: str) -> MAERecipe:
    path = tmp_path / "mae.yaml"
    path.write_text(text)
    return config.read(MAERecipe, path, list(overrides))


VALID = """
data: {folders: [a]}
masks: {objects: b}
run: {out: c, steps: 1, batch_size: 1, lr: 1.0e-4}
"""


def test_overrides_change_single_values(tmp_path):
    recipe = read(tmp_path, VALID, "run.steps=7", "data.folders=[x, y]", "model.depth=3")
    assert (recipe.run.steps, recipe.data.folders, recipe.model.depth) == (7, ("x", "y"), 3)


def test_a_config_may_extend_another(tmp_path):
    (tmp_path / "valid.yaml").write_text(VALID)
    recipe = read(tmp_path, "extends: valid.yaml\nrun: {lr: 2.0}\nmodel: {depth: 3}\n")
    assert (recipe.run.lr, recipe.run.out, recipe.model.depth, recipe.masks.objects) == (2.0, "c", 3, "b")


def test_precision_no_may_be_written_bare(tmp_path):
    """YAML reads it as false."""
    assert read(tmp_path, VALID, "run.precision=no").run.precision == "no"


def test_a_choice_may_be_left_out(tmp_path):
    assert read(tmp_path, VALID, "masks.family=object").masks.family == "object"
    assert read(tmp_path, VALID, "masks.family=null").masks.family is None
    with pytest.raises(
        config.ConfigError, match=r"masks.family is 'round', expected 'object' or 'irregular' or 'regular'"
    ):
        read(tmp_path, VALID, "masks.family=round")


@pytest.mark.parametrize("key", ["5", "a", "-1", "5.x"])
def test_item_that_a_list_has_not_is_named(tmp_path, key):
    with pytest.raises(
        config.ConfigError, match=rf"data.folders.{key}=x: {key[:2].strip('.')} is none of the list's 1 items"
    ):
        read(tmp_path, VALID, f"data.folders.{key}=x")


def test_former_names_of_settings_are_read_with_a_warning(tmp_path, caplog):
    former = VALID.replace("batch_size: 1", "batch_size: 6, keep: 5")
    recipe = read(tmp_path, former, "run.accumulate=3")
    assert (recipe.run.save_total_limit, recipe.run.gradient_accumulation_steps) == (5, 3)
    assert "mae.yaml: keep is now called save_total_limit" in caplog.text
    assert "--set run.accumulate=3: accumulate is now called gradient_accumulation_steps" in caplog.text
    (tmp_path / "former.yaml").write_text(former)
    assert read(tmp_path, "extends: former.yaml\nrun: {save_total_limit: 2}").run.save_total_limit == 2
    assert read(tmp_path, VALID, "run={out: c, steps: 1, batch_size: 1, lr: 2.0, keep: 7}").run.save_total_limit == 7
    with pytest.raises(config.ConfigError, match="keep and save_total_limit are the former and the present name"):
        read(tmp_path, VALID.replace("steps: 1", "steps: 1, keep: 5, save_total_limit: 5"))


def test_every_renamed_setting_exists_and_its_former_name_is_free():
    names, classes = set(), list(RECIPES.values())
    for cls in classes:
        names |= {field.name for field in fields(cls)}
        parts = (part for hint in get_type_hints(cls).values() for part in (hint, *get_args(hint)))
        classes += [part for part in parts if is_dataclass(part) and part not in classes]
    assert set(config.RENAMED.values()) <= names
    assert not names & config.RENAMED.keys()


def test_value_without_parts_is_named(tmp_path):
    with pytest.raises(config.ConfigError, match=r"--set run.lr.x=1: run.lr is 0.0001, not a mapping or list"):
        read(tmp_path, VALID, "run.lr.x=1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VALID.replace("lr:", "learning_rate:"), "unknown key run.learning_rate; missing key run.lr"),
        (VALID.replace("1.0e-4", "1e-4"), "run.lr is '1e-4', expected float; write 1.0e-4, not 1e-4"),
        (VALID.replace("steps: 1", "steps: 1.5"), "run.steps is 1.5, expected int"),
        (VALID.replace("steps: 1", "steps: 1, precision: half"), "run.precision is 'half', expected 'no' or 'bf16'"),
        (VALID.replace("[a]", "a"), "data.folders is 'a', expected"),
        ("data: 3", "data is 3, expected a mapping"),
        ("data: [", "not YAML: while parsing"),
        (VALID.replace("objects: b", "objects: b, size: 512"), "data.size is 256 but masks.size is 512; set both"),
        (VALID + "model: {image_size: 128}", "data.size is 256 but model.image_size is 128; set both"),
        (
            VALID.replace("objects: b", "objects: b, irregular: []"),
            "masks.irregular is empty, expected some of thin-256",
        ),
        (
            VALID.replace("batch_size: 1", "batch_size: 3, gradient_accumulation_steps: 2"),
            "run.batch_size is 3, expected a multiple of",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(config.ConfigError) as error:
        read(tmp_path, text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "value, found",
    [
        ("data.folders=[none.tar]", "none.tar: no such file, expected a tar shard of photos"),
        ("data.folders=[none]", "none: no such folder or list"),
        ("data.folders=[none.tar, none]", "photos: either tar shards or folders, not both: none.tar, none"),
        ("masks.objects=null", "masks: give either objects or ready"),
        ("init=none.safetensors", "none.safetensors"),
    ],
)
def test_what_a_recipe_cannot_use_is_told_in_one_line(photos, masks, tmp_path, value, found):
    path = tmp_path / "mae.yaml"
    path.write_text(
        VALID.replace("[a]", f"[{photos}]")
        .replace("objects: b", f"objects: {masks}")
        .replace("out: c", f"out: {tmp_path}/run")
    )
    command = [sys.executable, "-m", "training.mae", str(path), "--set", value]
    result = subprocess.run(command, capture_output=True, text=True, cwd=FILES[0].parents[3])
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert found in line
