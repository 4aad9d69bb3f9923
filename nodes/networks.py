"""Networks of weight files, run in ComfyUI's memory management."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import nn

from ..asuka_modules.checkpoints import Part


class Network:
    """One network of a weight file, which ComfyUI loads when it is first used and offloads like any model."""

    pooled: Network | None = None  # FLUX: the second alignment network, for the pooled vector

    def __init__(self, part: Part, load_device: torch.device, offload_device: torch.device):
        self.config, self.file = part.config, part.file
        network = part.build(comfy.ops.manual_cast, offload_device)
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            network, load_device=load_device, offload_device=offload_device
        )

    @property
    def device(self) -> torch.device:
        """Device that the network runs on."""
        return self.patcher.load_device

    def is_dynamic(self) -> bool:
        """Return whether ComfyUI can free the weights on its own; its cache then need not drop the output of Load ASUKA."""
        return self.patcher.is_dynamic()

    def get_models(self) -> list[comfy.model_patcher.ModelPatcher]:
        """Return the models that ComfyUI must treat as in use in addition to `patcher`."""
        return [self.pooled.patcher] if self.pooled else []

    def load(self, memory_required: int) -> nn.Module:
        """Return the network on its device, after freeing `memory_required` bytes for its activations."""
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory_required)
        return self.patcher.model


class Missing:
    """Placeholder for a network that a weight file does not contain."""

    def __init__(self, name: str, file: str, found: str):
        self.name, self.file, self.found = name, file, found

    def is_dynamic(self) -> bool:
        """Return True, as a placeholder takes no memory."""
        return True


def require(network: Network | Missing) -> Network:
    """Return the network. Raises ValueError if its file does not contain it."""
    if isinstance(network, Missing):
        raise ValueError(
            f"{network.file} contains no {network.name}, only {network.found}; choose another file in Load ASUKA"
        )
    return network
