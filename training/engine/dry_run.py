"""What a run would take: sizes, memory and hours, from one measured step."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from .log import MEASURED, duration, memory
from .precision import run_device

MFU = 0.35  # of the peak: a guess of what a training step of these networks reaches
GPUS = {  # dense bf16 peak, FLOP/s
    "RTX 3090": 71e12,
    "RTX 4090": 165e12,
    "A100": 312e12,
    "H100": 989e12,
}
CPU_ATTENTION = {  # which torch's counter passes over
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def report(
    objective: nn.Module, part: Callable[[], Tensor], batch_size: int, steps: int, parts: int = 1, processes: int = 1
) -> str:
    """Runs a process's share of a part of a step (forward and backward) twice, and tells what `steps` of them would take."""
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    total = sum(p.numel() for p in objective.parameters())
    if run_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # what was cached before took memory of its own
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        part().item()  # waits for a GPU
    start = time.perf_counter()
    part().item()
    seconds, flops = parts * (time.perf_counter() - start), parts * counter.get_total_flops()
    estimates = [f"{name} {duration(flops * steps / (peak * MFU))}" for name, peak in GPUS.items()]
    lines = [
        f"parameters   {trained / 1e6:.1f} M trained, {total / 1e6:.1f} M in all",
        f"state        {trained * 16 / 2**30:.2f} GiB for trained weights, gradients and AdamW in fp32, per process",
        f"memory       {memory() / 2**30:.2f} GiB used by {batch_size // parts // processes} images at once",
        f"step         {batch_size} images, {processes * flops / 1e12:.2f} TFLOP, {seconds:.2f} s here",
        f"run          {steps} steps, {steps * batch_size} images, {duration(seconds * steps)} here",
        f"guessed      {', '.join(estimates)}, if {MFU:.0%} of the peak is reached, which was not measured; "
        f"a run tells what it takes after its first {MEASURED} steps",
    ]
    return "\n".join(lines)
