"""What a run computes on, and where bf16 is fast."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def run_device() -> torch.device:
    """Accelerate's: the CPU where `accelerate launch --cpu` says so."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16. A CPU without AVX-512 only imitates it, which takes it a hundred times as long."""
    mkldnn = torch.backends.mkldnn.is_available()
    return device.type != "cpu" or (mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bf16_where_fast(device: torch.device) -> torch.autocast:
    """Context of autocast to bf16, or of nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
