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

    def __call__(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Images (H, W, 3) uint8 -> features (N, D)."""
        return np.stack([self.one(picture) for picture in pictures])

    def one(self, picture: np.ndarray) -> np.ndarray:
        picture = np.ascontiguousarray(picture)
        digest = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()
        path = self.folder / f"{digest}.npy"
        if path.exists():
            return np.load(path)
        features = self.network(torch.from_numpy(picture).movedim(-1, 0)[None])[0].numpy()
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.save(file, features)
        return features
