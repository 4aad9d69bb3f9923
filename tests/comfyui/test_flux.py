"""The shipped FLUX workflow on a real server, with the smallest model that ComfyUI takes for FLUX.1 Fill."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from graphs import ellipse, photo, put_image, read
from safetensors.torch import save_file
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from scripts.comfy_server import ROOT, Server, ServerError
from training.weights.ldm_names import taesd_to_ldm

WIDTH = 128  # of a head: its axes 16 + 56 + 56 are fixed, the number of heads is not
TEXT = 64  # width of the text tokens, in place of T5's 4096
POOLED = 768


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            tensors[name] = value / math.sqrt(math.prod(shape[1:]))
        else:
            tensors[name] = value * 0.1 + name.endswith(("scale", "norm.weight"))
    return tensors


def flux_fill() -> dict[str, Tensor]:
    """One double and one single block of one head; 96 channels in (latent, masked latent, 8x8 mask) make it Fill."""
    linear = {"img_in": (4 * 96, WIDTH), "txt_in": (TEXT, WIDTH)}
    for name, size in {"time_in": 256, "guidance_in": 256, "vector_in": POOLED}.items():
        linear |= {f"{name}.in_layer": (size, WIDTH), f"{name}.out_layer": (WIDTH, WIDTH)}
    scales = ["single_blocks.0.norm"]
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        linear |= {
            f"{block}_mod.lin": (WIDTH, 6 * WIDTH),
            f"{block}_attn.qkv": (WIDTH, 3 * WIDTH),
            f"{block}_attn.proj": (WIDTH, WIDTH),
            f"{block}_mlp.0": (WIDTH, 4 * WIDTH),
            f"{block}_mlp.2": (4 * WIDTH, WIDTH),
        }
        scales.append(f"{block}_attn.norm")
    linear |= {
        "single_blocks.0.linear1": (WIDTH, 7 * WIDTH),
        "single_blocks.0.linear2": (5 * WIDTH, WIDTH),
        "single_blocks.0.modulation.lin": (WIDTH, 3 * WIDTH),
        "final_layer.linear": (WIDTH, 4 * 16),
        "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    }
    shapes = {f"{name}.weight": (out, into) for name, (into, out) in linear.items()}
    shapes |= {f"{name}.bias": (out,) for name, (_, out) in linear.items()}
    shapes |= {f"{name}.{part}_norm.scale": (WIDTH,) for name in scales for part in ("query", "key")}
    return random_tensors(shapes, seed=0)


def random_network(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    shapes = {key: tuple(value.shape) for key, value in network.named_parameters()}
    network.load_state_dict(random_tensors(shapes, seed), strict=False)
    return network


def asuka_flux(**empty_prompt: Tensor) -> dict[str, torch.nn.Module]:
    """All four networks of the release, thin; the empty prompt's embeddings by the name of their network."""
    config = MAEConfig(embed_dim=64, depth=1, num_heads=4, decoder_depth=8, partial_patches=True)
    networks = {
        "mae": random_network(MAE(config), 1),
        "alignment": Alignment(AlignmentConfig(context_dim=TEXT, depth=1, empty_tokens=256 if empty_prompt else 0)),
        "alignment_pooled": Alignment(AlignmentConfig(depth=1, empty_tokens=1 if empty_prompt else 0)),
        "decoder": random_network(HarmonizingDecoder(DecoderConfig(32, (1, 2, 4, 4), 1, 16, False, True, "area")), 4),
    }
    for seed, name in enumerate(("alignment", "alignment_pooled"), start=2):
        random_network(networks[name], seed)
        if empty_prompt:
            networks[name].empty_context.copy_(empty_prompt[name])
    return networks


