"""The harmonizing decoder against diffusers' AsymmetricAutoencoderKL, which shares no code with it."""

from dataclasses import replace

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL
from torch import Tensor

from asuka_modules.decoder import FLUX, LARGE, LARGE2, DecoderConfig, HarmonizingDecoder

TINY = DecoderConfig(ch=32, num_res_blocks=1)


def random_decoder(config: DecoderConfig = TINY) -> HarmonizingDecoder:
    torch.manual_seed(0)
    return HarmonizingDecoder(config).eval()


def random_inputs(
    config: DecoderConfig, cells: tuple[int, int] = (4, 6), batch: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    h, w = (config.factor * n for n in cells)
    latent = torch.randn(batch, config.latent_channels, *cells, generator=generator) * 5
    image = torch.rand(batch, 3, h, w, generator=generator)
    mask = torch.zeros(batch, 1, h, w)
    mask[:, :, 5 : h // 2 + 3, 3 : w // 2] = 1  # off the grid of latent cells
    return latent, image, mask


def diffusers_weights(decoder: HarmonizingDecoder) -> dict[str, Tensor]:
    """The decoder's weights under diffusers' names (LDM level i is diffusers' up block 3 - i)."""
    names = {
        "decoder.encoder.": "decoder.condition_encoder.",
        "decoder.mid.block_1.": "decoder.mid_block.resnets.0.",
        "decoder.mid.block_2.": "decoder.mid_block.resnets.1.",
        "decoder.mid.attn_1.norm.": "decoder.mid_block.attentions.0.group_norm.",
        "decoder.mid.attn_1.q.": "decoder.mid_block.attentions.0.to_q.",
        "decoder.mid.attn_1.k.": "decoder.mid_block.attentions.0.to_k.",
        "decoder.mid.attn_1.v.": "decoder.mid_block.attentions.0.to_v.",
        "decoder.mid.attn_1.proj_out.": "decoder.mid_block.attentions.0.to_out.0.",
        "decoder.norm_out.": "decoder.conv_norm_out.",
    }
    renamed = {}
    for key, value in decoder.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if key.startswith("decoder.up."):
            _, _, level, kind, rest = key.split(".", 4)
            kind = "resnets" if kind == "block" else "upsamplers.0"
            key = f"decoder.up_blocks.{3 - int(level)}.{kind}.{rest}"
        if ".attentions." in key and value.ndim == 4:
            value = value[:, :, 0, 0]
        renamed[key.replace("nin_shortcut", "conv_shortcut")] = value
    return renamed


@pytest.mark.parametrize(
    ("config", "channels", "layers"),
    [
        (DecoderConfig(), (128, 256, 512, 512), 2),
        (LARGE, (192, 384, 768, 768), 3),
        (LARGE2, (256, 512, 1024, 1024), 5),
        (DecoderConfig(ch=32, norm_groups=8), (32, 64, 128, 128), 2),
    ],
    ids=["1x", "1.5x", "2x", "narrow"],
)
@torch.no_grad()
def test_matches_diffusers(config, channels, layers):
    decoder = random_decoder(config)
    reference = AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=(32, 32, 32, 32),  # the encoder is not used
        layers_per_down_block=1,
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=channels,
        layers_per_up_block=layers,
        latent_channels=4,
        norm_num_groups=config.norm_groups,
    ).eval()
    weights = diffusers_weights(decoder)
    result = reference.load_state_dict(weights, strict=False)
    assert result.unexpected_keys == []
    assert {key.split(".")[0] for key in result.missing_keys} == {"encoder", "quant_conv"}

    latent, image, mask = random_inputs(config)
    for hole in (mask, torch.ones_like(mask)):
        expected = reference.decode(latent, image=image * 2 - 1, mask=hole).sample / 2 + 0.5
        assert (decoder(latent, image, hole) - expected).abs().max() <= 1e-4


def test_area_reduction_marks_every_touched_cell():
    """One hole pixel: with "area" the trunk decodes its whole latent cell, with "nearest" it is lost below full size."""
    latent, image, _ = random_inputs(FLUX, batch=1)
    mask = torch.zeros(1, 1, 32, 48)
    mask[0, 0, 11, 13] = 1
    config = replace(TINY, latent_channels=16, post_quant_conv=False, concat_mask=True)
    changed = {}
    for mode in ("area", "nearest"):
        decoder = random_decoder(replace(config, mask_reduction=mode))
        changed[mode] = (decoder(latent, image, mask) - decoder(latent * 0, image, mask)).abs().max().item()
    assert changed["nearest"] < 1e-6 < changed["area"]


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, latent_channels=16, post_quant_conv=False, concat_mask=True, mask_reduction="area")]
)
def test_content_under_the_hole_changes_no_bit(config):
    decoder = random_decoder(config)
    latent, image, mask = random_inputs(config)
    expected = decoder(latent, image, mask)
    for content in (0.0, 1.0, torch.nan, torch.rand_like(image)):
        assert torch.equal(decoder(latent, torch.where(mask > 0.5, torch.as_tensor(content), image), mask), expected)


def test_images_of_a_batch_are_independent():
    decoder = random_decoder()
    inputs = random_inputs(TINY, batch=3)
    together = decoder(*inputs)
    for i in range(3):
        torch.testing.assert_close(decoder(*(x[i : i + 1] for x in inputs)), together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_gradient_reaches_every_parameter():
    decoder = random_decoder(replace(TINY, concat_mask=True))
    decoder(*random_inputs(TINY)).square().sum().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_picture_of_another_size_is_refused():
    decoder, (latent, image, mask) = random_decoder(), random_inputs(TINY)
    found = r"image \(32, 40\), mask \(32, 48\), but the latent covers \(32, 48\); give both at that size"
    with pytest.raises(ValueError, match=found):
        decoder(latent, image[..., :40], mask)
    with pytest.raises(ValueError, match=r"mask \(16, 48\), but the latent covers"):
        decoder(latent, image, mask[..., :16, :])


def test_parameter_counts_are_the_published_ones():
    """seed: base 75.48 M in all, of which 15.21 M are published but unused; 1.5x 194.35 and 34.21; 2x 432.79 and 60.82."""
    with torch.device("meta"):
        for config, millions in ((DecoderConfig(), 75.48 - 15.21), (LARGE, 194.35 - 34.21), (LARGE2, 432.79 - 60.82)):
            decoder = HarmonizingDecoder(replace(config, post_quant_conv=False))
            assert sum(p.numel() for p in decoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.02)


def test_attention_in_parts_is_attention(monkeypatch):
    decoder, inputs = random_decoder(), random_inputs(TINY)
    with torch.no_grad():
        whole = decoder(*inputs)
        monkeypatch.setattr("asuka_modules.decoder.QUERY_CHUNK", 7)
        torch.testing.assert_close(decoder(*inputs), whole)
