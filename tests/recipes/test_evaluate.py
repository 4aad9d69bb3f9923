"""The evaluation without ComfyUI: methods in plain PyTorch, and the command's keys of before."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler
from PIL import Image

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from asuka_modules.seams import close_seam
from asuka_modules.spl import SPLConfig, SPLGenerator
from training import evaluate
from training.base.checkpoint import save_base
from training.base.unet import ConditionedUNet
from training.engine.config import ConfigError
from training.evaluation import benchmark
from training.evaluation.benchmark import Benchmark
from training.evaluation.inpaint_input import prepare_input
from training.evaluation.methods import MethodConfig, make_method
from training.evaluation.pairs import PairsConfig
from training.evaluation.pytorch import PyTorchConfig, Stack, WeightsConfig
from training.masks import MaskConfig
from training.sd import SCALING_FACTOR, LatentDiffusion

SIZE = 64
METHODS = {
    "SD": PyTorchConfig("empty", "stock", steps=2),
    "SD, harmonizing decoder": PyTorchConfig("empty", steps=2),
    "decoder stock": PyTorchConfig(decoder="stock", steps=2),
    "ASUKA": PyTorchConfig(steps=2),
    "ASUKA, seam closed": PyTorchConfig(steps=2, close_seam=True),
    "ASUKA, prior from SPL": PyTorchConfig("spl", steps=2),
    "MAE": PyTorchConfig(decoder="mae"),
}


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    mae = MAE(MAEConfig(SIZE, 4, 32, 2, 4, 24, 3, 4, prior_depth=2))
    mae.init_weights()
    return {
        "mae": mae,
        "alignment": Alignment(AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25)),
        "decoder": HarmonizingDecoder(DecoderConfig(ch=32, num_res_blocks=1, post_quant_conv=False)),
    }


@pytest.fixture
def weights(networks, tmp_path) -> WeightsConfig:
    torch.manual_seed(1)
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("base", "bundle", "spl")]
    save_base(Path(paths[0]), AutoencoderTiny(), ConditionedUNet())
    checkpoints.save(Path(paths[1]), networks)
    checkpoints.save(Path(paths[2]), {"spl": SPLGenerator(SPLConfig(8, 5, 2, 2, 4, 1, 1))})
    return WeightsConfig(*paths)


@pytest.fixture
def recipe(photos, masks, weights, tmp_path) -> Benchmark:
    return Benchmark(
        pairs=PairsConfig(
            photos=str(photos), masks=MaskConfig(objects=str(masks), size=SIZE), size=SIZE, count=2, hole=(0.1, 0.5)
        ),
        methods=tuple(MethodConfig(name, pytorch=config) for name, config in METHODS.items()),
        out=str(tmp_path / "out"),
        pytorch=weights,
        features="none",
        lpips=False,
        clip=False,
        seeds=2,
    )


@pytest.fixture
def question():
    rng = np.random.default_rng(0)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[11:40, 20:51] = 255
    return prepare_input("0", rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), mask, seed=7)


@torch.no_grad()
def test_methods_are_their_networks_one_after_the_other(weights, question):
    """By hand, with diffusers' scheduler in float32."""
    stack = Stack(weights)
    results = {
        name: make_method(MethodConfig(name, pytorch=config), stack=stack)(question) / 255
        for name, config in METHODS.items()
    }
    image = torch.from_numpy(question.image / np.float32(255)).permute(2, 0, 1)[None]
    mask = torch.from_numpy(question.hole).float()[None, None]
    cells = F.max_pool2d(mask, 8)
    grey = torch.where(F.interpolate(cells, scale_factor=8) > 0, torch.tensor(0.5), image)
    parts, base = stack.networks, stack.base

    def sample(context: torch.Tensor) -> torch.Tensor:
        scheduler = DDIMScheduler(
            1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
        )
        scheduler.set_timesteps(2)
        latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
        for t in scheduler.timesteps:
            noise = base.unet(torch.cat([latent, cells, base.encode(grey)], 1), t, context).sample
            latent = scheduler.step(noise, t, latent).prev_sample
        return latent

    prior = sample(parts["alignment"](parts["mae"].prior(image, mask)))
    expected = {
        "SD": base.decode(sample(base.empty_context)),
        "SD, harmonizing decoder": parts["decoder"](sample(base.empty_context) / SCALING_FACTOR, image, mask),
        "decoder stock": base.decode(prior),
        "ASUKA": parts["decoder"](prior / SCALING_FACTOR, image, mask),
        "ASUKA, seam closed": close_seam(parts["decoder"](prior / SCALING_FACTOR, image, mask), image, mask),
        "MAE": parts["mae"].reconstruct(parts["mae"].decoder_features(image, mask)),
    }
    for name, picture in expected.items():
        picture = picture[0].clamp(0, 1).permute(1, 2, 0).numpy()
        assert np.abs(results[name] - picture).max() < 0.03, name  # bf16 where the CPU has it
    assert np.abs(results["ASUKA"] - results["ASUKA, prior from SPL"]).max() > 1 / 255


