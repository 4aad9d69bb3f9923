"""What a run would take: sizes, memory and hours, from one measured step."""

import time
from collections.abc import Callable

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .log import memory

UTILISATION = 0.35  # of the peak, that a training step of these networks reaches
GPUS = {  # dense bf16 peak, FLOP/s
    "RTX 3090": 71e12,
    "RTX 4090": 165e12,
    "A100": 312e12,
    "H100": 989e12,
}


def report(objective: nn.Module, step: Callable[[], Tensor], batch_size: int, steps: int) -> str:
    """Runs `step` (forward and backward) twice and tells what `steps` of them would take."""
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    total = sum(p.numel() for p in objective.parameters())
    with FlopCounterMode(display=False) as counter:
        step().item()  # waits for a GPU
    start = time.perf_counter()
    step().item()
    seconds, flops = time.perf_counter() - start, counter.get_total_flops()
    hours = {name: flops * steps / (peak * UTILISATION) / 3600 for name, peak in GPUS.items()}
    lines = [
        f"parameters   {trained / 1e6:.1f} M trained, {total / 1e6:.1f} M in all",
        f"state        {trained * 16 / 2**30:.2f} GiB for trained weights, gradients and AdamW in fp32, per process",
        f"memory       {memory() / 2**30:.2f} GiB used by this step",
        f"step         {batch_size} images, {flops / 1e12:.2f} TFLOP, {seconds:.2f} s here",
        f"run          {steps} steps, {steps * batch_size} images, {seconds * steps / 3600:.1f} hours here",
        f"estimated    {', '.join(f'{name} {value:.1f} h' for name, value in hours.items())} (at {UTILISATION:.0%} of peak)",
    ]
    return "\n".join(lines)
