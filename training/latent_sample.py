"""Sampled latents for the decoder's training, made once, offline: what it will decode when it is used.

    python -m training.latent_sample training/configs/miniature/latent_sample.yaml

Each view of a photo gets a mask; the MAE reads the known pixels, and DDIM fills the hole's latent from noise under the
aligned prior. The known latent pixels keep the latent of the masked view. The same command goes on after the last shard that
was finished.
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("latent_sample", __doc__, dry_run=False)

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment
from asuka_modules.mae import MAE
from asuka_modules.masking import fill_hole, reduce_mask

from .data import Photos, to_float
from .engine.cache import Cached, build_cache
from .engine.config import ConfigError
from .engine.manifest import fingerprint
from .engine.precision import bf16_where_fast, has_bf16, run_device
from .latents import VAE_SCALE_FACTOR, LatentsConfig, RandomMask
from .sd import LatentDiffusion
from .weights.frozen import load_frozen


@dataclass(frozen=True)
class LatentSampleRecipe:
    """Fill the holes of photos' latents with the U-Net; several processes share the work."""

    base: str  # checkpoint with U-Net and autoencoder
    mae: str
    alignment: str
    crops: LatentsConfig  # the photos' crops and masks, and where the shards go
    steps: int = 25  # of DDIM
    seed: int = 0


@dataclass(frozen=True)
class Sampled:
    """Sampled latents as part of what the decoder learns from."""

    folder: str  # `crops.out` of training.latent_sample
    count: int  # of the crops in it
    share: float = 1.0  # of images that are taken from there

    def __post_init__(self):
        if self.count < 1:
            raise ConfigError(f"sampled.count is {self.count}, expected 1 or more")


class RandomMaskAndNoise:
    """Adds the mixture's mask to a sample, and the noise that DDIM starts from."""

    def __init__(self, recipe: LatentSampleRecipe):
        self.holes, self.seed = RandomMask(recipe.crops.masks), recipe.seed

    def __call__(self, sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
        self.holes(sample, rng, index)
        size = [side // VAE_SCALE_FACTOR for side in sample["mask"].shape[-2:]]
        noise = np.random.default_rng([self.seed, index]).standard_normal((4, *size), "float32")
        sample["noise"] = torch.from_numpy(noise)


def fill_latent(
    base: LatentDiffusion, mae: MAE, alignment: Alignment, image: Tensor, mask: Tensor, noise: Tensor, steps: int
) -> Tensor:
    """The latent of the masked image (B, 3, H, W) in [0, 1], its hole filled from `noise` (B, 4, H / 8, W / 8)."""
    reduced = reduce_mask(mask, noise.shape[-2:], "area")
    masked_latent = base.encode(fill_hole(image, F.interpolate(reduced, scale_factor=VAE_SCALE_FACTOR), 0.5))
    filled = base.sample(noise, reduced, masked_latent, alignment(mae.prior(image, mask)), steps)
    return torch.where(reduced > 0, filled, masked_latent)


class SampledCrops:
    """Crops of the sampled crops: image (3, S, S) and mask (1, S, S) uint8, latent (4, S / 8, S / 8) as the U-Net sees it."""

    def __init__(self, sampled: Sampled, size: int):
        self.cached, self.side = Cached(sampled.folder, sampled.count), size // VAE_SCALE_FACTOR

    def __call__(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """A random crop that shows some of the hole."""
        sample = self.cached[int(rng.integers(len(self.cached)))]
        hole = reduce_mask(sample["mask"][None].float(), sample["latent"].shape[-2:], "area")[0, 0].nonzero().numpy()
        last = np.array(sample["latent"].shape[-2:]) - self.side
        point = hole[rng.integers(len(hole))]
        y, x = rng.integers(np.clip(point - self.side + 1, 0, last), np.clip(point, 0, last), endpoint=True)
        latent = sample.pop("latent")[:, y : y + self.side, x : x + self.side].float()
        rows, columns = (slice(i * VAE_SCALE_FACTOR, (i + self.side) * VAE_SCALE_FACTOR) for i in (y, x))
        return {**{key: value[:, rows, columns] for key, value in sample.items()}, "latent": latent}


def run(recipe: LatentSampleRecipe) -> Path:
    device = run_device()
    base = load_frozen(recipe.base)
    mae, alignment = (
        checkpoints.load_part(path, part).build(dtype=torch.float32)
        for path, part in ((recipe.mae, "mae"), (recipe.alignment, "alignment"))
    )
    crops = recipe.crops
    dataset = Photos(crops.data, recipe.seed, RandomMaskAndNoise(recipe))
    description = {
        "data": asdict(crops.data) | {"cache": None},
        "photos": dataset.fingerprint(),
        "masks": asdict(crops.masks),
        "networks": [fingerprint(network) for network in (base, mae, alignment)],
        "steps": recipe.steps,
        "seed": recipe.seed,
    }
    if has_bf16(device):  # once, where autocast would do it to the same weights for every step
        base.unet.bfloat16()
    for network in (base, mae, alignment):
        network.to(device)

    def compute(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels = {key: value.to(device) for key, value in to_float(batch).items()}
        with bf16_where_fast(device):
            latent = fill_latent(base, mae, alignment, pixels["image"], pixels["mask"], pixels["noise"], recipe.steps)
        return {"image": batch["image"], "mask": batch["mask"], "latent": latent.half().cpu()}

    build_cache(crops.out, dataset, crops.count, compute, crops.batch_size, crops.workers, description)
    return Path(crops.out)


if __name__ == "__main__":
    main(arguments, LatentSampleRecipe, run)