@pytest.fixture(scope="module")
def models(server: Server) -> Path:
    """Tiny weights under the names of the shipped workflow."""
    models = server.base / "models"
    for folder in ("diffusion_models", "vae"):
        (models / folder).mkdir(exist_ok=True)
    save_file(flux_fill(), models / "diffusion_models" / "flux1-fill-dev.safetensors")
    torch.manual_seed(0)
    autoencoder = AutoencoderTiny(latent_channels=16)
    keys = taesd_to_ldm(autoencoder)
    tensors = {keys[key]: value for key, value in autoencoder.state_dict().items()}
    save_file(tensors | {"vae_scale": torch.tensor(0.3611), "vae_shift": torch.tensor(0.1159)}, models / "vae" / "ae.safetensors")  # fmt: skip
    checkpoints.save(models / "asuka" / "asuka-flux-fill.safetensors", asuka_flux())
    generator = torch.Generator().manual_seed(9)
    empty = torch.randn(1, 256, TEXT, generator=generator), torch.randn(1, 1, POOLED, generator=generator)
    for name, strength in {"stored": 1.0, "zero": 0.0}.items():
        networks = asuka_flux(alignment=empty[0] * strength, alignment_pooled=empty[1] * strength)
        checkpoints.save(models / "asuka" / f"flux-{name}-empty.safetensors", networks)
    return models


@pytest.fixture
def flux(server: Server, models: Path) -> dict:
    """The shipped workflow, with a small photo and few steps. T5 has no small version: its nodes give way to `base`."""
    flux = json.loads((ROOT / "workflows" / "api" / "flux_fill.json").read_text())
    pixels, hole = photo(136, 120), ellipse(136, 120)
    flux["1"]["inputs"]["image"] = put_image(server, "flux.png", pixels, hole)
    flux["12"]["inputs"]["steps"] = 2
    assert flux["9"]["inputs"].pop("base") == ["5", 0]
    del flux["4"], flux["5"]
    return flux


def with_base(flux: dict) -> dict:
    """Zeros of the right shape as the empty prompt's conditioning, made from what the prior alone gives."""
    alone = {**flux["9"]["inputs"], "strength": 1.0}
    flux["20"] = {"class_type": "ASUKA_AlignConditioning", "inputs": alone}
    flux["21"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["20", 0]}}
    flux["9"]["inputs"]["base"] = ["21", 0]
    return flux


def run(server: Server, flux: dict, **align) -> np.ndarray:
    flux = copy.deepcopy(flux)
    flux["9"]["inputs"] |= align
    return read(server, server.run(flux), "15")


def test_flux_removes_an_object(server, flux):
    result = run(server, with_base(flux))
    pixels, hole = photo(136, 120), ellipse(136, 120)
    assert result.shape == pixels.shape
    assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(result[hole], pixels[hole])
    assert "model_type FLUX" in server.log.read_text()


def test_content_under_the_hole_changes_no_bit_of_the_result(server, flux):
    pixels, hole = photo(136, 120), ellipse(136, 120)
    results = []
    for name, under in {"black": np.zeros_like(pixels), "white": np.full_like(pixels, 255)}.items():
        flux["1"]["inputs"]["image"] = put_image(server, f"{name}.png", np.where(hole[..., None], under, pixels), hole)
        results.append(run(server, flux, strength=1.0))
    assert np.array_equal(*results)


