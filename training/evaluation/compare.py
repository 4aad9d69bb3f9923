"""Is one method better than another on the same holes? Paired differences with bootstrap intervals."""

import json
from pathlib import Path

import numpy as np

from ..metrics import paired_bootstrap
from .distributions import frechet_distance
from .protocols import LABELS, METRICS


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


def compare(images: list[dict], a: str, b: str, fid: tuple[float, float, float] | None = None) -> str:
    """A Markdown table of A - B, with the FIDs' difference and its interval if given.

    Intervals of U-IDS and P-IDS are for the SVMs as they are: those are not trained again.
    """
    lines = [f"| {a} - {b} | mean | 95 % interval | better |", "|---|---|---|---|"]

    def add(label: str, mean: float, low: float, high: float, more: bool) -> None:
        better = "either" if low <= 0 <= high else a if (mean > 0) == more else b
        lines.append(f"| {label} | {mean:+.4g} | {low:+.4g} to {high:+.4g} | {better} |")

    if fid:
        add("FID", *fid, more=False)
    for metric, (unit, more) in METRICS.items():
        values = paired(images, metric, a, b)
        if len(values[0]):
            label = LABELS.get(metric, metric.replace("_", " "))
            add(f"{label} ({unit})" if unit else label, *paired_bootstrap(*values), more=more)
    return "\n".join(lines) + "\n"


def fid_difference(
    a: np.ndarray, b: np.ndarray, real: np.ndarray, resamples: int = 100, seed: int = 0
) -> tuple[float, float, float]:
    """FID of A's features less FID of B's, with the 95 % interval over resampled pairs, the same for both."""
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(real), len(real))
        differences.append(frechet_distance(a[chosen], real[chosen]) - frechet_distance(b[chosen], real[chosen]))
    low, high = np.percentile(differences, [2.5, 97.5])
    return frechet_distance(a, real) - frechet_distance(b, real), float(low), float(high)
