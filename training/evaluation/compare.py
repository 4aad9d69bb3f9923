"""Is one method better than another on the same holes? Paired differences with bootstrap intervals."""

import json
from pathlib import Path

import numpy as np

from ..metrics import paired_bootstrap
from .protocols import METRICS


def read_images(out: Path) -> list[dict]:
    """What a finished run wrote. Raises FileNotFoundError."""
    path = out / "images.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; run the benchmark first")
    return [json.loads(line) for line in path.read_text().splitlines()]


def paired(images: list[dict], metric: str, *methods: str) -> list[np.ndarray]:
    """One metric of some methods, where all of them have it."""
    values = np.array([[image["methods"][method].get(metric, np.nan) for image in images] for method in methods])
    return list(values[:, np.isfinite(values).all(0)])


def compare(images: list[dict], a: str, b: str) -> str:
    """A Markdown table of A - B. Raises ValueError for a method that the run does not have."""
    known = list(images[0]["methods"])
    for name in (a, b):
        if name not in known:
            raise ValueError(f"no method {name!r} in this run, only {', '.join(known)}")
    lines = [f"| {a} - {b} | mean | 95 % interval | better |", "|---|---|---|---|"]
    for metric, (unit, more) in METRICS.items():
        values = paired(images, metric, a, b)
        if not len(values[0]):
            continue
        mean, low, high = paired_bootstrap(*values)
        better = "either" if low <= 0 <= high else a if (mean > 0) == more else b
        label = f"{metric} ({unit})" if unit else metric
        lines.append(f"| {label} | {mean:+.4g} | {low:+.4g} to {high:+.4g} | {better} |")
    return "\n".join(lines) + "\n"
