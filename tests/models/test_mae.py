"""The MAE against transformers' ViTMAE and timm's blocks, which share no code with it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from asuka_modules.mae import MAE, MAEConfig, sincos_position_embedding
from asuka_modules.masking import hidden_patches

TINY = MAEConfig(
    image_size=64,
    patch_size=8,
    embed_dim=32,
    depth=3,
    num_heads=4,
    decoder_embed_dim=16,
    decoder_depth=4,
    decoder_num_heads=2,
    prior_depth=3,
)


def random_mae(config: MAEConfig = TINY) -> MAE:
    torch.manual_seed(0)
    mae = MAE(config)
    for parameter in mae.parameters():
        nn.init.normal_(parameter, std=0.2)
    return mae.eval()


def random_batch(batch: int = 3, size: int = 64) -> tuple[Tensor, Tensor]:
    """Images, and holes that lie off the patch grid and differ in size."""
    image = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(batch, 1, size, size)
    for i in range(batch):
        mask[i, :, 5 : 5 + size // 6 * (i + 1), 11 : 11 + size // 3] = 1
    return image, mask


def huggingface_weights(mae: MAE) -> dict[str, Tensor]:
    """The weights of a MAE with class token under transformers' names."""
    renamed = {}
    for key, value in mae.state_dict().items():
        decoder = key.startswith("decoder_") or key == "mask_token"
        if ".attn.qkv." in key:
            block, parameter = key.split(".attn.qkv.")
            for name, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{block}.attention.{name}_proj.{parameter}"] = part
            continue
        key = (
            key.replace("attn.proj", "attention.o_proj")
            .replace("norm1", "layernorm_before")
            .replace("norm2", "layernorm_after")
        )
        if not decoder:
            key = key.replace("pos_embed", "embeddings.position_embeddings").replace(
                "cls_token", "embeddings.cls_token"
            )
            key = key.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
            key = "layernorm" + key.removeprefix("norm") if key.startswith("norm.") else key
        renamed[key] = value
    return {
        ("decoder." if k.startswith("decoder_") or k == "mask_token" else "vit.")
        + k.replace("decoder_blocks", "decoder_layers").replace("blocks", "layers", 1): v
        for k, v in renamed.items()
    }


@pytest.mark.parametrize("hidden_share", [0.25, 0.75])
def test_matches_transformers(hidden_share):
    mae = random_mae(replace(TINY, class_token=True))
    c = mae.config
    reference = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=c.embed_dim,
            num_hidden_layers=c.depth,
            num_attention_heads=c.num_heads,
            intermediate_size=4 * c.embed_dim,
            image_size=c.image_size,
            patch_size=c.patch_size,
            decoder_hidden_size=c.decoder_embed_dim,
            decoder_num_hidden_layers=c.decoder_depth,
            decoder_num_attention_heads=c.decoder_num_heads,
            decoder_intermediate_size=4 * c.decoder_embed_dim,
            layer_norm_eps=1e-6,
            mask_ratio=hidden_share,
        )
    ).eval()
    weights = huggingface_weights(mae)
    weights = {k.replace("decoder_decoder", "decoder"): v for k, v in weights.items()}
    reference.load_state_dict(weights)

    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    noise = torch.rand(2, 64, generator=torch.Generator().manual_seed(3))
    hidden = noise.argsort(1).argsort(1) >= 64 - round(64 * hidden_share)
    with torch.no_grad():
        expected = reference(image, noise=noise).logits
        found = mae(image, torch.zeros(2, 1, 64, 64), hidden)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def published_prior(mae: MAE, image: Tensor, mask: Tensor) -> Tensor:
    """The prior the way the release computes it, from timm's blocks: all tokens kept, hidden keys at -inf."""
    c = mae.config

    def blocks(modules: nn.ModuleList, dim: int, heads: int) -> list[TimmBlock]:
        twins = [
            TimmBlock(dim, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)).eval() for _ in modules
        ]
        for twin, module in zip(twins, modules, strict=True):
            twin.load_state_dict(module.state_dict())
        return twins

    covered = F.interpolate(mask, (c.grid, c.grid), mode="area").flatten(1)
    hidden = (covered > 0).float()
    x = F.conv2d(image, mae.patch_embed.proj.weight, mae.patch_embed.proj.bias, stride=c.patch_size)
    x = x.flatten(2).transpose(1, 2) + mae.pos_embed
    bias = torch.zeros_like(hidden).masked_fill(hidden > 0, -torch.inf)[:, None, None, :]
    for block in blocks(mae.blocks, c.embed_dim, c.num_heads):
        x = block(x, attn_mask=bias)
    x = F.layer_norm(x, (c.embed_dim,), mae.norm.weight, mae.norm.bias, 1e-6)
    x = mae.decoder_embed(x) * (1 - hidden[..., None]) + mae.mask_token * hidden[..., None]
    if c.partial_patches:
        partly = ((covered > 0) & (covered < 1)).float()[..., None]
        embed = mae.decoder_patch_embed.proj
        known = F.conv2d(torch.cat([image * (1 - mask), mask], 1), embed.weight, embed.bias, stride=c.patch_size)
        alpha = mae.alpha.clamp(0, 1)
        x = x * (1 - partly) + (alpha * x + (1 - alpha) * known.flatten(2).transpose(1, 2)) * partly
    x = x + mae.decoder_pos_embed
    for block in blocks(mae.decoder_blocks, c.decoder_embed_dim, c.decoder_num_heads)[: c.prior_depth]:
        x = block(x)
    return x


