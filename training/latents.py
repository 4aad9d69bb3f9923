"""Latents and MAE priors of photos and masks, computed once: the alignment's and the U-Net's steps are then the U-Net and
nothing else."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from asuka_modules.mae import MAE
from asuka_modules.masking import fill_hole, reduce_mask

from .data import DataConfig, Photos, to_float
from .engine.cache import Cached, build_cache
from .engine.config import ConfigError, require_same
from .engine.log import duration
from .engine.manifest import fingerprint
from .engine.precision import bf16_where_fast
from .masks import MaskConfig, Mixture

VAE_SCALE_FACTOR = 8  # image pixels along a side of one latent pixel


@dataclass(frozen=True)
class LatentsConfig:
    """Crops of photos with their masks, encoded before training."""

    out: str  # folder; what is there already is kept
    count: int
    data: DataConfig
    masks: MaskConfig
    batch_size: int = 16
    workers: int = 1

    def __post_init__(self):
        require_same("data.size", self.data.size, "masks.size", self.masks.size)


class RandomMask:
    """Adds the mixture's mask, (1, S, S) uint8, to a sample."""

    def __init__(self, masks: MaskConfig):
        self.mixture = Mixture(masks)

    def __call__(self, sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
        sample["mask"] = torch.from_numpy(self.mixture(rng))[None] * 255


def crops(config: LatentsConfig) -> Photos:
    """The photos and masks that were encoded: item i belongs to the cache's item i."""
    return Photos(config.data, 1, RandomMask(config.masks))


def encode_crops(
    batch: dict[str, Tensor], encode: Callable[[Tensor], Tensor], device: torch.device
) -> dict[str, Tensor]:
    """A batch of `crops` as the cache holds it, float16: "latent", "masked_latent", the latent mask as
    "mask", and "colours", the image reduced to the latent's size.

    The mask covers every latent pixel that the hole touches, which is also what Inpaint Prepare gives the sampler, and the
    masked image is gray there, as in InpaintModelConditioning.
    """
    image, mask = pixels(batch, device)
    reduced = latent_mask(mask)
    masked = fill_hole(image, F.interpolate(reduced, scale_factor=VAE_SCALE_FACTOR), 0.5)
    with bf16_where_fast(device):
        latent, masked_latent = encode(image), encode(masked)
    colors = F.avg_pool2d(image, VAE_SCALE_FACTOR)
    tensors = {"latent": latent, "masked_latent": masked_latent, "mask": reduced, "colours": colors}
    return {key: value.half().cpu() for key, value in tensors.items()}


def pixels(batch: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Image and mask of a batch of `crops`, in [0, 1]."""
    batch = to_float({key: batch[key].to(device) for key in ("image", "mask")})
    return batch["image"], batch["mask"]


def latent_mask(mask: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 1, H / 8, W / 8): every latent pixel that the hole touches."""
    return reduce_mask(mask, (mask.shape[-2] // VAE_SCALE_FACTOR, mask.shape[-1] // VAE_SCALE_FACTOR), "area")


def compute_priors(batch: dict[str, Tensor], mae: MAE, device: torch.device) -> dict[str, Tensor]:
    """Both priors of a batch of `crops`, float16: "predicted" from the known pixels, "reconstructed" from the whole crop."""
    image, mask = pixels(batch, device)
    with bf16_where_fast(device):
        priors = {"predicted": mae.prior(image, mask), "reconstructed": mae.prior(image, torch.zeros_like(mask))}
    return {key: value.half().cpu() for key, value in priors.items()}


def describe(config: LatentsConfig, photos: Photos) -> dict:
    return {
        "data": asdict(config.data) | {"cache": None},
        "photos": photos.fingerprint(),
        "masks": asdict(config.masks),
    }


def build_latents(
    config: LatentsConfig,
    photos: Photos,
    autoencoder: nn.Module,
    encode: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Cached:
    """Encodes the first `config.count` of its `crops` with `encode`, which is of `autoencoder`, as `encode_crops` does."""
    description = describe(config, photos) | {"autoencoder": fingerprint(autoencoder)}
    compute = partial(encode_crops, encode=encode, device=device)
    return build_cache(config.out, photos, config.count, compute, config.batch_size, config.workers, description)


def build_priors(config: LatentsConfig, photos: Photos, latents: Cached, mae: MAE, device: torch.device) -> Cached:
    """The MAE priors of what `latents` are of, beside these on disk, as `compute_priors` has them.

    Raises ConfigError where the crops of today have other masks than those that were encoded.
    """
    _, mask = pixels(default_collate([photos[0]]), torch.device("cpu"))
    if not torch.equal(latent_mask(mask)[0].half(), latents[0]["mask"]):
        raise ConfigError(f"{config.out} is of other masks than are drawn now; remove it, or choose another out")
    weights = fingerprint(mae)
    compute, folder = partial(compute_priors, mae=mae, device=device), Path(config.out, f"priors-{weights[:8]}")
    description = describe(config, photos) | {"mae": weights}
    return build_cache(folder, photos, config.count, compute, config.batch_size, config.workers, description)


@torch.inference_mode()
def encoding_forecast(
    config: LatentsConfig,
    photos: Photos,
    count: int,
    encode: Callable[[Tensor], Tensor],
    mae: MAE,
    device: torch.device,
) -> str:
    """How long one process takes for `count` crops' latents and priors here, and the disk that they take, from one measured
    batch."""
    for first in (0, config.batch_size):  # the first batch takes longer
        start = time.perf_counter()
        batch = default_collate([photos[first + i] for i in range(config.batch_size)])
        loading = 2 * (time.perf_counter() - start) / max(config.workers, 1)
        start = time.perf_counter()
        latents = encode_crops(batch, encode, device) | compute_priors(batch, mae, device)
        seconds = max(loading, time.perf_counter() - start) / config.batch_size
    size = sum(value.nbytes for value in latents.values()) / config.batch_size
    return f"latents      {count} crops to encode first, {duration(count * seconds)} here, {count * size / 1e9:.2g} GB of disk"


def from_cache(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """A sample of the cache in float32, its keys as in a batch, where "mask" is the pixel mask: "mask" on disk becomes
    "latent_mask", "colours" becomes "colors"."""
    names = {"mask": "latent_mask", "colours": "colors"}
    return {names.get(key, key): value.float() for key, value in sample.items()}


class Encoded(Dataset):
    """The encoded crops with their priors: nothing is read but caches. An index beyond them wraps around: there are no
    others, so what is drawn from far beyond, as `preview_batch` does, is what a run of that cache trains on.

    `transform` says by "reconstructed" which prior becomes the sample's "prior".
    """

    def __init__(
        self,
        photos: Photos,
        latents: Cached,
        priors: Cached,
        transform: Callable[[dict[str, Tensor], np.random.Generator, int], None],
        seed: int,
    ):
        self.photos, self.latents, self.priors, self.transform, self.seed = photos, latents, priors, transform, seed

    def lists(self) -> dict[str, str]:
        return self.photos.lists()

    def crop(self, index: int) -> dict[str, Tensor]:
        """The image and mask that sample `index` is of."""
        return self.photos[index % len(self.latents)]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        i = index % len(self.latents)
        sample = from_cache(self.latents[i])
        self.transform(sample, np.random.default_rng([self.seed, index]), index)
        sample["prior"] = self.priors[i]["reconstructed" if sample["reconstructed"] else "predicted"].float()
        return sample
