"""Latent augmentation for the decoder's training, done once, offline (ASUKA, sec. 3.3).

    python -m training.latent_augment training/configs/miniature/latent_augment.yaml

Each photo is encoded, noised to a large t, denoised by one U-Net call that sees the clean latent as its masked image and
an all-zero mask, and decoded by the stock VAE: the image then has the U-Net's and the VAE's colors. What else is in its
batch, and which process makes it, do not matter. The same command goes on after the last shard that was finished.
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("latent_augment", __doc__, dry_run=False)

import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm.auto import tqdm

from .data import AugmentedImages, Source, decode_photo, key_of, open_source, problem, selects, write_shard
from .engine.config import ConfigError
from .engine.image_grid import to_uint8
from .engine.manifest import check_manifest, fingerprint
from .engine.precision import bf16_where_fast, has_bf16, run_device
from .engine.run_folder import locked
from .sd import LatentDiffusion
from .weights.frozen import load_frozen

log = logging.getLogger(__name__)
ENCODERS = 4  # threads that make JPEGs
WAITING = 16  # batches' worth of photos that may wait for others of their size


@dataclass(frozen=True)
class LatentAugmentRecipe:
    """Prepare latent-augmented copies of photos; several processes share the work."""

    base: str  # checkpoint with U-Net and autoencoder
    folders: tuple[str, ...]  # as of data
    out: str  # folder; augmented copies that are there already are kept
    count: int | None = None  # of photos; none: all
    timesteps: tuple[int, int] = (500, 999)  # t is uniform over this range, ends included
    max_side: int = 512  # larger photos are reduced to this before
    seed: int = 0
    batch_size: int = 16  # per process, of photos of one size
    workers: int = 2  # per process, that read photos
    shard: int = 1000  # augmented copies per tar file, the most that a process loses when it is killed
    held_out: float = 0.0  # as of data: photos kept for evaluation, which get no augmented copies
    suffix: str | None = None  # as of data: which images of tar shards are the photos

    def __post_init__(self):
        for name in ("batch_size", "shard"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 1 or more")
        selects(self.held_out, "train")


class Photo(NamedTuple):
    key: bytes
    size: tuple[int, int]  # (h, w), also of the augmented copy
    inputs: tuple[np.ndarray, int, np.ndarray]  # image (3, H, W), timestep and noise (4, H / 8, W / 8) as of `augment`


class Reader(Dataset):
    """Item i is photo i's number, its key, and the photo; None if it has an augmented copy or is not readable."""

    def __init__(self, recipe: LatentAugmentRecipe, source: Source, done: AugmentedImages):
        self.recipe, self.source, self.done = recipe, source, done

    def __getitem__(self, i: int) -> tuple[int, bytes, Photo | None]:
        data = self.source.data(i)
        key = key_of(data)
        if key in self.done or (photo := decode_photo(data)) is None:
            return i, key, None
        h, w = photo.shape[:2]
        scale = min(1.0, self.recipe.max_side / max(h, w))
        latent_size = [max(1, round(side * scale / 8)) for side in (h, w)]
        image = torch.from_numpy(photo).permute(2, 0, 1).float()[None] / 255
        image = F.interpolate(image, [8 * n for n in latent_size], mode="bicubic", antialias=True).clamp(0, 1)
        rng = np.random.default_rng([self.recipe.seed, i])
        noise = rng.standard_normal((4, *latent_size), "float32")
        timestep = int(rng.integers(*self.recipe.timesteps, endpoint=True))
        return i, key, Photo(key, (h, w), (image[0].numpy(), timestep, noise))


def missing(reader: Reader, numbers: range) -> Iterator[Photo]:
    """The photos without an augmented copy, behind a progress bar; names and counts what is not readable."""
    workers = reader.recipe.workers
    # arrays as they are: tensors from workers would hold files open as long as they wait
    loader = DataLoader(reader, batch_size=None, sampler=numbers, num_workers=workers, collate_fn=tuple)
    unreadable = 0
    for i, key, photo in tqdm(loader, desc=Path(reader.recipe.out).name, unit="photo", dynamic_ncols=True):
        if photo:
            yield photo
        elif key not in reader.done:
            unreadable += 1
            reason = problem(reader.source.data(i))
            log.warning("%s: %s, skipped (%d so far)", reader.source.name(i), reason, unreadable)


