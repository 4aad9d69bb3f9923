"""Latent-augmented copies of photos, in the tar shards that training.latent_augment fills."""

import hashlib
import io
import logging
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from asuka_modules.atomic import atomic_write

log = logging.getLogger(__name__)
KEY = "S10"
PLACE = np.dtype([("key", KEY), ("shard", np.uint32), ("offset", np.uint64), ("size", np.uint32)])


def key_of(photo: bytes) -> bytes:
    """What a photo's augmented copy goes by, 10 bytes: from the photo's file and not its name, for photos may move."""
    return hashlib.sha256(photo).digest()[:10]


class AugmentedImages:
    """The augmented copies in a folder, by key, in flat arrays, whose memory forked workers share.

    Raises FileNotFoundError where there are none but they are `required`.
    """

    def __init__(self, folder: str | Path, required: bool = True):
        self.shards = sorted(Path(folder).glob("twins-*.tar"))
        if required and not self.shards:
            raise FileNotFoundError(f"{folder}: no augmented copies there; make them with training.latent_augment")
        with ThreadPoolExecutor() as pool:  # of many small reads, which network disks answer late
            found = np.concatenate([np.empty(0, PLACE), *pool.map(index, self.shards, range(len(self.shards)))])
        self.places = found[np.argsort(found["key"], kind="stable")]
        self.keys = self.places["key"].copy()  # in one piece, or searchsorted would copy it every time

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: bytes) -> bool:
        return self.find(key) is not None

    def find(self, key: bytes) -> int | None:
        item = np.array(key, KEY)  # an array's items and bytes do not compare: the former lose zeros at their end
        i = int(np.searchsorted(self.keys, item))
        return i if i < len(self) and self.keys[i] == item else None

    def of(self, photo: bytes) -> bytes | None:
        """The image file of a photo's augmented copy; None where there is none or it cannot be read."""
        if (i := self.find(key_of(photo))) is None:
            return None
        _, shard, offset, size = self.places[i].item()
        with suppress(OSError), self.shards[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)
        return None


def index(path: Path, shard: int) -> np.ndarray:
    """The `PLACE` of every augmented copy in a shard; of none where it is no readable tar file."""
    try:
        with tarfile.open(path) as tar:
            places = [(bytes.fromhex(m.name.removesuffix(".jpg")), shard, m.offset_data, m.size) for m in tar]
    except tarfile.TarError as error:
        log.warning("%s: no readable tar file, skipped (%s)", path, error)
        places = []
    return np.array(places, PLACE)


def write_shard(folder: Path, rank: int, copies: list[tuple[bytes, bytes]]) -> None:
    """Puts (key, image file) into a process's next shard, which gets its name once it is whole. Raises OSError."""
    numbers = [int(path.stem.split("-")[2]) for path in folder.glob(f"twins-{rank:04d}-*.tar")]
    path = folder / f"twins-{rank:04d}-{max(numbers, default=-1) + 1:05d}.tar"
    with atomic_write(path) as partial, tarfile.open(partial, "w") as tar:
        for key, image in copies:
            member = tarfile.TarInfo(f"{key.hex()}.jpg")
            member.size = len(image)
            tar.addfile(member, io.BytesIO(image))
