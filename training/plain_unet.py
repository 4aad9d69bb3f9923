"""The baseline that SPL has to beat: a plain U-Net of equal size, trained with L1 alone."""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from asuka_modules import checkpoints
from asuka_modules.masking import fill_hole

LEVELS = 4


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.GroupNorm(2, out_channels), nn.ReLU()]
    return nn.Sequential(*layers)


class PlainUNet(nn.Module):
    """Ronneberger et al.'s with group normalization: widths double from `width` at each of four halvings."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        widths = [width * 2**i for i in range(LEVELS + 1)]
        self.down = nn.ModuleList(block(a, b) for a, b in zip([4, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(block(a + b, a) for a, b in pairwise(widths))
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        """As SPLGenerator, without features; sides are multiples of 16."""
        x = torch.cat([fill_hole(image, mask, 1.0), mask], dim=1)
        skips = []
        for i, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for level in reversed(self.up):
            x = level(torch.cat([skips.pop(), F.interpolate(x, scale_factor=2, mode="nearest")], dim=1))
        return self.out(x).sigmoid(), None


def save(path: Path, network: PlainUNet) -> None:
    checkpoints.write(path, {k: v.cpu() for k, v in network.state_dict().items()}, {"width": str(network.width)})


def load(path: str | Path) -> PlainUNet:
    with safe_open(path, "pt") as file:
        network = PlainUNet(int(file.metadata()["width"]))
        network.load_state_dict({key: file.get_tensor(key) for key in network.state_dict()})
    return network.eval()
