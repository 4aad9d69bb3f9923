"""The hinge patch-GAN term of Asymmetric VQGAN's decoder loss, in one optimizer step with the decoder."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

GROUPS = 8  # of the group normalization


@dataclass(frozen=True)
class AdversaryConfig:
    """What the discriminator judges, and how."""

    hole: bool = False  # judge the pasted image, patches by their share of the hole: what is known is equal in both
    norm: Literal["batch", "group"] = "batch"  # group: image by image, whose holes differ
    r1_weight: float = (
        0.0  # of the penalty on the discriminator's gradient at real images (Mescheder et al., ICML 2018)
    )


ASYMMETRIC_VQGAN = AdversaryConfig()


class PatchDiscriminator(nn.Sequential):
    """pix2pix's: judges overlapping patches of an image, (B, 3, H, W) in [-1, 1] -> (B, 1, h, w)."""

    def __init__(self, width: int = 64, layers: int = 3, norm: str = "batch"):
        widths = [min(2**i, 8) * width for i in range(layers + 1)]
        modules: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (a, b) in enumerate(pairwise(widths)):
            stride = 1 if i == layers - 1 else 2
            modules += [nn.Conv2d(a, b, 4, stride, 1, bias=False), normalization(norm, b), nn.LeakyReLU(0.2)]
        super().__init__(*modules, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)


def normalization(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(GROUPS, channels)


def hinge_loss(real: Tensor, fake: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """The discriminator's: half the mean of relu(1 - D(x)) and relu(1 + D(x_hat)), of patches (B, 1, h, w) by `weight`."""
    return 0.5 * (patch_mean(F.relu(1 - real), weight) + patch_mean(F.relu(1 + fake), weight))


def patch_mean(judged: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean over all patches (B, 1, h, w), weighted; 0 where no patch has any weight."""
    weight = torch.as_tensor(weight, device=judged.device).expand_as(judged)
    return (judged * weight).sum() / weight.sum().clamp_min(1e-6)


def gradient_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1: half the mean over real images of the squared length of D's gradient there."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.square().sum((1, 2, 3)).mean()


def judge_fixed(discriminator: nn.Module, image: Tensor) -> Tensor:
    """D(image) with gradient to the image only, so that the decoder's step does not teach the discriminator."""
    state = {key: value.detach() for key, value in discriminator.named_parameters()}
    state |= {key: value.clone() for key, value in discriminator.named_buffers()}  # running statistics
    return functional_call(discriminator, state, image)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, values: int) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last weight.

    The published limit, 10,000, is for a reconstruction loss that is summed over an image's `values`; ours is their mean.
    """
    gradients = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (reconstruction, adversarial))
    a, b = (gradient.norm() for gradient in gradients)
    return (a / (b + 1e-4)).clamp(0, 1e4 / values).detach()
