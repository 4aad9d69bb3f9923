"""What a run computes on, and where bf16 is fast."""

import os

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from .config import ConfigError


def run_device() -> torch.device:
    """Accelerate's: the CPU where ACCELERATE_USE_CPU or `accelerate launch --cpu` says so.

    Raises ConfigError where several processes were launched that accelerate does not join: each would train alone.
    """
    state, launched = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")), int(os.environ.get("WORLD_SIZE", 1))
    if launched != state.num_processes:
        raise ConfigError(
            f"{launched} processes were launched without a GPU for each; several processes on CPUs are launched with ACCELERATE_USE_CPU=true torchrun --nproc_per_node {launched} -m training..."
        )
    return state.device


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16. A CPU without AVX-512 only imitates it, which takes it a hundred times as long."""
    mkldnn = torch.backends.mkldnn.is_available()
    return device.type != "cpu" or (mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bf16_where_fast(device: torch.device) -> torch.autocast:
    """Context of autocast to bf16, or of nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
