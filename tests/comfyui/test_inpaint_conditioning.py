"""Inpaint Conditioning against InpaintModelConditioning, with the demo model's real VAE."""

import sys

import pytest
import torch
from graphs import ellipse, photo

from scripts.comfy_server import ROOT


@pytest.fixture(scope="module")
def vae(comfyui):
    sys.path.insert(0, str(comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before comfy.model_management is imported
    import comfy.sd

    return comfy.sd.load_checkpoint_guess_config(str(ROOT / "demo" / "asuka-miniature-base.safetensors"))[2]


@pytest.fixture
def encodes(vae, monkeypatch) -> list[torch.Size]:
    """The shapes that the VAE's network is given."""
    shapes, encode = [], vae.first_stage_model.encode
    monkeypatch.setattr(
        vae.first_stage_model, "encode", lambda x, *a, **k: (shapes.append(x.shape), encode(x, *a, **k))[1]
    )
    return shapes


def execute(extension, *arguments):
    return sys.modules["asuka_extension.nodes.inpaint_conditioning"].ASUKA_InpaintConditioning.execute(*arguments).args


def stock(*arguments):
    import nodes  # ComfyUI's

    positive, negative, vae, image, mask, noise_mask = arguments
    return nodes.InpaintModelConditioning().encode(positive, negative, image, vae, mask, noise_mask)


def conditioning(seed: int) -> list:
    return [[torch.randn(1, 7, 768, generator=torch.Generator().manual_seed(seed)), {"pooled_output": None}]]


def inputs(width: int, height: int, gray: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """A photo, gray under a mask whose edges lie between latent pixels, or not."""
    image = torch.from_numpy(photo(width, height)).float()[None] / 255
    mask = torch.from_numpy(ellipse(width, height)).float()[None]
    return torch.where(mask[..., None] > 0.5, torch.full_like(image, 0.5), image) if gray else image, mask


@pytest.mark.parametrize("size", [(128, 96), (131, 101)])
@pytest.mark.parametrize("noise_mask", [True, False])
def test_gives_what_the_stock_node_gives_with_one_encode(extension, vae, encodes, size, noise_mask):
    image, mask = inputs(*size)
    given = conditioning(0), conditioning(1), vae, image, mask, noise_mask
    positive, negative, latent = execute(extension, *given)
    assert len(encodes) == 1
    expected = stock(*given)
    assert len(encodes) == 3
    assert latent.keys() == expected[2].keys()
    for key, value in latent.items():
        torch.testing.assert_close(value, expected[2][key], atol=1e-4, rtol=0)
    for found, wanted, source in zip((positive, negative), expected, (given[0], given[1]), strict=False):
        assert found[0][0] is source[0][0]
        assert found[0][1].keys() == wanted[0][1].keys() == {"pooled_output", "concat_latent_image", "concat_mask"}
        torch.testing.assert_close(found[0][1]["concat_mask"], wanted[0][1]["concat_mask"], atol=0, rtol=0)
        latents = (options["concat_latent_image"] for options in (found[0][1], wanted[0][1]))
        torch.testing.assert_close(*latents, atol=1e-4, rtol=0)
        assert source[0][1] == {"pooled_output": None}


def test_content_under_the_hole_changes_nothing(extension, vae):
    image, mask = inputs(128, 96, gray=False)
    results = []
    for content in (image, torch.where(mask[..., None] > 0.5, torch.rand_like(image), image)):
        positive, _, latent = execute(extension, conditioning(0), conditioning(1), vae, content, mask, True)
        results.append((positive[0][1]["concat_latent_image"], latent["samples"]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_one_mask_serves_a_batch(extension, vae, encodes):
    image, mask = inputs(64, 64)
    _, _, latent = execute(extension, conditioning(0), conditioning(1), vae, image.repeat(3, 1, 1, 1), mask, True)
    assert latent["samples"].shape[0] == latent["noise_mask"].shape[0] == 3
    assert [shape[0] for shape in encodes] == [3]


def test_empty_mask_is_named(extension, vae):
    image, mask = inputs(64, 64)
    with pytest.raises(ValueError, match="the mask is empty"):
        execute(extension, conditioning(0), conditioning(1), vae, image, mask * 0, True)
