"""Photos -> training crops. A sample is a function of (seed, index): workers, processes and resuming never change it."""

from .decoding import decode_photo, problem, read_bytes, read_photo
from .files import SUFFIXES, files_below, find_photos
from .photos import DataConfig, Photos, preview_batch, random_crop, to_float
from .sources import Source, open_source
from .split import Split, is_held_out, selects
from .twins import Twins, key_of, write_shard

__all__ = [
    "SUFFIXES",
    "DataConfig",
    "Photos",
    "Source",
    "Split",
    "Twins",
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