def batches(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    """Photos of one size together; smaller batches where too many photos wait, and in the end."""
    waiting = defaultdict(list)
    for photo in photos:
        waiting[photo.inputs[0].shape].append(photo)
        fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        if len(waiting[fullest]) == size or sum(map(len, waiting.values())) == WAITING * size:
            yield waiting.pop(fullest)
    yield from waiting.values()


def augment(base: LatentDiffusion, image: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
    """The U-Net's one-step estimate of `image` (B, 3, H, W) in [0, 1] from `timestep` (B,)."""
    latent = base.encode(image)
    context = base.empty_context.expand(len(image), -1, -1)
    return base.decode(
        base.predict_x0(latent, noise, timestep, torch.zeros_like(latent[:, :1]), latent, context)
    ).clamp(0, 1)


@torch.inference_mode()
def restore(image: Tensor, size: tuple[int, int]) -> bytes:
    """An estimate (3, H, W) as an image file of the photo's size."""
    return to_jpeg(to_uint8(F.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]))


def to_jpeg(image: np.ndarray) -> bytes:
    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def augmented_copies(
    base: LatentDiffusion, groups: Iterable[list[Photo]], pool: ThreadPoolExecutor
) -> Iterator[tuple[bytes, Future[bytes]]]:
    """The key of each photo, and its augmented copy's image file, which is made while the next batch is computed."""
    device = base.alphas_cumprod.device
    for group in groups:
        inputs = [part.to(device) for part in default_collate([photo.inputs for photo in group])]
        with bf16_where_fast(device):
            images = augment(base, *inputs)
        for photo, image in zip(group, images, strict=True):
            yield photo.key, pool.submit(restore, image, photo.size)


def print_plan(source: Source, numbers: range, done: AugmentedImages) -> None:
    """Prints what there is to do, and the disk that it takes: less than a few photos do, whose details are finer."""
    some = [decode_photo(source.data(i)) for i in numbers[:16]]
    sizes = [len(to_jpeg(photo)) for photo in some if photo is not None]
    total = np.mean(sizes or [0]) * len(numbers) / 1e9
    sys.stdout.write(
        f"{len(numbers)} photos, {len(done)} augmented copies there already; all take up to {total:.2g} GB\n"
    )


def run(recipe: LatentAugmentRecipe) -> Path:
    """Makes the augmented copies that are missing. Raises ConfigError where another run is at work in the folder: the two would give
    their shards the same names."""
    device, out = run_device(), Path(recipe.out)
    with locked(out) if PartialState().is_main_process else nullcontext():
        augment_photos(recipe, device, out)
    return out


@torch.inference_mode()
def augment_photos(recipe: LatentAugmentRecipe, device: torch.device, out: Path) -> None:
    state = PartialState()
    state.wait_for_everyone()  # until the folder is ours
    base = load_frozen(recipe.base)
    settings = {"timesteps": recipe.timesteps, "max_side": recipe.max_side, "seed": recipe.seed}
    check_manifest(out, {"base": fingerprint(base), **settings})
    if has_bf16(device):  # once, where autocast would do it to the same weights for every batch
        base.unet.bfloat16()
        base.autoencoder.bfloat16()
    base.to(device)
    reader = Reader(
        recipe,
        open_source(recipe.folders, selects(recipe.held_out, "train"), recipe.suffix),
        AugmentedImages(out, required=False),
    )
    numbers = range(min(len(reader.source), recipe.count or len(reader.source)))
    if state.is_main_process:
        print_plan(reader.source, numbers, reader.done)
    photos = missing(reader, numbers[state.process_index :: state.num_processes])
    with ThreadPoolExecutor(ENCODERS) as pool:
        made = augmented_copies(base, batches(photos, recipe.batch_size), pool)
        while shard := list(islice(made, recipe.shard)):
            write_shard(out, state.process_index, [(key, image.result()) for key, image in shard])
    state.wait_for_everyone()


if __name__ == "__main__":
    main(arguments, LatentAugmentRecipe, run)
