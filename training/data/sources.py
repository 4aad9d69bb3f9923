"""Where photos come from: folders, list files, or tar shards, local or remote."""

import hashlib
import json
import logging
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import cv2
import numpy as np
from filelock import FileLock

from asuka_modules.atomic import atomic_write

from ..config import ConfigError

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
TRIES = 5  # to fetch a remote shard, waiting 1, 2, 4 and 8 seconds in between


class Source(Protocol):
    """Photos by number."""

    def __len__(self) -> int: ...

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The numbers of all photos in the order of one epoch."""

    def data(self, i: int) -> bytes:
        """The picture's file, for `decode_photo`; empty where it cannot be read."""

    def name(self, i: int) -> str: ...


def open_source(locations: tuple[str, ...], selected: Callable[[str], bool] = lambda name: True) -> Source:
    """Folders and list files (.txt, a path per line) as one source of files; or tar shards (`data-{000..099}.tar`, URLs).
    Of these, the images whose name is `selected`. Raises FileNotFoundError where there are none."""
    tars = [location for location in locations if location.endswith(".tar")]
    if tars and len(tars) < len(locations):
        raise ConfigError(f"photos: either tar shards or folders, not both: {', '.join(locations)}")
    if tars:
        return Shards([shard for location in tars for shard in expand(location)], selected)
    return Files(find_photos(locations, selected))


