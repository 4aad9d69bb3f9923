"""Harmonizing decoder: a VAE decoder that is also given the known pixels and the mask (ASUKA, sec. 3.3)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masking import fill_hole, reduce_mask

QUERY_CHUNK = 4096  # queries at a time: without a fused kernel, as on MPS, all scores of a large image would not fit


@dataclass(frozen=True)
class DecoderConfig:
    """Size of a harmonizing decoder; the defaults are the base width, whose trunk is SD's own VAE decoder."""

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 3  # per resolution
    latent_channels: int = 4
    post_quant_conv: bool = True  # SD: yes, FLUX: no
    concat_mask: bool = False  # whether the condition encoder's input includes the mask
    mask_reduction: str = "nearest"  # or "area": a latent pixel is hole if any of its pixels is
    norm_groups: int = 32  # fewer for a narrow decoder: a group of one channel would lose the image's mean color

    def __post_init__(self):
        if self.mask_reduction not in ("nearest", "area"):
            raise ValueError(f"mask_reduction is {self.mask_reduction!r}, expected 'nearest' or 'area'")

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel along each side."""
        return 2 ** (len(self.ch_mult) - 1)


BASE = DecoderConfig()
LARGE = DecoderConfig(ch=192, num_res_blocks=4)
LARGE2 = DecoderConfig(ch=256, num_res_blocks=6)
FLUX = DecoderConfig(latent_channels=16, post_quant_conv=False, concat_mask=True, mask_reduction="area")


def group_norm(channels: int, groups: int, operations) -> nn.Module:
    """Return a GroupNorm with the epsilon of Stable Diffusion's VAE."""
    return operations.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Two normalized convolutions with a residual connection."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, operations=nn):
        super().__init__()
        self.norm1 = group_norm(in_channels, groups, operations)
        self.conv1 = operations.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, groups, operations)
        self.conv2 = operations.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = operations.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int, groups: int, operations=nn):
        super().__init__()
        self.norm = group_norm(channels, groups, operations)
        self.q = operations.Conv2d(channels, channels, 1)
        self.k = operations.Conv2d(channels, channels, 1)
        self.v = operations.Conv2d(channels, channels, 1)
        self.proj_out = operations.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2).unsqueeze(1).contiguous() for conv in (self.q, self.k, self.v))
        parts = [F.scaled_dot_product_attention(part, k, v) for part in q.split(QUERY_CHUNK, dim=2)]
        h = torch.cat(parts, dim=2)  # (B, 1, H * W, C)
        return x + self.proj_out(h.squeeze(1).transpose(1, 2).view_as(x))


class Upsample(nn.Module):
    """Nearest upsampling by 2 and a convolution."""

    def __init__(self, channels: int, operations=nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels, 2 * H, 2 * W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UpBlock(nn.Module):
    """The residual blocks of one resolution, followed by upsampling to the next."""

    def __init__(
        self, in_channels: int, out_channels: int, num_res_blocks: int, upsample: bool, groups: int, operations=nn
    ):
        super().__init__()
        widths = [in_channels] + [out_channels] * num_res_blocks
        self.block = nn.ModuleList(ResBlock(a, b, groups, operations) for a, b in pairwise(widths))
        if upsample:
            self.upsample = Upsample(out_channels, operations)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W), or to twice that size with `upsample`."""
        for block in self.block:
            x = block(x)
        return self.upsample(x) if hasattr(self, "upsample") else x


class MidBlock(nn.Module):
    """Residual block, attention and residual block at the latent's resolution."""

    def __init__(self, channels: int, groups: int, operations=nn):
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups, operations)
        self.attn_1 = AttentionBlock(channels, groups, operations)
        self.block_2 = ResBlock(channels, channels, groups, operations)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to the same shape."""
        return self.block_2(self.attn_1(self.block_1(x)))


class ConditionEncoder(nn.Module):
    """Encodes the known pixels to features at every resolution of the trunk."""

    def __init__(self, config: DecoderConfig, operations=nn):
        super().__init__()
        widths = [config.ch * m for m in config.ch_mult]
        widths.append(widths[-1])
        layers = [
            operations.Conv2d(3 + config.concat_mask, widths[0], 3, padding=1),
            operations.Conv2d(widths[0], widths[1], 3, padding=1),
        ]
        for a, b in pairwise(widths[1:]):
            layers.append(operations.Conv2d(a, b, 4, stride=2, padding=1))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map masked RGB in [-1, 1], with or without the mask, (B, 3 or 4, H, W) to features, from fine to coarse."""
        features = []
        for i, layer in enumerate(self.layers):
            x = layer(F.relu(x) if i else x)
            features.append(x)  # before the activation
        return features


