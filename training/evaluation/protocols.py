"""The two protocols by which the field measures inpainting, and the measuring itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import metrics
from .distributions import frechet_distance, inception_discriminative_score
from .features import FeatureCache
from .pixels import composite, grad, is_hole, psnr, ssim, texture


@dataclass(frozen=True)
class Protocol:
    """What FID, U-IDS and P-IDS are computed from."""

    features: str  # of networks.NETWORKS
    reduce: bool  # to as many dimensions as an image has rows, before the SVM


PROTOCOLS = {
    "asuka": Protocol("inception-torchvision", True),  # ASUKA's published scripts
    "comod": Protocol("inception-2015-12-05", False),  # Co-Mod's, and MAT's
}
METRICS = {  # of single images; name -> (unit, is more better)
    "u": ("", True),
    "p": ("", True),
    "psnr": ("dB", True),
    "hole_psnr": ("dB", True),
    "ssim": ("", True),
    "grad": ("gray levels", False),
    "color_offset": ("gray levels", False),
    "texture": ("of the original's", True),
    "lpips": ("", False),
    "clip_global": ("", True),
    "clip_hole": ("", True),
    "seed_spread": ("gray levels", False),
}
LABELS = {
    "fid": "FID",
    "u": "U-IDS",
    "p": "P-IDS",
    "lpips": "LPIPS",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "hole_psnr": "hole PSNR",
}


@dataclass(frozen=True)
class Networks:
    """What the metrics look through; what is None is left out."""

    features: FeatureCache | None = None
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None
    clip: FeatureCache | None = None


def measure(results: Sequence[np.ndarray], original: np.ndarray, mask: np.ndarray, networks: Networks) -> dict:
    """The metrics of one hole, means over its results of several seeds. Images (H, W, 3) and mask (H, W) uint8."""
    composites = [composite(result, original, mask) for result in results]
    images, real = as_batch(composites), as_batch([original])
    hole = torch.from_numpy(is_hole(mask)).float()[None, None]
    pairs = (
        images.float() / 255,
        (real.float() / 255).expand(len(images), -1, -1, -1),
        hole.expand(len(images), -1, -1, -1),
    )
    values = {
        "psnr": np.mean([psnr(image, original) for image in composites]),
        "hole_psnr": metrics.hole_psnr(*pairs).mean(),
        "ssim": np.mean([ssim(image, original) for image in composites]),
        "grad": np.mean([grad(result, original, mask) for result in results]),
        "color_offset": metrics.color_offset(*pairs).mean(),
        "texture": np.mean([texture(image, original, mask) for image in composites]),
    }
    if networks.perceptual:
        values["lpips"] = networks.perceptual(images, real.expand_as(images)).mean()
    if networks.clip:
        only_hole = is_hole(mask)[..., None]
        values["clip_global"] = similarity(networks.clip, composites, original)
        values["clip_hole"] = similarity(networks.clip, [x * only_hole for x in composites], original * only_hole)
    if len(results) > 1:
        values["seed_spread"] = metrics.seed_spread(pairs[0][:, None], hole)
    return {name: float(value) for name, value in values.items()}


def measure_set(fake: np.ndarray, real: np.ndarray, size: int, protocol: Protocol) -> tuple[dict, dict]:
    """From the features of one seed's composites, `size` pixels wide, and of their originals: FID with what the IDS saw;
    and U-IDS and P-IDS pair by pair, {name: (N,)}, if there are any. One pair has no FID, but a reason for that."""
    ids = inception_discriminative_score(fake, real, size if protocol.reduce else None)
    enough = len(fake) > 1
    scores = {
        "fid": frechet_distance(fake, real) if enough else None,
        "fid_reason": None if enough else "1 pair has no covariance; at least 2 are needed",
        "components": ids.components,
        "reason": ids.reason,
        "warning": ids.warning,
    }
    return scores, {} if ids.reason else {"u": ids.mistaken, "p": ids.preferred}


def as_batch(images: Sequence[np.ndarray]) -> Tensor:
    """(B, 3, H, W) uint8."""
    return torch.from_numpy(np.stack(images)).movedim(-1, 1)


def similarity(network: FeatureCache, images: Sequence[np.ndarray], original: np.ndarray) -> float:
    """Mean cosine between each image's features and the original's."""
    a, b = network(images), network([original])
    return float(np.mean(a @ b[0] / (np.linalg.norm(a, axis=1) * np.linalg.norm(b[0]))))