def find_photos(locations: tuple[str, ...], selected: Callable[[str], bool] = lambda name: True) -> list[Path]:
    """All photos, or masks, below folders and in list files, sorted; of these, the ones whose name is `selected`. Raises
    FileNotFoundError for a location without any, and where none is selected."""
    photos = []
    for location in locations:
        path = Path(location)
        if path.suffix == ".txt":
            found = [Path(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        else:
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise FileNotFoundError(f"{location}: no pictures ({', '.join(sorted(SUFFIXES))}) in it")
        photos += found
    chosen = [path for path in photos if selected(path.name)]
    if not chosen:
        raise FileNotFoundError(
            f"{', '.join(locations)}: none of the {len(photos)} images is in the split; change held_out"
        )
    return chosen


def read_photo(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None where the file is no readable picture."""
    return decode_photo(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """A file; empty where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def decode_photo(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None where it is no readable picture."""
    picture = None
    with suppress(cv2.error):  # a header that promises too many pixels
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


class Names(Sequence):
    """Strings in one piece of memory, which data workers share: of Python's objects each gets a copy by counting who
    refers to them."""

    def __init__(self, names: Iterable[str]):
        encoded = [os.fsencode(name) for name in names]
        self.bytes, self.ends = b"".join(encoded), np.cumsum([0] + [len(name) for name in encoded])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> str:
        return os.fsdecode(self.bytes[self.ends[i] : self.ends[i + 1]])


class Files:
    """Photos in files of their own."""

    def __init__(self, paths: list[Path]):
        self.names = Names(map(str, paths))

    def __len__(self) -> int:
        return len(self.names)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self))

    def data(self, i: int) -> bytes:
        return read_bytes(Path(self.name(i)))

    def name(self, i: int) -> str:
        return self.names[i]


class Shards:
    """Photos in tar files (WebDataset's layout), read at random within a few shards at a time.

    Each shard is indexed once, for which a remote one (anything fsspec opens) is read as a whole, and again when its
    photos' turn comes: into a cache folder, which keeps a few.
    """

    MIXED = 8  # shards shuffled into one another

    def __init__(self, urls: list[str], selected: Callable[[str], bool] = lambda name: True):
        self.urls, self.cache = urls, Path(os.environ.get("ASUKA_CACHE", Path(tempfile.gettempdir(), "asuka-shards")))
        self.cache.mkdir(parents=True, exist_ok=True)
        indexed = [select(*self.index(url), selected) for url in urls]
        self.names, self.places = [names for names, _ in indexed], [places for _, places in indexed]
        self.starts = np.cumsum([0] + [len(names) for names in self.names])
        if not len(self):
            raise FileNotFoundError(f"{', '.join(urls)}: no photos in these shards")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Shuffles the shards, and the photos of every `MIXED` neighbours, so that reading stays local."""
        shards = rng.permutation(len(self.urls))
        order = []
        for start in range(0, len(shards), self.MIXED):
            group = [np.arange(self.starts[s], self.starts[s + 1]) for s in shards[start : start + self.MIXED]]
            order.append(rng.permutation(np.concatenate(group)))
        return np.concatenate(order)

    def data(self, i: int) -> bytes:
        shard, member = self.locate(i)
        offset, size = self.places[shard][member].tolist()
        try:
            with self.opened(self.urls[shard]) as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""

    def name(self, i: int) -> str:
        shard, member = self.locate(i)
        return f"{self.urls[shard]}/{self.names[shard][member]}"

    def locate(self, i: int) -> tuple[int, int]:
        """The number of photo i's shard, and its own in there."""
        shard = int(np.searchsorted(self.starts, i, side="right")) - 1
        return shard, i - int(self.starts[shard])

    def index(self, url: str) -> tuple[Names, np.ndarray]:
        """The names of the N photos in a shard, and their places (N, 2), offset and size in bytes; remembered in the cache
        folder."""
        if "://" not in url and not Path(url).is_file():
            raise FileNotFoundError(f"{url}: no such file, expected a tar shard of photos")
        path = self.cached(url).with_suffix(".json")
        if not path.exists():
            try:
                with self.opened(url) as file, tarfile.open(fileobj=file) as tar:
                    members = [(m.name, m.offset_data, m.size) for m in tar if Path(m.name).suffix.lower() in SUFFIXES]
            except (FileNotFoundError, tarfile.TarError) as error:
                log.warning("%s: no readable tar file, skipped (%s)", url, error)
                return Names([]), np.empty((0, 2), np.int64)
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(members))
        members = json.loads(path.read_text())
        places = np.array([place for _, *place in members], np.int64).reshape(-1, 2)  # of no photos, too
        return Names(name for name, _, _ in members), places

    def opened(self, url: str) -> BinaryIO:
        """The shard, even if another process, which shares the cache, makes room there in between."""
        for _ in range(TRIES):
            with suppress(FileNotFoundError):
                return self.local(url).open("rb")
        raise FileNotFoundError(url)

    def local(self, url: str) -> Path:
        """The shard as a local file."""
        if "://" not in url:
            return Path(url)
        path = self.cached(url)
        if path.exists():
            return path
        with FileLock(path.with_suffix(".lock")):  # of a process that dies the system frees it
            if not path.exists():  # another process may have fetched it meanwhile
                content = fetch(url)
                with atomic_write(path) as partial:
                    partial.write_bytes(content)
                self.make_room(path)
        return path

    def make_room(self, new: Path) -> None:
        """Of the other shards in the cache folder only the newest stay."""
        others = sorted((p for p in self.cache.glob("*.tar") if p != new), key=lambda p: p.stat().st_mtime)
        for old in others[: -2 * self.MIXED]:
            old.unlink(missing_ok=True)

    def cached(self, url: str) -> Path:
        """Where a shard's index and copy lie; a local file that is written anew gets new ones."""
        key = url
        if "://" not in url:
            path = Path(url).resolve()
            key = f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"
        return self.cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.tar"


def select(names: Names, places: np.ndarray, selected: Callable[[str], bool]) -> tuple[Names, np.ndarray]:
    """The names that are `selected`, and their places."""
    chosen = [i for i in range(len(names)) if selected(names[i])]
    return Names(names[i] for i in chosen), places[chosen]


def fetch(url: str) -> bytes:
    """A remote file. Raises FileNotFoundError where there is none, OSError where it cannot be had for long, ConfigError
    where the library for such addresses is not installed."""
    import fsspec  # only remote shards need it

    for attempt in range(TRIES):
        try:
            with fsspec.open(url) as remote:
                return remote.read()
        except FileNotFoundError:
            raise
        except ImportError as error:
            raise ConfigError(f"{url}: {error} (pip install s3fs, gcsfs or aiohttp)") from error
        except Exception as error:  # every protocol's library has errors of its own
            failure = error
        if attempt < TRIES - 1:
            log.warning("%s: not fetched (%s), trying again", url, failure)
            time.sleep(2**attempt)
    raise OSError(f"{url}: not fetched in {TRIES} tries ({failure}); once it can be, the same command goes on")


def expand(pattern: str) -> list[str]:
    """WebDataset's brace ranges: "a-{00..02}.tar" -> a-00.tar, a-01.tar, a-02.tar."""
    if "{" not in pattern:
        return [pattern]
    before, _, rest = pattern.partition("{")
    inside, _, after = rest.partition("}")
    first, _, last = inside.partition("..")
    if not (first.isdecimal() and last.isdecimal()):
        raise ConfigError(f"{pattern}: expected a range such as {{000..099}} in the braces")
    numbers = [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    return [before + number + end for number in numbers for end in expand(after)]
