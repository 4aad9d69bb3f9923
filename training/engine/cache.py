"""Samples computed once, before training: what frozen networks make of photos and masks."""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from asuka_modules import checkpoints

from .manifest import check_manifest

SHARD = 512  # samples per file


def build_cache(
    folder: str | Path,
    dataset: Dataset,
    count: int,
    compute: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    batch_size: int,
    workers: int,
    description: dict,
) -> "Cached":
    """Writes `compute(batch)` for the first `count` samples of `dataset` into shards; finished shards are kept.

    `description` says of what the samples are. Several processes share the work. Raises ConfigError where the folder
    holds samples of something else.
    """
    folder, state = Path(folder), PartialState()
    check_manifest(folder, description)
    starts = range(0, count, SHARD)[state.process_index :: state.num_processes]
    total = sum(min(SHARD, count - start) for start in starts)
    with tqdm(total=total, desc=folder.name, unit="sample", dynamic_ncols=True) as bar:
        for start in starts:
            stop = min(start + SHARD, count)
            path = folder / f"{start:07d}.safetensors"
            if rows(path) < stop - start:
                loader = DataLoader(dataset, batch_size, sampler=range(start, stop), num_workers=workers)
                batches = []
                with torch.inference_mode():
                    for batch in loader:
                        batches.append(compute(batch))
                        bar.update(len(next(iter(batches[-1].values()))))
                shard = {key: torch.cat([batch[key] for batch in batches]).contiguous() for key in batches[0]}
                checkpoints.write(path, shard)
            else:
                bar.update(stop - start)
    state.wait_for_everyone()
    return Cached(folder, count)


def rows(path: Path) -> int:
    """Samples in a shard; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return file.get_slice(next(iter(file.keys()))).get_shape()[0]


class Cached:
    """The first `count` samples of a cache, mapped from disk. Raises FileNotFoundError where some are missing."""

    def __init__(self, folder: str | Path, count: int):
        self.folder, self.count = folder, count
        paths = [Path(folder, f"{start:07d}.safetensors") for start in range(0, count, SHARD)]
        if missing := [path for path in paths if not path.exists()]:
            raise FileNotFoundError(f"{missing[0]} is missing; several machines need a disk that they share")
        self.shards = [load_file(path) for path in paths]

    def __reduce__(self) -> tuple:
        """For workers that are spawned: they map the files anew."""
        return Cached, (self.folder, self.count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        shard, row = divmod(index, SHARD)
        return {key: value[row] for key, value in self.shards[shard].items()}