@pytest.mark.parametrize(("side", "shift"), [(512, 0.63), (768, 0.85), (1024, 1.15)])
def test_schedule_is_the_releases(extension, flux, side, shift):
    """The published code's formulas: mu grows linearly from 0.5 at 256 tokens to 1.15 at 4096, and shifts even steps."""
    import comfy.samplers
    import comfy.sd
    import comfy_extras.nodes_model_advanced

    node = flux[flux["12"]["inputs"]["model"][0]]
    assert node["class_type"] == "ModelSamplingFlux"
    size = flux[node["inputs"]["width"][0]]
    assert (size["class_type"], size["inputs"]["image"]) == ("GetImageSize", ["7", 0])
    tokens, steps = (side // 16) ** 2, 50
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    assert mu == pytest.approx(shift, abs=0.01)
    times = np.linspace(1, 0, steps + 1)[:-1]
    expected = [*(np.exp(mu) / (np.exp(mu) + (1 / times - 1))), 0.0]
    model = comfy.sd.load_diffusion_model_state_dict(flux_fill())
    shifts = (node["inputs"]["max_shift"], node["inputs"]["base_shift"])
    patched = comfy_extras.nodes_model_advanced.ModelSamplingFlux().patch(model, *shifts, side, side)[0]
    sampling = patched.get_model_object("model_sampling")
    found = comfy.samplers.calculate_sigmas(sampling, flux["12"]["inputs"]["scheduler"], steps)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_nothing_known_is_put_back_while_sampling(flux):
    """And the model sees the mask to the pixel, as in the published code."""
    conditioning = flux["11"]["inputs"]
    assert conditioning["noise_mask"] is False
    assert conditioning["mask"] == ["7", 1]


def test_strength_interpolates_tokens_and_pooled_vector(server, flux):
    """ComfyUI's own averaging of the two conditionings, pooled vectors included, gives the same picture."""
    flux = with_base(flux)
    found = run(server, flux)
    inputs = {"conditioning_to": ["20", 0], "conditioning_from": ["21", 0], "conditioning_to_strength": 0.5}
    flux["22"] = {"class_type": "ConditioningAverage", "inputs": inputs}
    flux["10"]["inputs"]["conditioning"] = ["22", 0]
    expected = run(server, flux)
    assert np.abs(found.astype(int) - expected).max() <= 1
    flux["10"]["inputs"]["conditioning"] = ["20", 0]
    assert np.abs(run(server, flux).astype(int) - expected).max() > 1


def test_stored_empty_prompt_needs_no_text_encoder(server, flux):
    flux["6"]["inputs"]["file"] = "flux-zero-empty.safetensors"
    stored = run(server, flux)
    assert np.array_equal(stored, run(server, with_base(copy.deepcopy(flux))))
    flux["6"]["inputs"]["file"] = "flux-stored-empty.safetensors"
    assert not np.array_equal(stored, run(server, flux))


@torch.no_grad()
def test_pooled_vector_is_the_mean_over_tokens(server, flux, models):
    """What the networks give here, stored as the empty prompt, makes at strength 0 the picture of strength 1."""
    pixels, hole = photo(136, 120), ellipse(136, 120)
    image = torch.from_numpy(pixels).movedim(-1, 0)[None] / 255
    networks = asuka_flux()
    prior = networks["mae"].eval().prior(image, torch.from_numpy(hole)[None, None].float())
    tokens, vectors = (networks[name](prior) for name in ("alignment", "alignment_pooled"))
    pictures = []
    for name, vector in {"mean": sum(vectors.unbind(1)) / 256, "first": vectors[:, 0]}.items():
        file = f"flux-{name}-vector.safetensors"
        checkpoints.save(models / "asuka" / file, asuka_flux(alignment=tokens, alignment_pooled=vector[:, None]))
        flux["6"]["inputs"]["file"] = file
        pictures.append(run(server, flux, strength=0.0).astype(int))
    flux["6"]["inputs"]["file"] = "asuka-flux-fill.safetensors"
    expected = run(server, flux, strength=1.0)
    assert np.abs(pictures[0] - expected).max() <= 1
    assert np.abs(pictures[1] - expected).max() > 1


def test_no_empty_prompt_is_named(server, flux):
    message = r"strength is 0\.5, but .*asuka-flux-fill\.safetensors stores no empty prompt to mix with; connect the empty prompt"
    with pytest.raises(ServerError, match=message):
        run(server, flux)


def test_decoder_of_another_model_is_named(server, flux):
    flux["30"] = {"class_type": "ASUKA_Load", "inputs": {"file": "asuka-miniature.safetensors"}}
    flux["13"]["inputs"]["decoder"] = ["30", 2]
    message = r"the latent is \(1, 16, 15, 15\) but .*asuka-miniature\.safetensors decodes \(batch, 4, height, width\)"
    with pytest.raises(ServerError, match=message):
        run(server, flux, strength=1.0)
