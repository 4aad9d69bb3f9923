"""SPL: fills a hole in one pass, guided by predicted semantic features of the complete scene (Zhang et al., IJCAI 2021).

Module and parameter names are those of the published generators, so that their weights load by name.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masking import fill_hole, reduce_mask


@dataclass(frozen=True)
class SPLConfig:
    """Size of a generator; the defaults are those of the published weights."""

    ch: int = 64
    feature_dim: int = 152  # channels of the teacher's features
    dense_blocks: int = 16
    dense_layers: int = 6
    growth: int = 32
    recon_blocks: int = 4
    middle_blocks: int = 8


PUBLISHED = SPLConfig()


def normalize_region(x: Tensor, region: Tensor) -> Tensor:
    """Normalize `x` (B, C, H, W) to zero mean and unit variance over `region` (B, 1, H, W), binary, by channel and image.

    The result (B, C, H, W) is 0 outside the region. Filling the rest with the region's mean lets instance normalization
    compute the region's statistics; the square root compensates for the rest having no variance.
    """
    dtype = x.dtype
    accumulate = torch.promote_types(dtype, torch.float32)  # half precision cannot count the pixels of an image
    x, region = x.to(accumulate), region.to(accumulate)
    size = region.sum((2, 3), keepdim=True).clamp_min(1)
    x = x * region
    mean = x.sum((2, 3), keepdim=True) / size
    share = size / (x.shape[-2] * x.shape[-1])
    return (F.instance_norm(x + (1 - region) * mean) * share.sqrt()).to(dtype)


class HoleNorm(nn.Module):
    """Region normalization of the hole and the known part, each with its own scale and shift (RN-B)."""

    def __init__(self, channels: int):
        super().__init__()
        self.foreground_gamma = nn.Parameter(torch.zeros(channels))
        self.foreground_beta = nn.Parameter(torch.zeros(channels))
        self.background_gamma = nn.Parameter(torch.zeros(channels))
        self.background_beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalize `x` (B, C, h, w) with the binary `mask` (B, 1, H, W) of any size; 1 = hole."""
        mask = reduce_mask(mask, x.shape[-2:], "nearest")
        x = normalize_region(x, mask) + normalize_region(x, 1 - mask)
        gamma, beta, known_gamma, known_beta = (
            vector.to(x).view(-1, 1, 1)
            for vector in (self.foreground_gamma, self.foreground_beta, self.background_gamma, self.background_beta)
        )
        # both shifts are applied everywhere, as in the published code
        return x * mask * (1 + gamma) + beta + x * (1 - mask) * (1 + known_gamma) + known_beta


class SpatialAttention(nn.Module):
    """Spatial attention map, computed from the mean and maximum over channels, with a scale map and a shift map."""

    def __init__(self, operations=nn):
        super().__init__()
        self.conv1 = operations.Conv2d(2, 1, 7, padding=3, bias=False)
        self.gamma_conv = operations.Conv2d(1, 1, 7, padding=3)
        self.beta_conv = operations.Conv2d(1, 1, 7, padding=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, H, W) to the attention in [0, 1], the scale and the shift, each (B, 1, H, W)."""
        attention = self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()
        return attention, self.gamma_conv(attention), self.beta_conv(attention)


class LearnedNorm(nn.Module):
    """Region normalization of two regions that the network finds by itself (RN-L)."""

    THRESHOLD = 0.8

    def __init__(self, operations=nn):
        super().__init__()
        self.sa = SpatialAttention(operations)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        attention, gamma, beta = self.sa(x)
        region = (attention.detach() >= self.THRESHOLD).to(x)
        x = normalize_region(x, region) + normalize_region(x, 1 - region)
        return x * (1 + gamma) + beta


class SPADE(nn.Module):
    """Instance normalization with scale and shift predicted from a semantic layout (SPADE, Park et al., CVPR 2019)."""

    def __init__(self, channels: int, layout_channels: int, hidden: int, operations=nn):
        super().__init__()
        self.mlp_shared = nn.Sequential(operations.Conv2d(layout_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = operations.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = operations.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, layout: Tensor) -> Tensor:
        """Normalize `x` (B, channels, H, W) with `layout` (B, layout_channels, h, w), which may have another size."""
        hidden = self.mlp_shared(F.interpolate(layout, x.shape[-2:], mode="nearest"))
        return F.instance_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SemanticBlock(nn.Module):
    """Residual block that is normalized by the semantic layout."""

    def __init__(self, channels: int, hidden: int, operations=nn):
        super().__init__()
        self.conv_block = nn.ModuleList(
            [
                SPADE(channels, channels, hidden, operations),
                nn.ReLU(),
                nn.ReflectionPad2d(2),
                operations.Conv2d(channels, channels, 3, dilation=2),
                SPADE(channels, channels, hidden, operations),
                nn.ReLU(),
                nn.ReflectionPad2d(1),
                operations.Conv2d(channels, channels, 3),
            ]
        )

    def forward(self, x: Tensor, layout: Tensor) -> Tensor:
        """Map `x` (B, channels, H, W) to the same shape, given `layout` (B, channels, h, w)."""
        h = x
        for module in self.conv_block:
            h = module(h, layout) if isinstance(module, SPADE) else module(h)
        return x + h


class ResidualBlock(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, channels: int, operations=nn):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            operations.Conv2d(channels, channels, 3),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            operations.Conv2d(channels, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return x + self.conv_block(x)


class DenseLayer(nn.Module):
    """Convolution whose output is appended to its input."""

    def __init__(self, channels: int, growth: int, operations=nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels + growth, H, W)."""
        return torch.cat([x, F.relu(self.conv(x))], dim=1)


