"""Latent augmentation for the decoder's training, done once, offline (ASUKA, sec. 3.3).

    python -m training.latent_augment training/configs/miniature/latent_augment.yaml

Each photo is encoded, noised to a large t, denoised by one U-Net call that sees the clean latent as its masked image and
an all-zero mask, and decoded by the stock VAE: the image then has the U-Net's and the VAE's colours.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm

from .claim import claim, fingerprint
from .config import main
from .data import decode_photo, open_source, twin_of
from .frozen import load_frozen
from .pictures import to_uint8
from .precision import bf16_where_fast
from .sd import LatentDiffusion

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentAugmentRecipe:
    """Prepare latent-augmented twins of photos; several processes share the work."""

    base: str  # checkpoint with U-Net and autoencoder
    folders: tuple[str, ...]  # as of data
    out: str  # folder; pictures that are there already are kept
    count: int | None = None  # of photos; none: all
    timesteps: tuple[int, int] = (500, 999)  # t is uniform over this range, ends included
    max_side: int = 512  # larger photos are reduced to this before
    seed: int = 0


def augment(base: LatentDiffusion, image: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
    """The U-Net's one-step estimate of `image` (B, 3, H, W) in [0, 1] from `timestep` (B,)."""
    latent = base.encode(image)
    context = base.empty_context.expand(len(image), -1, -1)
    return base.decode(base.estimate(latent, noise, timestep, torch.zeros_like(latent[:, :1]), latent, context)).clamp(
        0, 1
    )


@torch.inference_mode()
def run(recipe: LatentAugmentRecipe) -> Path:
    state, out = PartialState(), Path(recipe.out)
    device = state.device
    base = load_frozen(recipe.base).to(device)
    settings = {"timesteps": recipe.timesteps, "max_side": recipe.max_side, "seed": recipe.seed}
    claim(out, {"base": fingerprint(base), **settings})
    source = open_source(recipe.folders)
    unreadable = 0
    numbers = range(min(len(source), recipe.count or len(source)))[state.process_index :: state.num_processes]
    for i in tqdm(numbers, desc=out.name, unit="photo", dynamic_ncols=True):
        data = source.data(i)
        target = twin_of(out, data)
        if target.exists():
            continue
        if (photo := decode_photo(data)) is None:
            unreadable += 1
            log.warning("%s: not a readable picture, skipped (%d so far)", source.name(i), unreadable)
            continue
        rng = np.random.default_rng([recipe.seed, i])
        image = torch.from_numpy(photo).permute(2, 0, 1).float().to(device)[None] / 255
        h, w = image.shape[-2:]
        scale = min(1.0, recipe.max_side / max(h, w))
        cells = [max(1, round(side * scale / 8)) for side in (h, w)]
        image = F.interpolate(image, [8 * n for n in cells], mode="bicubic", antialias=True).clamp(0, 1)
        noise = torch.from_numpy(rng.standard_normal((1, 4, *cells), "float32")).to(device)
        timestep = torch.tensor([rng.integers(recipe.timesteps[0], recipe.timesteps[1], endpoint=True)], device=device)
        with bf16_where_fast(device):
            image = augment(base, image, timestep, noise)
        image = F.interpolate(image.float(), (h, w), mode="bicubic", antialias=True)
        temporary = out / f"{state.process_index}.tmp.jpg"
        picture = cv2.cvtColor(to_uint8(image[0]), cv2.COLOR_RGB2BGR)
        temporary.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
        temporary.replace(target)
    state.wait_for_everyone()
    return out


if __name__ == "__main__":
    main("latent_augment", LatentAugmentRecipe, run)
