"""Transformer blocks shared by the MAE and the alignment module.

`operations` is the namespace that the layers come from: `torch.nn`, or one of ComfyUI's `comfy.ops` classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Split the channels of `x` (B, N, C) into heads, (B, num_heads, N, C / num_heads)."""
    b, n, c = x.shape
    return x.view(b, n, num_heads, c // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Join the heads of `x` (B, num_heads, N, C / num_heads) to (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention with the key names of timm and MAE. Raises ValueError if `num_heads` does not divide `dim`."""

    def __init__(self, dim: int, num_heads: int, operations=nn):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}")
        self.num_heads = num_heads
        self.qkv = operations.Linear(dim, 3 * dim)
        self.proj = operations.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (B, N, C) to (B, N, C). Only keys that are true in `valid` (B, 1, 1, N) bool are attended to."""
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=valid)))


class MLP(nn.Module):
    """Two linear layers with a GELU between them, applied to each token."""

    def __init__(self, dim: int, hidden_dim: int, operations=nn):
        super().__init__()
        self.fc1 = operations.Linear(dim, hidden_dim)
        self.fc2 = operations.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block of the MAE: attention, then an MLP, each with a residual connection."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, operations=nn):
        super().__init__()
        self.norm1 = operations.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, operations)
        self.norm2 = operations.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, int(dim * mlp_ratio), operations)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (B, N, C) to (B, N, C). Only tokens that are true in `valid` (B, 1, 1, N) bool are attended to."""
        x = x + self.attn(self.norm1(x), valid)
        return x + self.mlp(self.norm2(x))


class ParallelBlock(nn.Module):
    """Attention and MLP in parallel, between two linear layers; q and k are RMS-normalized per head (ASUKA, sec. 3.2).

    With `cross`, keys and values come from a second sequence.
    """

    def __init__(self, dim: int, head_dim: int, mlp_ratio: float, cross: bool = False, operations=nn):
        super().__init__()
        hidden_dim = int(dim * mlp_ratio)
        self.num_heads = dim // head_dim
        self.pre_norm = operations.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.query_norm = operations.RMSNorm(head_dim, eps=1e-6)
        self.key_norm = operations.RMSNorm(head_dim, eps=1e-6)
        self.splits = [dim, hidden_dim] if cross else [dim, dim, dim, hidden_dim]
        self.linear1 = operations.Linear(dim, sum(self.splits))
        self.linear2 = operations.Linear(dim + hidden_dim, dim)
        self.source_linear = operations.Linear(dim, 2 * dim) if cross else None

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """Map (B, N, C) to (B, N, C); with cross-attention, `source` (B, M, C) gives the keys and values."""
        if self.source_linear is None:
            q, k, v, hidden = self.linear1(self.pre_norm(x)).split(self.splits, dim=-1)
        else:
            q, hidden = self.linear1(self.pre_norm(x)).split(self.splits, dim=-1)
            k, v = self.source_linear(self.pre_norm(source)).chunk(2, dim=-1)
        q, k, v = (split_heads(part, self.num_heads) for part in (q, k, v))
        attended = merge_heads(F.scaled_dot_product_attention(self.query_norm(q), self.key_norm(k), v))
        return x + self.linear2(torch.cat([attended, F.gelu(hidden, approximate="tanh")], dim=-1))
