"""The evaluation runs, continues, and compares the prior from SPL where SPL is given."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from asuka_modules.spl import SPLConfig, SPLGenerator
from training import evaluate
from training.base.checkpoint import save_base
from training.base.unet import DescribedUNet
from training.config import ConfigError
from training.data import DataConfig
from training.masks import MaskConfig, Mixture

pytestmark = pytest.mark.trains


@pytest.fixture
def recipe(photos, masks, tmp_path) -> evaluate.EvaluateRecipe:
    return evaluate.EvaluateRecipe(
        base=str(tmp_path / "base.safetensors"),
        bundle=str(tmp_path / "bundle.safetensors"),
        photos=str(photos),
        masks=MaskConfig(objects=str(masks), size=64),
        out=str(tmp_path / "out"),
        count=2,
        size=64,
        seeds=2,
        steps=2,
    )


def test_holes_are_the_first_that_fit(recipe):
    mixture, photo = Mixture(recipe.masks), Path(recipe.photos, "coffee.jpg")
    case = evaluate.Case(replace(recipe, hole=(0.3, 0.4)), mixture, photo, 7)
    rng = np.random.default_rng([recipe.seed, 7])
    evaluate.random_view(evaluate.read_picture(photo), DataConfig(folders=(), size=64), rng)
    drawn = [mask for mask in (mixture(rng) for _ in range(100)) if 0.3 <= mask.mean() <= 0.4]
    assert np.array_equal(case.mask[0, 0].numpy(), drawn[0])
    with pytest.raises(
        ValueError, match="none of 1000 masks covers 98% to 99% of the photo; widen hole, or change masks"
    ):
        evaluate.Case(replace(recipe, hole=(0.98, 0.99)), mixture, photo, 7)


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_has_no_spread(recipe, seeds):
    recipe = replace(recipe, seeds=seeds)
    case = evaluate.Case(recipe, Mixture(recipe.masks), Path(recipe.photos, "coffee.jpg"), 0)
    values = evaluate.measure(case, (case.image + 0.1 * case.noise[:, :1].mean((2, 3), keepdim=True)).clamp(0, 1))
    summary = evaluate.summarize([{"photo": "coffee.jpg", evaluate.BASELINE: values, evaluate.OURS: values}] * 2)
    assert summary["difference"].keys() == summary["means"].keys() == values.keys()
    assert ("seed_spread" in values) == (seeds == 2)
    text = evaluate.table(summary, recipe)
    assert ("| seed spread (grey levels, less is better) |" in text) == (seeds == 2)
    assert "nan" not in text


@pytest.mark.parametrize("with_spl", [False, True])
def test_every_method_gets_its_column(recipe, tmp_path, with_spl):
    torch.manual_seed(0)
    mae = MAE(MAEConfig(64, 4, 32, 2, 4, 24, 3, 4, prior_depth=2))
    mae.init_weights()
    networks = {
        "mae": mae,
        "alignment": Alignment(AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25)),
        "decoder": HarmonizingDecoder(DecoderConfig(ch=32, num_res_blocks=1, post_quant_conv=False)),
    }
    spl = SPLGenerator(SPLConfig(8, 5, 2, 2, 4, 1, 1))
    checkpoints.save(tmp_path / "bundle.safetensors", networks)
    checkpoints.save(tmp_path / "spl.safetensors", {"spl": spl})
    save_base(tmp_path / "base.safetensors", AutoencoderTiny(), DescribedUNet())
    recipe = replace(recipe, spl=str(tmp_path / "spl.safetensors") if with_spl else None)
    summary = evaluate.run(recipe)
    names = set(evaluate.METHODS) - (set() if with_spl else {"ASUKA, prior from SPL"})
    assert set(summary["means"]["hole_psnr"]) == names
    assert json.loads((tmp_path / "out" / "results.json").read_text())["images"] == 2
    assert all(name in (tmp_path / "out" / "results.md").read_text() for name in names)
    rows = [json.loads(line) for line in (tmp_path / "out" / "images.jsonl").read_text().splitlines()]
    assert all(set(row) == names | {"photo"} for row in rows)
    assert evaluate.run(replace(recipe, count=1))["images"] == 1
    log = tmp_path / "out" / "images.jsonl"
    log.write_text(log.read_text().replace(rows[0]["photo"], "another.jpg"))
    with pytest.raises(ConfigError, match="is of other photos"):
        evaluate.run(recipe)
    with pytest.raises(ConfigError, match="was made with other settings"):
        evaluate.run(replace(recipe, steps=3))
    torch.nn.init.zeros_(networks["decoder"].decoder.conv_out.weight)
    checkpoints.save(tmp_path / "bundle.safetensors", networks)
    with pytest.raises(ConfigError, match="was made with other settings"):
        evaluate.run(recipe)
    checkpoints.save(tmp_path / "bundle.safetensors", {"mae": mae})
    with pytest.raises(
        ConfigError, match=r"bundle.safetensors holds no alignment and no decoder; training.export joins"
    ):
        evaluate.run(replace(recipe, out=str(tmp_path / "parts")))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    checkpoints.save(tmp_path / "bundle.safetensors", networks)
    with pytest.raises(OSError, match=r"a.jpg: not a readable picture"):
        evaluate.run(replace(recipe, photos=str(tmp_path / "broken"), count=1, out=str(tmp_path / "broken_out")))
    if with_spl:
        assert rows[0]["ASUKA, prior from SPL"] != rows[0]["ASUKA"]
