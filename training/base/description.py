"""What the miniature's U-Net listens to in place of text.

SD-1.5's cross-attention was trained on captions of the whole image, which is why ASUKA can steer it. The miniature has
no captions: during its base training the context is a coarse description of the *complete* view, one token for every
16x16 pixels that tells the mean colors of its four quarters and where it lies. Half of the time one learned "empty"
token stands in, the counterpart of the empty prompt. The alignment module then learns to speak this language from the
MAE prior, as at full size it learns CLIP's. The description embedding is needed only for base training; the checkpoint
keeps it, and the empty context, under `asuka.`.
"""

import torch
from torch import Tensor, nn

FREQUENCIES = 6


class ConditioningEmbedder(nn.Module):
    """Mean colors of a view's 8x8 blocks -> context, one token for every 2x2 of them."""

    def __init__(self, context_dim: int = 768):
        super().__init__()
        self.proj = nn.Linear(12 + 4 * FREQUENCIES, context_dim)
        self.norm = nn.LayerNorm(context_dim)
        self.empty_context = nn.Parameter(torch.randn(1, 1, context_dim))

    def forward(self, blocks: Tensor, empty: Tensor) -> Tensor:
        """Colors (B, 3, h, w) in [0, 1], `empty` (B,) bool: not described -> (B, h * w / 4, context_dim)."""
        b, _, h, w = blocks.shape
        colors = nn.functional.pixel_unshuffle(blocks * 2 - 1, 2)  # (B, 12, h / 2, w / 2)
        places = place_waves(h // 2, w // 2).to(colors).expand(b, -1, -1, -1)
        tokens = self.norm(self.proj(torch.cat([colors, places], dim=1).flatten(2).transpose(1, 2)))
        return torch.where(empty[:, None, None], self.empty_context.to(tokens), tokens)


def place_waves(h: int, w: int) -> Tensor:
    """Sines and cosines of each token's place relative to the view, (1, 4 * FREQUENCIES, h, w)."""
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    angles = torch.stack([y, x])[:, None] * torch.pi * 2.0 ** torch.arange(FREQUENCIES)[None, :, None, None] / 2
    return torch.cat([angles.sin(), angles.cos()]).flatten(0, 1)[None]
