"""A network in ComfyUI's memory management."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import nn

from ..asuka_modules.checkpoints import Part


class Network:
    """One part of a weight file, loaded when first used and offloaded by ComfyUI like any model."""

    pooled: Network | None = None  # FLUX's alignment has a second network, for the pooled vector

    def __init__(self, part: Part, load_device: torch.device, offload_device: torch.device):
        self.config, self.file = part.config, part.file
        network = part.build(comfy.ops.manual_cast, offload_device)
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            network, load_device=load_device, offload_device=offload_device
        )

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def is_dynamic(self) -> bool:
        """Whether ComfyUI may drop its weights by itself, so that its cache need not drop what Load ASUKA returned."""
        return self.patcher.is_dynamic()

    def get_models(self) -> list[comfy.model_patcher.ModelPatcher]:
        """What ComfyUI is to count as in use beside `patcher`."""
        return [self.pooled.patcher] if self.pooled else []

    def load(self, memory_required: int) -> nn.Module:
        """The network on its device, with so many bytes free beside it."""
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory_required)
        return self.patcher.model


class Missing:
    """Stands for a part that a weight file does not hold."""

    def __init__(self, name: str, file: str, found: str):
        self.name, self.file, self.found = name, file, found

    def is_dynamic(self) -> bool:
        """As of a network; it takes no memory at all."""
        return True


def require(network: Network | Missing) -> Network:
    """Raises ValueError for a part that its file does not hold."""
    if isinstance(network, Missing):
        raise ValueError(
            f"{network.file} holds no {network.name}, only {network.found}; choose another file in Load ASUKA"
        )
    return network
