"""Median times of alternatives, interleaved in one run so that their ratio is fair."""

import statistics
import time
from collections.abc import Callable

import torch


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def medians(alternatives: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds per call of each alternative: one warm-up, then `repeats` rounds of all of them."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for round_ in range(repeats + 1):
        for name, call in alternatives.items():
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            if round_:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