def test_every_method_gets_its_row(recipe, tmp_path):
    found = benchmark.run(recipe)["methods"]
    assert list(found) == list(METHODS)
    assert [method["seeds"] for method in found.values()] == [2] * 6 + [1]
    assert all("seed_spread" in method["means"] for name, method in found.items() if name != "MAE")
    text = (tmp_path / "out" / "results.md").read_text()
    assert "2 seeds, 2 or 50 steps" in text
    assert all(f"| {name} |" in text for name in METHODS)


def test_methods_that_differ_in_the_decoder_share_the_latent(recipe, monkeypatch):
    calls, sample = [], LatentDiffusion.sample
    monkeypatch.setattr(LatentDiffusion, "sample", lambda *arguments: calls.append(1) or sample(*arguments))
    benchmark.run(recipe)
    assert len(calls) == 2 * 2 * 3  # photos, seeds, contexts


def test_results_of_other_weights_are_not_mixed(recipe, networks, weights):
    recipe = replace(recipe, methods=recipe.methods[3:4])
    benchmark.run(recipe)
    other = networks | {"decoder": HarmonizingDecoder(networks["decoder"].config)}
    checkpoints.save(Path(weights.bundle), other)
    with pytest.raises(ConfigError, match="was made with other settings"):
        benchmark.run(recipe)


def test_missing_parts_are_told(recipe, networks, weights):
    with pytest.raises(ConfigError, match=r"context is spl, which needs weights; give pytorch\.spl"):
        benchmark.run(replace(recipe, pytorch=replace(weights, spl=None)))
    checkpoints.save(Path(weights.bundle), {"mae": networks["mae"]})
    with pytest.raises(
        ConfigError, match=r"bundle.safetensors holds no alignment and no decoder; training.export joins"
    ):
        benchmark.run(recipe)


def test_sizes_that_are_no_multiples_of_eight_are_told(weights):
    method = make_method(MethodConfig("ASUKA", pytorch=METHODS["ASUKA"]), stack=Stack(weights))
    question = prepare_input("0", np.zeros((60, 64, 3), np.uint8), np.full((60, 64), 255, np.uint8), 0)
    with pytest.raises(ConfigError, match="pairs are 64x60; plain PyTorch needs multiples of 8"):
        method(question)


def test_unreadable_photos_are_named(recipe, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    pairs = replace(recipe.pairs, photos=str(tmp_path / "broken"), count=1)
    with pytest.raises(OSError, match=r"a.jpg: not a readable image"):
        benchmark.run(replace(recipe, pairs=pairs))


def test_the_documented_command_of_before_still_works(photos, masks, weights, tmp_path, monkeypatch, capsys):
    """With its keys as they were, on the shipped config."""
    settings = {
        "photos": photos,
        "masks.objects": masks,
        "count": 1,
        "base": weights.base,
        "bundle": weights.bundle,
        "spl": weights.spl,
        "seeds": 1,
        "size": SIZE,
        "out": tmp_path / "out",
        "features": "none",
    }
    arguments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    monkeypatch.setattr(sys, "argv", ["evaluate", "miniature", *arguments, "--only", "ASUKA", "flat grey, seam closed"])
    evaluate.main()
    assert "warning: --set photos is now --set pairs.photos\n" in capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["methods"]) == ["flat grey, seam closed", "ASUKA"]
    assert results["recipe"]["pairs"]["masks"]["objects"] == str(masks)
    with Image.open(next((tmp_path / "out" / "pictures" / "ASUKA").glob("*.png"))) as picture:
        assert picture.size == (SIZE, SIZE)