@pytest.mark.parametrize("partial_patches", [False, True])
def test_dropping_tokens_equals_masking_keys(partial_patches):
    mae = random_mae(replace(TINY, partial_patches=partial_patches))
    if partial_patches:
        nn.init.constant_(mae.alpha, 0.3)
    image, mask = random_batch()
    with torch.no_grad():
        expected = published_prior(mae, *mae.preprocess(image, mask))
        torch.testing.assert_close(mae.prior(image, mask), expected, atol=1e-4, rtol=1e-4)


def test_prior_does_not_depend_on_the_rest_of_the_batch():
    mae = random_mae()
    image, mask = random_batch()
    together = mae.prior(image, mask)
    alone = torch.cat([mae.prior(image[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_everything_hidden_gives_a_finite_prior():
    mae = random_mae()
    image, mask = random_batch()
    mask[0] = 1
    prior = mae.prior(image, mask)
    assert prior.isfinite().all()
    torch.testing.assert_close(prior[1:], mae.prior(image[1:], mask[1:]), atol=1e-5, rtol=1e-5)
    assert mae.prior(image[:1], mask[:1]).isfinite().all()


@pytest.mark.parametrize("size", [64, 97, 200])
def test_content_under_the_hole_changes_no_bit(size):
    mae = random_mae(replace(TINY, partial_patches=True))
    nn.init.constant_(mae.alpha, 0.3)
    image, mask = random_batch(size=size)
    expected = mae.prior(image, mask)
    for content in (0.0, 1.0, torch.nan, torch.rand_like(image)):
        assert torch.equal(mae.prior(torch.where(mask > 0.5, torch.as_tensor(content), image), mask), expected)


def test_patch_is_hidden_when_any_of_its_pixels_is():
    mask = torch.zeros(1, 1, 256, 256)
    mask[0, 0, 100, 37] = 1
    hidden = hidden_patches(mask, 16)[0]
    assert hidden.nonzero().tolist() == [[100 // 16 * 16 + 37 // 16]]


def test_unpatchify_inverts_patchify():
    mae = random_mae()
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(mae.unpatchify(mae.patchify(image)), image)


def test_stream_continues_to_the_reconstruction():
    """The preview is what the whole network predicts, though it starts from the prior."""
    mae = random_mae()
    image, mask = random_batch()
    stream = mae.decoder_features(image, mask)
    normalized, mask = mae.preprocess(image, mask)
    predicted = mae.unpatchify(mae(normalized, mask, hidden_patches(mask, 8)))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (predicted * std.view(3, 1, 1) + mean.view(3, 1, 1)).clamp(0, 1)
    torch.testing.assert_close(mae.reconstruct(stream), expected)


def test_gradient_reaches_every_parameter():
    mae = random_mae(replace(TINY, class_token=True, partial_patches=True))
    nn.init.constant_(mae.alpha, 0.3)
    image, mask = random_batch()
    mae(image, mask, hidden_patches(mask, 8)).square().sum().backward()
    assert [name for name, p in mae.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("dim", [512, 768, 1024])
def test_position_embedding_is_the_published_one(dim):
    expected = get_2d_sincos_pos_embed(dim, 16, output_type="pt").float()[None]
    torch.testing.assert_close(sincos_position_embedding(dim, 16), expected)
