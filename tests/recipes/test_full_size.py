"""Every recipe takes two steps with the networks of full size, on small photos. Slow lane: bash scripts/test.sh -m slow"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from asuka_modules import checkpoints
from asuka_modules.alignment import SELF4
from asuka_modules.decoder import BASE
from asuka_modules.mae import MAE, VIT_L
from asuka_modules.spl import SPLConfig
from training import align, decoder, latent_augment, mae, spl
from training.data import DataConfig
from training.engine.loop import Objective, RunConfig
from training.latents import LatentsConfig
from training.masks import MaskConfig
from training.weights.frozen import sd15_text_encoder, sd15_unet, sd15_vae
from training.weights.ldm_names import unet_to_ldm, vae_to_ldm

pytestmark = pytest.mark.slow


def run_config(out: Path) -> RunConfig:
    return RunConfig(str(out), steps=2, batch_size=1, lr=1e-4, precision="bf16", workers=0)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory) -> Path:
    """SD-1.5 inpainting with random weights, as ComfyUI users have it: one file of 2 GB."""
    torch.manual_seed(0)
    unet, vae, text = sd15_unet(), sd15_vae(), sd15_text_encoder()
    tensors = {f"model.diffusion_model.{name}": unet.state_dict()[key] for key, name in unet_to_ldm(unet).items()}
    tensors |= {f"first_stage_model.{name}": vae.state_dict()[key] for key, name in vae_to_ldm(vae).items()}
    for key, value in text.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    path = tmp_path_factory.mktemp("sd15") / "sd-v1-5-inpainting.safetensors"
    save_file({key: value.half().contiguous() for key, value in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def vit_l(tmp_path_factory) -> Path:
    network = MAE(VIT_L)
    network.init_weights()
    path = tmp_path_factory.mktemp("mae") / "mae.safetensors"
    checkpoints.save(path, {"mae": network})
    return path


@pytest.fixture
def objective(monkeypatch) -> dict[str, object]:
    """The objective that a recipe hands to the loop, and what its weights were before."""
    seen = {}

    def watch(module) -> None:
        original = module.fit

        def fit(run: RunConfig, objective: Objective, dataset: Dataset, **others) -> nn.Module:
            seen["objective"] = objective
            seen["before"] = {key: value.clone() for key, value in objective.state_dict().items()}
            return original(run, objective, dataset, **others)

        monkeypatch.setattr(module, "fit", fit)

    for module in (mae, align, decoder, spl):
        watch(module)
    return seen


def check(seen: dict) -> None:
    """What is trained moved, all of it had a gradient; what is frozen is as it was, to the bit, and had none."""
    objective, before = seen["objective"], seen["before"]
    trained = {id(p) for p in objective.trained.parameters() if p.requires_grad}
    moved = []
    for name, parameter in objective.named_parameters():
        if id(parameter) in trained:
            moved.append(not torch.equal(parameter, before[name]))
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
    assert all(moved), f"{moved.count(False)} of {len(moved)} trained tensors did not move"


def test_mae(photos, masks, vit_l, tmp_path, objective):
    data = DataConfig(folders=(str(photos),), size=256)
    masks = MaskConfig(objects=str(masks))
    mae.train(mae.MAERecipe(data, masks, run_config(tmp_path), init=str(vit_l)))
    check(objective)


def test_align(photos, masks, sd15, vit_l, tmp_path, objective):
    data = DataConfig(folders=(str(photos),), size=128)
    latents = LatentsConfig(str(tmp_path / "latents"), 4, data, MaskConfig(objects=str(masks), size=128), 2, 0)
    align.train(align.AlignRecipe(str(sd15), str(vit_l), latents, run_config(tmp_path / "align"), SELF4))
    check(objective)


def test_decoder(photos, masks, sd15, tmp_path, objective):
    twins = latent_augment.run(
        latent_augment.LatentAugmentRecipe(str(sd15), (str(photos),), str(tmp_path / "twins"), count=2, max_side=64)
    )
    recipe = decoder.DecoderRecipe(
        base=str(sd15),
        init="base",
        data=DataConfig(folders=(str(photos),), size=64, native=True, augmented=str(twins)),
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(tmp_path / "decoder"),
        model=BASE,
        perceptual_weight=0.0,  # LPIPS's weights are a download
        adversarial_start=0,
    )
    decoder.train(recipe)
    check(objective)


def test_spl(photos, masks, tmp_path, objective):
    data = DataConfig(folders=(str(photos),), size=64)
    masks = MaskConfig(objects=str(masks), size=64)
    spl.train(spl.SPLRecipe(data, masks, run_config(tmp_path), SPLConfig()))
    check(objective)
