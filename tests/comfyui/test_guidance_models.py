"""MAE Prior Guidance on a real server, with the smallest models that ComfyUI takes for SD-1.5, SDXL and FLUX.1 Fill."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from graphs import ellipse, photo, put_image, read
from safetensors.torch import save_file
from test_flux import flux, models, random_network, random_tensors  # noqa: F401 -- flux and models are fixtures

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.mae import MAE, MAEConfig
from scripts.comfy_server import Server
from training.weights.ldm_names import taesd_to_ldm

SIZE = 136, 120


@pytest.fixture(scope="module")
def sdxl(server: Server, extension) -> None:
    """Of nine channels; with fewer blocks than SDXL has, after KOALA, which ComfyUI runs as SDXL. For its conditioning an
    alignment as wide as SDXL's two text encoders and its pooled vector."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        image_size=32,
        in_channels=9,
        out_channels=4,
        model_channels=320,
        num_res_blocks=[1, 1, 1],
        channel_mult=[1, 1, 1],
        transformer_depth=[0, 2, 5],
        transformer_depth_output=[0] * 6,
        transformer_depth_middle=1,
        use_spatial_transformer=True,
        use_linear_in_transformer=True,
        num_head_channels=64,
        context_dim=2048,
        adm_in_channels=2816,
        num_classes="sequential",
        operations=comfy.ops.disable_weight_init,
    )
    shapes = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    (server.base / "models" / "diffusion_models").mkdir(exist_ok=True)
    save_file(random_tensors(shapes, 0), server.base / "models" / "diffusion_models" / "sdxl.safetensors")
    torch.manual_seed(0)
    autoencoder = AutoencoderTiny()
    keys = taesd_to_ldm(autoencoder)
    tensors = {keys[key]: value for key, value in autoencoder.state_dict().items()}
    (server.base / "models" / "vae").mkdir(exist_ok=True)
    tensors |= {"vae_scale": torch.tensor(0.13025), "vae_shift": torch.tensor(0.0)}
    save_file(tensors, server.base / "models" / "vae" / "sdxl.safetensors")
    networks = {
        "mae": random_network(MAE(MAEConfig(embed_dim=64, depth=1, num_heads=4, decoder_depth=8)), 1),
        "alignment": random_network(Alignment(AlignmentConfig(context_dim=2048, depth=1)), 2),
        "alignment_pooled": random_network(Alignment(AlignmentConfig(context_dim=1280, depth=1)), 3),
    }
    checkpoints.save(server.base / "models" / "asuka" / "sdxl.safetensors", networks)


@pytest.fixture(params=["SD-1.5", "SDXL", "FLUX.1 Fill"])
def prompt(request, server: Server, flux: dict) -> dict:  # noqa: F811
    """The FLUX workflow with the guidance and the VAE's own decoder, for any of the three models."""
    flux["9"]["inputs"]["strength"] = 1.0
    flux["13"] = {"class_type": "VAEDecode", "inputs": {"samples": ["12", 0], "vae": ["3", 0]}}
    if request.param == "SD-1.5":
        flux["2"] = {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "asuka-miniature-base.safetensors"},
        }
        for key in ("11", "13"):
            flux[key]["inputs"]["vae"] = ["2", 2]
        flux["6"]["inputs"]["file"] = "asuka-miniature.safetensors"
    elif request.param == "SDXL":
        request.getfixturevalue("sdxl")
        flux["2"]["inputs"]["unet_name"] = flux["3"]["inputs"]["vae_name"] = "sdxl.safetensors"
        flux["6"]["inputs"]["file"] = "sdxl.safetensors"
    flux["20"] = {
        "class_type": "ASUKA_MAEPriorGuidance",
        "inputs": {
            **{"model": ["2", 0], "vae": flux["11"]["inputs"]["vae"], "image": ["7", 0], "mask": ["7", 1]},
            **{"prior_image": ["8", 1], "strength": 1.0, "detail": 1.0, "until": 1.0, "close_seam": True},
        },
    }
    flux["12"]["inputs"]["model"] = ["20", 0]
    return flux


def run(server: Server, prompt: dict, **guidance) -> np.ndarray:
    prompt = copy.deepcopy(prompt)
    prompt["20"]["inputs"] |= guidance
    return read(server, server.run(prompt), "15")


def test_guides_and_keeps_known_pixels(server, prompt):
    pixels, hole = photo(*SIZE), ellipse(*SIZE)
    guided, off = run(server, prompt), run(server, prompt, strength=0.0)
    for result in (guided, off):
        assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(guided[hole], off[hole])
    prompt["12"]["inputs"]["model"] = ["2", 0]
    assert np.array_equal(off, run(server, prompt))


def test_content_under_the_hole_changes_no_bit(server, prompt):
    pixels, hole = photo(*SIZE), ellipse(*SIZE)
    results = []
    for name, under in {"guided-black.png": 0, "guided-white.png": 255}.items():
        painted = np.where(hole[..., None], np.uint8(under), pixels)
        prompt["1"]["inputs"]["image"] = put_image(server, name, painted, hole)
        results.append(run(server, prompt))
    assert np.array_equal(*results)


def test_narrow_gaussian_gives_the_prior_image(server, prompt):
    """As ComfyUI's own nodes paste it and bring it through the VAE: scale and shift of the model's latents are right."""
    found = run(server, prompt, detail=0.1, close_seam=False)
    pasted = {"destination": ["7", 0], "source": ["8", 1], "mask": ["7", 1], "x": 0, "y": 0, "resize_source": False}
    prompt["21"] = {"class_type": "ImageCompositeMasked", "inputs": pasted}
    prompt["22"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["21", 0], "vae": prompt["13"]["inputs"]["vae"]}}
    prompt["13"]["inputs"]["samples"] = ["22", 0]
    expected = run(server, prompt)
    hole = ellipse(*SIZE, scale=0.1)  # far from the edge, over which the decoder looks
    assert np.abs(found.astype(int) - expected)[hole].mean() < 1
