"""The classifier whose features SPL's semantic learner is to guess."""

import sys
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from .engine.config import ConfigError

REDUCTION = 8  # pixels for one feature


@dataclass(frozen=True)
class TeacherConfig:
    """A timm classifier and its weights."""

    weights: str  # file: timm's .safetensors, or ASL's Open_ImagesV6_TRresNet_L_448.pth as in the paper
    model: str = "tresnet_l"  # timm's name


class Teacher(nn.Module):
    """Frozen features of a classifier at an eighth of its input's size.

    Raises FileNotFoundError, or ConfigError for weights of another model, or a model without such features.
    """

    def __init__(self, config: TeacherConfig):
        super().__init__()
        if not Path(config.weights).is_file():
            raise FileNotFoundError(f"{config.weights}: no such file; it should hold the teacher's weights")
        network = timm.create_model(config.model, pretrained=False, num_classes=0)
        state = load_state_dict(config.weights, weights_only=True)
        convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        state = convert(state, network) if convert else state  # timm's own reading of the original checkpoints
        missing = network.load_state_dict(shaped_like(network, state), strict=False).missing_keys
        if missing:
            some = ", ".join(missing[:5])
            raise ConfigError(f"{config.weights}: no weights of timm's {config.model}; {len(missing)} missing: {some}")
        levels = [level["reduction"] for level in network.feature_info]
        if REDUCTION not in levels:
            raise ConfigError(
                f"{config.model} has features at 1/{', 1/'.join(map(str, levels))}, none at 1/{REDUCTION}"
            )
        self.level = levels.index(REDUCTION)
        self.channels = network.feature_info[self.level]["num_chs"]
        self.network = network.requires_grad_(False).eval()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(network.pretrained_cfg[name]).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(False)  # its normalization keeps the statistics of its own training

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, channels, H / 8, W / 8)."""
        image = (image - self.mean) / self.std
        return self.network.forward_intermediates(
            image, indices=[self.level], stop_early=True, intermediates_only=True
        )[0]


def shaped_like(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a state dict fits the network."""
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    return {key: value for key, value in state.items() if value.shape == shapes.get(key)}
