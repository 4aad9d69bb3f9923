"""Samples computed once, before training: what frozen networks make of photos and masks."""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

SHARD = 512  # samples per file


def build_cache(
    folder: str | Path,
    dataset: Dataset,
    count: int,
    compute: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    batch_size: int,
    workers: int,
) -> Path:
    """Writes `compute(batch)` for the first `count` samples of `dataset` into shards; finished shards are kept.

    Several processes share the work.
    """
    folder, state = Path(folder), PartialState()
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, SHARD)[state.process_index :: state.num_processes]
    with tqdm(total=len(starts) * SHARD, desc=folder.name, unit="sample", dynamic_ncols=True) as bar:
        for start in starts:
            stop = min(start + SHARD, count)
            path = folder / f"{start:07d}.safetensors"
            if not path.exists():
                loader = DataLoader(dataset, batch_size, sampler=range(start, stop), num_workers=workers)
                with torch.inference_mode():
                    batches = [compute(batch) for batch in loader]
                shard = {key: torch.cat([batch[key] for batch in batches]).contiguous() for key in batches[0]}
                temporary = path.with_suffix(".tmp")
                save_file(shard, temporary)
                temporary.replace(path)
            bar.update(stop - start)
    state.wait_for_everyone()
    return folder


class Cached:
    """The samples of a cache, mapped from disk."""

    def __init__(self, folder: str | Path):
        self.shards = [load_file(path) for path in sorted(Path(folder).glob("*.safetensors"))]

    def __len__(self) -> int:
        return sum(len(next(iter(shard.values()))) for shard in self.shards)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        shard, row = divmod(index, SHARD)
        return {key: value[row] for key, value in self.shards[shard].items()}
