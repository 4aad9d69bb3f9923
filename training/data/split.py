"""Which images are held out for evaluation: a rule over file names that needs no list."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ..engine.config import ConfigError

Split = Literal["train", "held_out"]


def is_held_out(name: str, share: float) -> bool:
    """Whether an image is among the share (0 to 1) of all images that is held out.

    The SHA-256 of its file name, without folder and suffix, read as a number from 0 to 1, is below `share`. So the answer is
    the same on every machine, in a list file and in a tar shard, and whatever other images there are.
    """
    digest = hashlib.sha256(Path(name).stem.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def selects(held_out: float, split: Split) -> Callable[[str], bool]:
    """Whether an image of this name belongs to a split. Raises ConfigError for a share out of range, or an empty split."""
    if not 0 <= held_out < 1:
        raise ConfigError(f"held_out is {held_out}, expected a share from 0 to below 1, such as 0.1")
    if split == "held_out" and not held_out:
        raise ConfigError("split is held_out but held_out is 0; set held_out to the share that training leaves out")
    return lambda name: is_held_out(name, held_out) == (split == "held_out")
