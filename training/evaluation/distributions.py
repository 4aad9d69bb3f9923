"""Metrics of a whole set of images, from features (N, D) of the results and of the originals, row by row a pair."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC


def frechet_distance(fake: np.ndarray, real: np.ndarray) -> float:
    """FID's distance between Gaussians fitted to the two sets of features.

    The covariances' product needs no matrix square root, whose rounding is worst where there are fewer images than
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
    """What U-IDS and P-IDS are the means of, pair by pair; or why there are none. Either is 0.5 at most."""

    components: int  # dimensions that the SVM saw
    mistaken: np.ndarray | None = None  # (N,) share of a pair's two images that the SVM takes for the other kind
    preferred: np.ndarray | None = None  # (N,) whether it takes the result for more real than its original
    reason: str | None = None
    warning: str | None = None  # what the numbers are worth


def inception_discriminative_score(fake: np.ndarray, real: np.ndarray, components: int | None = None) -> IDS:
    """How well a linear SVM tells results from originals (U-IDS: the share it gets wrong), and how often it takes a
    result for more real than its own original (P-IDS). `components`: reduce the features to that many by PCA first.

    Any labels of up to dimensions + 1 samples can be told apart, and most labels of up to twice as many (Cover, 1965):
    sets of up to so many that the SVM separates without a mistake get a reason instead of zeros, and others a warning.
    """
    samples = np.concatenate([real, fake]).astype(np.float64)
    dim = min(components or samples.shape[1], samples.shape[1])
    separable = IDS(
        dim,
        reason=f"{len(fake)} pairs in {dim} dimensions are too few, any two sets of them can be told apart; at least {dim + 2} are needed",
    )
    if len(samples) <= dim + 1:
        return separable
    if dim < samples.shape[1]:
        samples = PCA(dim, random_state=0).fit_transform(samples)
    labels = np.repeat([1, 0], [len(real), len(fake)])
    svm = LinearSVC(dual=False, C=1).fit(samples, labels)
    mistaken = (svm.predict(samples) != labels).reshape(2, -1).mean(0)
    few = len(fake) < dim + 2
    if few and not mistaken.any():
        return separable
    real_score, fake_score = svm.decision_function(samples).reshape(2, -1)
    warning = f"{len(fake)} pairs in {dim} dimensions: an SVM nearly tells any two sets of so few apart; compare at equal numbers only"
    return IDS(dim, mistaken, fake_score > real_score, warning=warning if few else None)