class ConditionedDecoder(nn.Module):
    """SD's VAE decoder, with features on known pixels replaced by those of the condition encoder."""

    def __init__(self, config: DecoderConfig, operations=nn):
        super().__init__()
        self.config = config
        widths = [config.ch * m for m in config.ch_mult]
        self.conv_in = operations.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = MidBlock(widths[-1], config.norm_groups, operations)
        self.up = nn.ModuleList(
            UpBlock(into, out, config.num_res_blocks, i > 0, config.norm_groups, operations)
            for i, (into, out) in enumerate(zip(widths[1:] + widths[-1:], widths, strict=True))
        )
        self.norm_out = group_norm(widths[0], config.norm_groups, operations)
        self.conv_out = operations.Conv2d(widths[0], 3, 3, padding=1)
        self.encoder = ConditionEncoder(config, operations)

    def forward(self, latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Decode `latent` (B, C, H / 8, W / 8) to (B, 3, H, W), given `image` (B, 3, H, W), both about [-1, 1].

        `mask` (B, 1, H, W) is binary, 1 = hole.
        """
        known = self.encoder(self.condition(image, mask))
        h = self.mid(self.conv_in(latent))
        for up_block in reversed(self.up):
            h = up_block(self.merge(h, known.pop(), mask))
        h = self.merge(h, known.pop(), mask)
        return self.conv_out(F.silu(self.norm_out(h)))

    def condition(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the condition encoder's input (B, 3 or 4, H, W) for an `image` (B, 3, H, W) and its `mask` (B, 1, H, W)."""
        masked_image = fill_hole(image, mask, 0.0)
        return torch.cat([masked_image, mask], dim=1) if self.config.concat_mask else masked_image

    def merge(self, h: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        """Return h * m + c * (1 - m): the trunk's features `h` in the hole, the condition's `known` elsewhere.

        Both are (B, C, h, w), the binary `mask` (B, 1, H, W) is reduced to their size (ASUKA, sec. 3.3).
        """
        mask = reduce_mask(mask, h.shape[-2:], self.config.mask_reduction)
        return torch.lerp(known, h, mask.to(h.dtype))  # faster than torch.where on a CPU


class HarmonizingDecoder(nn.Module):
    """Decodes a latent given known pixels and mask. Key names are those of the published LDM checkpoints."""

    def __init__(self, config: DecoderConfig = BASE, operations=nn):
        super().__init__()
        self.config = config
        if config.post_quant_conv:
            self.post_quant_conv = operations.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = ConditionedDecoder(config, operations)

    def forward(self, latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Decode `latent` (B, C, H / 8, W / 8), unscaled like ComfyUI's LATENT, to float32 (B, 3, H, W), not clamped.

        `image` (B, 3, H, W) is in [0, 1], as is about the result; `mask` (B, 1, H, W) is binary, 1 = hole. A mask of ones
        decodes the latent alone. Raises ValueError if the sizes of image or mask do not match the latent's.
        """
        covered = tuple(side * self.config.factor for side in latent.shape[-2:])
        if not image.shape[-2:] == mask.shape[-2:] == covered:
            found = f"image {tuple(image.shape[-2:])}, mask {tuple(mask.shape[-2:])}"
            raise ValueError(f"{found}, but the latent covers {covered}; give both at that size")
        if self.config.post_quant_conv:
            latent = self.post_quant_conv(latent)
        return self.decoder(latent, image * 2 - 1, mask).float() / 2 + 0.5
