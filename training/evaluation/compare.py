"""Is one method better than another on the same holes? Paired differences with bootstrap intervals."""

from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..metrics import paired_bootstrap
from .distributions import frechet_distance
from .protocols import LABELS, METRICS
from .records import loads


def read_images(out: Path) -> list[dict]:
    """What a finished run wrote. Raises FileNotFoundError."""
    path = out / "images.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; run the benchmark first")
    return [loads(line) for line in path.read_text().splitlines()]


def paired(images: list[dict], metric: str, *methods: str) -> list[np.ndarray]:
    """One metric of some methods, where all of them have it."""
    values = np.array([[image["methods"][method].get(metric, np.nan) for image in images] for method in methods])
    return list(values[:, np.isfinite(values).all(0)])


Difference = tuple[float, float, float]  # mean, and the ends of its 95 % interval


def differences(images: list[dict], a: str, b: str, fid: Difference | None = None) -> dict[str, Difference]:
    """A - B by every metric that both have, the FIDs' first if given.

    Intervals of U-IDS and P-IDS are for the SVMs as they are: those are not trained again.
    """
    values = {metric: paired(images, metric, a, b) for metric in METRICS}
    found = {metric: paired_bootstrap(first, second) for metric, (first, second) in values.items() if len(first)}
    return {"fid": fid, **found} if fid else found


def compare(a: str, b: str, found: dict[str, Difference]) -> str:
    """A Markdown table of `differences`, a metric a row, with the better one of the two."""
    lines = [f"| {a} - {b} | mean | 95 % interval | better |", "|---|---|---|---|"]
    for metric, (mean, low, high) in found.items():
        unit, more = METRICS.get(metric, ("", False))
        label = LABELS.get(metric, metric.replace("_", " ")) + (f" ({unit})" if unit else "")
        better = "either" if low <= 0 <= high else a if (mean > 0) == more else b
        lines.append(f"| {label} | {mean:+.4g} | {low:+.4g} to {high:+.4g} | {better} |")
    return "\n".join(lines) + "\n"


def fid_difference(
    a: np.ndarray, b: np.ndarray, real: np.ndarray, resamples: int = 100, seed: int = 0
) -> tuple[float, float, float]:
    """FID of A's features less FID of B's, means over seeds (S, N, D), with the 95 % interval over resampled pairs, the
    same for both.

    A resampled set has pairs twice, which raises its FID, and not by the same amount for A and B. So the interval has the
    width of the resampled differences but is centered on the difference itself.
    """
    rng = np.random.default_rng(seed)

    def difference(chosen: np.ndarray) -> float:
        fids = [[frechet_distance(fake[chosen], real[chosen]) for fake in method] for method in (a, b)]
        return float(np.mean(fids[0]) - np.mean(fids[1]))

    found = difference(np.arange(len(real)))
    draws = (rng.integers(0, len(real), len(real)) for _ in range(resamples))
    resampled = [difference(chosen) for chosen in tqdm(draws, "FID", resamples, dynamic_ncols=True)]
    low, high = np.percentile(resampled, [2.5, 97.5]) - np.mean(resampled) + found
    return found, float(low), float(high)
