"""Photos -> training views. A sample is a function of (seed, index): workers, processes and resuming never change it."""

from .photos import DataConfig, Photos, held_out, random_view, unpack
from .sources import Source, decode_photo, find_photos, open_source, read_photo
from .split import Split, is_held_out, selects
from .twins import Twins, key_of, write_shard

__all__ = [
    "DataConfig",
    "Photos",
    "Source",
    "Split",
    "Twins",
    "decode_photo",
    "find_photos",
    "held_out",
    "is_held_out",
    "key_of",
    "open_source",
    "random_view",
    "read_photo",
    "selects",
    "unpack",
    "write_shard",
]
