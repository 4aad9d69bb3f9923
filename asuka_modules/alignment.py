"""Alignment module: maps the MAE prior to the U-Net's cross-attention context, in place of text (ASUKA, sec. 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import ParallelBlock


@dataclass(frozen=True)
class AlignmentConfig:
    """Size of an alignment module; the defaults are the paper's `self4` for SD-1.5."""

    prior_dim: int = 512
    context_dim: int = 768
    depth: int = 4
    head_dim: int = 64
    mlp_ratio: float = 4.0
    num_queries: int = (
        0  # > 0: number of learned queries that cross-attend to the prior; with depth 0 the output is the queries alone
    )
    empty_tokens: int = 0  # length of the stored empty-prompt context; 0: none is stored

    def __post_init__(self):
        if self.depth and self.context_dim % self.head_dim:
            raise ValueError(f"context_dim is {self.context_dim}, expected a multiple of head_dim, {self.head_dim}")


SELF4 = AlignmentConfig()
VARIANTS = {
    "linear": AlignmentConfig(depth=0),
    "attn": AlignmentConfig(depth=1),
    "cross4": AlignmentConfig(num_queries=256),
    "self4": SELF4,
    "prompt": AlignmentConfig(
        depth=0, num_queries=77
    ),  # learned tokens that ignore the prior, the paper's SD-prompt baseline
}


class Alignment(nn.Module):
    """A linear layer to the context's width, attention blocks and a LayerNorm. One token per patch keeps locality."""

    def __init__(self, config: AlignmentConfig = SELF4, operations=nn):
        super().__init__()
        self.config = config
        dim, cross = config.context_dim, config.num_queries > 0
        if config.depth or not cross:
            self.proj_in = operations.Linear(config.prior_dim, dim)
        if cross:
            self.queries = nn.Parameter(torch.zeros(1, config.num_queries, dim))
        self.blocks = nn.ModuleList(
            ParallelBlock(dim, config.head_dim, config.mlp_ratio, cross, operations) for _ in range(config.depth)
        )
        self.norm = operations.LayerNorm(dim)
        if config.empty_tokens:
            self.register_buffer("empty_context", torch.zeros(1, config.empty_tokens, dim))

    def init_weights(self) -> None:
        """Initialize the learned queries with N(0, 0.02) so that they differ; all else keeps torch's default."""
        if self.config.num_queries:
            nn.init.normal_(self.queries, std=0.02)

    def forward(self, prior: Tensor) -> Tensor:
        """Map the MAE prior (B, N, prior_dim) to a context (B, N, context_dim), or (B, num_queries, context_dim)."""
        if self.config.num_queries:
            x = self.queries.to(prior).expand(len(prior), -1, -1)
            source = self.proj_in(prior) if self.blocks else None
            for block in self.blocks:
                x = block(x, source)
        else:
            x = self.proj_in(prior)
            for block in self.blocks:
                x = block(x)
        return self.norm(x)


def interpolate_context(context: Tensor, empty: Tensor, strength: float) -> Tensor:
    """Return c_empty + strength * (c_asuka - c_empty) of contexts (B or 1, N, C): 1 is ASUKA, 0 the empty prompt."""
    return context if strength == 1 else torch.lerp(empty.to(context), context, strength)


def match_length(context: Tensor, length: int) -> Tensor:
    """Resample `context` (B, T, C) to (B, length, C) by repeating or dropping tokens evenly along the sequence.

    Cross-attention ignores the order of tokens, but not how often each occurs. The proportions stay the same if `length`
    is a multiple of T, and almost the same otherwise (of 77 tokens in 256, some occur three times and some four).
    """
    index = torch.arange(length, device=context.device) * context.shape[1] // length
    return context[:, index]
