"""Photos -> training crops. A sample is a function of (seed, index): workers, processes and resuming never change it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .augmented import AugmentedImages, key_of, write_shard
from .decoding import decode_photo, problem, read_bytes, read_photo
from .files import SUFFIXES, files_below, find_photos
from .sources import Source, open_source
from .split import Split, is_held_out, selects

if TYPE_CHECKING:
    from .photos import DataConfig, Photos, preview_batch, random_crop, to_float

__all__ = [
    "SUFFIXES",
    "AugmentedImages",
    "DataConfig",
    "Photos",
    "Source",
    "Split",
    "decode_photo",
    "files_below",
    "find_photos",
    "is_held_out",
    "key_of",
    "open_source",
    "preview_batch",
    "problem",
    "random_crop",
    "read_bytes",
    "read_photo",
    "selects",
    "to_float",
    "write_shard",
]


def __getattr__(name: str) -> Any:
    """What needs torch, which is loaded where that is first used: nothing else here takes it."""
    if name in __all__:
        return getattr(import_module(".photos", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