class ResidualDenseBlock(nn.Module):
    """Densely connected convolutions with a residual connection (Zhang et al., CVPR 2018)."""

    def __init__(self, channels: int, layers: int, growth: int, operations=nn):
        super().__init__()
        self.layers = nn.Sequential(*(DenseLayer(channels + i * growth, growth, operations) for i in range(layers)))
        self.lff = operations.Conv2d(channels + layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return x + self.lff(self.layers(x))


class SPLGenerator(nn.Module):
    """Image encoder and decoder, with blocks between them that are normalized by the predicted semantic layout."""

    def __init__(self, config: SPLConfig = PUBLISHED, operations=nn):
        super().__init__()
        self.config = config
        ch, conv = config.ch, operations.Conv2d
        dim = 4 * ch

        self.encoder_conv1 = conv(3, ch, 7)
        self.encoder_in1 = HoleNorm(ch)
        self.encoder_conv2 = conv(ch, 2 * ch, 4, stride=2, padding=1)
        self.encoder_in2 = HoleNorm(2 * ch)
        self.encoder_conv3 = conv(2 * ch, dim, 4, stride=2, padding=1)
        self.encoder_in3 = HoleNorm(dim)

        self.encoder_conv1_sm = conv(4, ch, 7)
        self.encoder_conv2_sm = conv(ch, 2 * ch, 4, stride=2, padding=1)
        self.encoder_conv3_sm = conv(2 * ch, dim, 4, stride=2, padding=1)
        self.encoder_conv4_sm = conv(dim, dim, 4, stride=2, padding=1)
        self.encoder_sm_out = conv(dim, dim, 3, padding=1)
        self.rdbs = nn.ModuleList(
            ResidualDenseBlock(dim, config.dense_layers, config.growth, operations) for _ in range(config.dense_blocks)
        )
        self.gff = nn.Sequential(conv(config.dense_blocks * dim, dim, 1), conv(dim, dim, 3, padding=1))
        self.feature_recon = nn.Sequential(*(ResidualBlock(dim, operations) for _ in range(config.recon_blocks)))
        self.feature_mapping = conv(dim, config.feature_dim, 1)

        self.middle = nn.ModuleList(SemanticBlock(dim, 2 * ch, operations) for _ in range(config.middle_blocks))
        self.decoder = nn.Sequential(
            conv(dim, 2 * dim, 3, padding=1),
            nn.PixelShuffle(2),
            LearnedNorm(operations),
            nn.ReLU(),
            conv(2 * ch, dim, 3, padding=1),
            nn.PixelShuffle(2),
            LearnedNorm(operations),
            nn.ReLU(),
            nn.ReflectionPad2d(3),
            conv(ch, 3, 7),
        )

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Complete an image (B, 3, H, W) in [0, 1]; the binary `mask` (B, 1, H, W) is 1 in the hole. Best at 256 pixels.

        Returns the complete image (B, 3, H, W) in [0, 1] and the predicted teacher features (B, feature_dim, H / 4, W / 4).
        Raises ValueError if H or W is not a multiple of 4.
        """
        h, w = image.shape[-2:]
        if h % 4 or w % 4:
            raise ValueError(f"the image is {w}x{h}; sides that are multiples of 4 were expected, so pad it")
        image = fill_hole(image, mask, 1.0)  # white
        layout = self.layout(image, mask)
        x = F.relu(self.encoder_in1(self.encoder_conv1(_reflect_pad(image, 3)), mask))
        x = F.relu(self.encoder_in2(self.encoder_conv2(x), mask))
        x = F.relu(self.encoder_in3(self.encoder_conv3(x), mask))
        for block in self.middle:
            x = block(x, layout)
        return (self.decoder(x).tanh() + 1) / 2, self.feature_mapping(layout)

    def layout(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict the semantic layout of the complete scene, (B, 4 * ch, H / 4, W / 4), at twice the image's size.

        `image` is (B, 3, H, W) in [0, 1], `mask` (B, 1, H, W) binary.
        """
        x = F.interpolate(torch.cat([image, mask], dim=1), scale_factor=2, mode="nearest")
        x = F.leaky_relu(self.encoder_conv1_sm(_reflect_pad(x, 3)), 0.1)
        x = F.leaky_relu(self.encoder_conv2_sm(x), 0.1)
        x = F.leaky_relu(self.encoder_conv3_sm(x), 0.1)
        start = F.leaky_relu(self.encoder_conv4_sm(x), 0.1)
        x, dense = self.encoder_sm_out(start), []
        for block in self.rdbs:
            x = block(x)
            dense.append(x)
        return self.feature_recon(self.gff(torch.cat(dense, dim=1)) + start)


def _reflect_pad(x: Tensor, width: int) -> Tensor:
    """Pad the four sides of `x` (B, C, H, W) by `width` pixels of its reflection."""
    return F.pad(x, (width,) * 4, mode="reflect")
