"""Features of images, computed once for each image and network."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from asuka_modules.atomic import atomic_write

from .networks import FeatureNetwork


class FeatureCache:
    """Features in a folder, by network and by the hash of the image's pixels."""

    def __init__(self, network: FeatureNetwork, folder: Path):
        self.network, self.folder = network, folder / network.name
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """Images (H, W, 3) uint8 -> features (N, D)."""
        return np.stack([self.one(image) for image in images])

    def one(self, image: np.ndarray) -> np.ndarray:
        image = np.ascontiguousarray(image)
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        path = self.folder / f"{digest}.npy"
        if path.exists():
            return np.load(path)
        features = self.network(torch.from_numpy(image).movedim(-1, 0)[None])[0].numpy()
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.save(file, features)
        return features
