"""Metrics of a whole set of pictures, from features (N, D) of the results and of the originals, row by row a pair."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC


def frechet_distance(fake: np.ndarray, real: np.ndarray) -> float:
    """FID's distance between Gaussians fitted to the two sets of features.

    The covariances' product needs no matrix square root, whose rounding is worst where there are fewer pictures than
    features: the trace of that root is the sum of the singular values of one set's triangular factor times the other's.
    """
    means = [x.mean(0, dtype=np.float64) for x in (fake, real)]
    factors = [
        np.linalg.qr(x - mean, mode="r") / np.sqrt(len(x) - 1) for x, mean in zip((fake, real), means, strict=True)
    ]
    variances = sum(np.square(factor).sum() for factor in factors)
    shared = np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    return float(np.square(means[0] - means[1]).sum() + variances - 2 * shared)


@dataclass(frozen=True)
class IDS:
    """U-IDS and P-IDS of a set, or why there are none. Either is 0.5 at most."""

    u: float | None
    p: float | None
    components: int  # dimensions that the SVM saw
    reason: str | None = None


def inception_discriminative_score(fake: np.ndarray, real: np.ndarray, components: int | None = None) -> IDS:
    """How well a linear SVM tells results from originals (U-IDS: the share it gets wrong), and how often it takes a
    result for more real than its own original (P-IDS). `components`: reduce the features to that many by PCA first.

    In as many dimensions as there are samples any two sets can be told apart, so that both scores are 0 whatever the
    results look like: such sets get a reason instead.
    """
    samples = np.concatenate([real, fake]).astype(np.float64)
    dim = min(components or samples.shape[1], samples.shape[1])
    if len(samples) <= dim + 1:
        found = f"{len(fake)} pairs in {dim} dimensions are always separable"
        return IDS(None, None, dim, f"{found}; at least {dim // 2 + 1} are needed")
    if dim < samples.shape[1]:
        samples = PCA(dim, random_state=0).fit_transform(samples)
    labels = np.repeat([1, 0], [len(real), len(fake)])
    svm = LinearSVC(dual=False, C=1).fit(samples, labels)
    real_score, fake_score = np.split(svm.decision_function(samples), [len(real)])
    return IDS(1 - float(svm.score(samples, labels)), float((fake_score > real_score).mean()), dim)
