"""Photos -> training views. A sample is a function of (seed, index): workers, processes and resuming never change it."""

from .photos import DataConfig, Photos, held_out, random_view, unpack
from .sources import decode_photo, find_photos, open_source, read_photo, twin_of

__all__ = [
    "DataConfig",
    "Photos",
    "decode_photo",
    "find_photos",
    "held_out",
    "open_source",
    "random_view",
    "read_photo",
    "twin_of",
    "unpack",
]
