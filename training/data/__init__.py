"""Photos -> training views. A sample is a function of (seed, index): workers, processes and resuming never change it."""

from .photos import DataConfig, Photos, held_out, random_view
from .sources import find_photos, read_photo, twin_of

__all__ = ["DataConfig", "Photos", "find_photos", "held_out", "random_view", "read_photo", "twin_of"]
