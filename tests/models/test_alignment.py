"""The alignment module against blocks written with torch's own operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asuka_modules.alignment import VARIANTS, Alignment, AlignmentConfig, interpolate_context, match_length
from asuka_modules.layers import ParallelBlock

PRIOR = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(1))


def tiny(**changes) -> AlignmentConfig:
    return AlignmentConfig(**{"prior_dim": 24, "context_dim": 32, "head_dim": 8, "mlp_ratio": 2.0, **changes})


def random_alignment(config: AlignmentConfig) -> Alignment:
    torch.manual_seed(0)
    alignment = Alignment(config)
    for parameter in alignment.parameters():
        nn.init.normal_(parameter, std=0.3)
    return alignment


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def reference_block(block: ParallelBlock, x: Tensor, dim: int = 32, head_dim: int = 8) -> Tensor:
    """The parallel block spelled out: explicit softmax, one head at a time."""
    normed = F.layer_norm(x, (dim,), eps=1e-6)
    joint = F.linear(normed, block.linear1.weight, block.linear1.bias)
    q, k, v, hidden = joint[..., :dim], joint[..., dim : 2 * dim], joint[..., 2 * dim : 3 * dim], joint[..., 3 * dim :]
    heads = []
    for i in range(0, dim, head_dim):
        qi = rms(q[..., i : i + head_dim], block.query_norm.weight)
        ki = rms(k[..., i : i + head_dim], block.key_norm.weight)
        heads.append((qi @ ki.mT / head_dim**0.5).softmax(-1) @ v[..., i : i + head_dim])
    gelu = 0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
    return x + F.linear(torch.cat([*heads, gelu], -1), block.linear2.weight, block.linear2.bias)


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_self_attention_variants(depth):
    alignment = random_alignment(tiny(depth=depth))
    x = F.linear(PRIOR, alignment.proj_in.weight, alignment.proj_in.bias)
    for block in alignment.blocks:
        x = reference_block(block, x)
    expected = F.layer_norm(x, (32,), alignment.norm.weight, alignment.norm.bias, 1e-5)
    torch.testing.assert_close(alignment(PRIOR), expected, atol=1e-4, rtol=1e-4)


def test_cross_attention_block_matches_multihead_attention():
    """With q and k normalised by hand, torch's own multi-head attention gives the attended half."""
    torch.manual_seed(0)
    block = ParallelBlock(32, 8, 2.0, cross=True)
    nn.init.normal_(block.query_norm.weight)
    nn.init.normal_(block.key_norm.weight)
    x, source = torch.randn(2, 5, 32), torch.randn(2, 16, 32)
    q, hidden = block.linear1(F.layer_norm(x, (32,), eps=1e-6)).split([32, 64], -1)
    k, v = block.source_linear(F.layer_norm(source, (32,), eps=1e-6)).chunk(2, -1)
    q, k = (
        rms(t.view(2, -1, 4, 8), w).flatten(2) for t, w in ((q, block.query_norm.weight), (k, block.key_norm.weight))
    )
    attention = nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.eye(32).repeat(3, 1))
        attention.out_proj.weight.copy_(torch.eye(32))
    attended = attention(q, k, v, need_weights=False)[0]
    expected = x + block.linear2(torch.cat([attended, nn.GELU("tanh")(hidden)], -1))
    torch.testing.assert_close(block(x, source), expected, atol=1e-5, rtol=1e-5)


def test_cross4_has_as_many_tokens_as_queries():
    assert random_alignment(tiny(num_queries=7))(PRIOR).shape == (2, 7, 32)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_at_full_size(name):
    context = Alignment(VARIANTS[name])(torch.randn(2, 256, 512))
    assert context.shape == (2, 77 if name == "prompt" else 256, 768)


def test_prompt_does_not_listen_to_the_prior():
    prompt = random_alignment(tiny(depth=0, num_queries=3))
    assert torch.equal(prompt(PRIOR), prompt(PRIOR * 0))
    assert sum(p.numel() for p in prompt.parameters()) == 3 * 32 + 2 * 32


@pytest.mark.parametrize("queries", [0, 7])
def test_gradient_reaches_every_parameter(queries):
    alignment = random_alignment(tiny(num_queries=queries))
    alignment(PRIOR).pow(3).sum().backward()
    assert [name for name, p in alignment.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("queries", [0, 7])
def test_priors_of_a_batch_are_independent(queries):
    alignment = random_alignment(tiny(num_queries=queries))
    together = alignment(PRIOR)
    torch.testing.assert_close(alignment(PRIOR[1:]), together[1:], atol=1e-5, rtol=1e-5)


def test_strength_interpolates_from_the_empty_context():
    context, empty = torch.randn(2, 4, 8), torch.randn(1, 4, 8)
    assert torch.equal(interpolate_context(context, empty, 1.0), context)
    torch.testing.assert_close(interpolate_context(context, empty, 0.0), empty.expand(2, -1, -1))
    torch.testing.assert_close(interpolate_context(context, empty, 0.5), (context + empty) / 2)


def test_matching_length_keeps_proportions():
    """One begin token and 76 end tokens (CLIP's empty prompt) stay about 1 : 76 in attention."""
    tokens = torch.tensor([0.0] + [1.0] * 76)[None, :, None]
    matched = match_length(tokens, 256)
    assert matched.shape == (1, 256, 1)
    assert (matched == 0).sum().item() == 4  # 256 / 77 = 3.3, rounded up
    assert torch.equal(match_length(tokens, 77), tokens)
