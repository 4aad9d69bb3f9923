"""Loading the frozen base model, and the alignment's loss against diffusers' own networks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from training import align
from training.base.checkpoint import save_base
from training.base.unet import ConditionedUNet
from training.data import DataConfig
from training.decoder import start_from
from training.engine.config import ConfigError
from training.engine.loop import RunConfig
from training.latents import LatentsConfig
from training.masks import MaskConfig
from training.sd import LatentDiffusion
from training.weights import frozen
from training.weights.frozen import BaseModelError, load_frozen, load_vae
from training.weights.ldm_names import unet_to_ldm, vae_to_ldm

TINY_MAE = MAEConfig(64, 4, 32, 2, 4, 24, 2, 4, prior_depth=1)


def tiny_unet() -> UNet2DConditionModel:
    """SD-1.5's structure, all four kinds of blocks, narrow."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=9, cross_attention_dim=48, block_out_channels=(32, 64, 64, 64), attention_head_dim=4
    )


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        latent_channels=4,
    )


def tiny_text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    return CLIPTextModel(config)


@pytest.fixture
def networks(monkeypatch) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Random networks, of which a single file then holds the weights."""
    monkeypatch.setattr(frozen, "sd15_unet", tiny_unet)
    monkeypatch.setattr(frozen, "sd15_vae", tiny_vae)
    monkeypatch.setattr(frozen, "sd15_text_encoder", tiny_text_encoder)
    torch.manual_seed(0)
    return tiny_unet().eval(), tiny_vae().eval(), tiny_text_encoder().eval()


@pytest.fixture
def single_file(networks, tmp_path) -> Path:
    """Written from the key tables of the other direction: diffusers itself must be able to read it back."""
    unet, vae, text = networks
    tensors = {f"model.diffusion_model.{name}": unet.state_dict()[key] for key, name in unet_to_ldm(unet).items()}
    for key, name in vae_to_ldm(vae).items():
        value = vae.state_dict()[key]
        linear = ".attn_1." in name and name.endswith("weight") and value.ndim == 2
        tensors[f"first_stage_model.{name}"] = value[..., None, None] if linear else value
    for key, value in text.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    path = tmp_path / "sd.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def test_names_are_those_that_diffusers_reads(networks, single_file):
    unet, vae, _ = networks
    tensors = load_file(single_file)
    converted = convert_ldm_unet_checkpoint(dict(tensors), dict(unet.config))
    assert converted.keys() == unet.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in unet.state_dict().items())
    converted = convert_ldm_vae_checkpoint(dict(tensors), dict(vae.config))
    assert converted.keys() == vae.state_dict().keys()
    assert all(torch.equal(converted[key].view(value.shape), value) for key, value in vae.state_dict().items())


@torch.no_grad()
def test_single_files_and_folder_give_the_same_model(networks, single_file, tmp_path):
    unet, vae, text = networks
    for name, network in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        network.save_pretrained(tmp_path / "folder" / name)
    image = torch.rand(1, 3, 64, 64)
    ids = torch.tensor([[49406] + [49407] * 76])
    expected = vae.encode(image * 2 - 1).latent_dist.mean * 0.18215
    torch.save({"state_dict": load_file(single_file), "global_step": 1}, tmp_path / "sd.ckpt")
    for path in (single_file, tmp_path / "sd.ckpt", tmp_path / "folder"):
        base = load_frozen(path)
        torch.testing.assert_close(base.encode(image), expected)
        torch.testing.assert_close(base.decode(expected), vae.decode(expected / 0.18215).sample / 2 + 0.5)
        torch.testing.assert_close(base.empty_context, text(ids).last_hidden_state)
        assert not any(p.requires_grad for p in base.parameters())


def test_alignment_loss_is_diffusers_noise_prediction_loss(networks, single_file):
    unet, vae, _ = networks
    torch.manual_seed(1)
    mae = MAE(TINY_MAE)
    mae.init_weights()
    alignment = Alignment(AlignmentConfig(prior_dim=24, context_dim=48, depth=2, head_dim=8))
    latents = LatentsConfig("unused", 1, DataConfig(("unused",)), MaskConfig(objects="unused"))
    recipe = align.AlignRecipe("", "", latents, RunConfig("unused", 1, 2, 1e-4))
    objective = align.AlignObjective(alignment, load_frozen(single_file), recipe)

    image, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[:, :, 16:40, 24:48] = 1
    cells = torch.nn.functional.max_pool2d(mask, 8)
    noise, timestep = torch.randn(2, 4, 8, 8), torch.tensor([100, 800])
    reconstructed = torch.tensor([False, True])
    with torch.no_grad():
        latent = vae.encode(image * 2 - 1).latent_dist.mean * 0.18215
        masked_latent = vae.encode((image * (1 - mask) + 0.5 * mask) * 2 - 1).latent_dist.mean * 0.18215
        prior = torch.cat([mae.prior(image[:1], mask[:1]), mae.prior(image[1:], mask[1:] * 0)])
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    noisy = scheduler.add_noise(latent, noise, timestep)
    context = alignment(prior)
    predicted = unet(torch.cat([noisy, cells, masked_latent], 1), timestep, context).sample
    expected = torch.nn.functional.mse_loss(predicted, noise)
    gradient = torch.autograd.grad(expected, alignment.proj_in.weight)[0]

    batch = {
        "prior": prior,
        "latent_mask": cells,
        "latent": latent,
        "masked_latent": masked_latent,
        "noise": noise,
        "timestep": timestep,
        "reconstructed": reconstructed,
    }
    found, _ = objective(batch)
    assert abs(found - expected) <= 1e-4
    found.backward()
    torch.testing.assert_close(alignment.proj_in.weight.grad, gradient, atol=1e-5, rtol=1e-3)
    assert all(p.grad is None for p in objective.base.parameters())


@torch.no_grad()
@pytest.mark.parametrize("source", ["base", "file", "checkpoint", "folder"])
def test_decoder_starts_as_the_vae_it_comes_from(networks, tmp_path, source):
    unet, vae, _ = networks
    path, shape = tmp_path / "vae.safetensors", DecoderConfig(ch=32, ch_mult=(1, 1, 2, 2))
    prefix = "first_stage_model." if source == "checkpoint" else ""
    state = vae.state_dict()
    save_file({prefix + name: state[key].contiguous() for key, name in vae_to_ldm(vae).items()}, path)
    if source == "folder":
        path = tmp_path / "vae"
        vae.save_pretrained(path)
    base = LatentDiffusion(unet, vae, torch.zeros(1, 77, 48))
    init = "base" if source == "base" else str(path)
    decoder = start_from(init, shape, base).eval()
    latent, image = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64)
    found = decoder(latent, image, torch.ones(1, 1, 64, 64))
    torch.testing.assert_close(found, vae.decode(latent).sample / 2 + 0.5, atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match=r"is a VAE of another shape than model, DecoderConfig\(ch=64"):
        start_from(init, replace(shape, ch=64), base)


def test_the_miniatures_autoencoder_starts_no_decoder():
    base = LatentDiffusion(torch.nn.Identity(), AutoencoderTiny(), torch.zeros(1, 1, 48))
    with pytest.raises(ConfigError, match="init: base is a VAE of another shape than model"):
        start_from("base", None, base)


def test_decoder_of_its_own_kind_is_no_vae(tmp_path):
    checkpoints.save(tmp_path / "bundle.safetensors", {"decoder": HarmonizingDecoder(DecoderConfig(ch=32))})
    assert load_vae(tmp_path / "bundle.safetensors") is None


def test_decoder_of_its_own_kind_is_no_vae_beside_a_vaes_encoder(networks, tmp_path):
    """As Asymmetric VQGAN's file has it."""
    _, vae, _ = networks
    tensors = {name: vae.state_dict()[key].contiguous() for key, name in vae_to_ldm(vae).items()}
    save_file(tensors, tmp_path / "vae.safetensors")
    assert load_vae(tmp_path / "vae.safetensors") is not None
    save_file(tensors | {"decoder.encoder.layers.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "vqgan.safetensors")
    assert load_vae(tmp_path / "vqgan.safetensors") is None


def test_miniature_is_recognised(tmp_path):
    path = tmp_path / "base.safetensors"
    model = ConditionedUNet()
    save_base(path, AutoencoderTiny(), model)
    base = load_frozen(path)
    assert isinstance(base.autoencoder, AutoencoderTiny)
    torch.testing.assert_close(base.empty_context, model.description.empty_context, atol=1e-2, rtol=1e-2)


def test_what_is_no_inpainting_checkpoint_is_named(single_file, tmp_path):
    tensors = load_file(single_file)
    cases = {
        "four.safetensors": ({**tensors, "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 4, 3, 3)}, "a U-Net with 4 input channels"),
        "vae.safetensors": ({k: v for k, v in tensors.items() if k.startswith("first_stage")}, "holds no U-Net"),
        "clipless.safetensors": ({k: v for k, v in tensors.items() if not k.startswith("cond_")}, "tensors are missing, such as cond_stage_model"),
    }  # fmt: skip
    for name, (content, message) in cases.items():
        save_file(content, tmp_path / name)
        with pytest.raises(BaseModelError, match=message):
            load_frozen(tmp_path / name)
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    with pytest.raises(BaseModelError, match=r"text.safetensors: not readable"):
        load_frozen(tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_frozen(tmp_path / "nowhere")
    (tmp_path / "folder" / "unet").mkdir(parents=True)
    with pytest.raises(BaseModelError, match=r"no unet/config.json"):
        load_frozen(tmp_path / "folder")
