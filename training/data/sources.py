"""Where photos come from: folders, list files, or tar shards, local or remote."""

import hashlib
import json
import logging
import os
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from filelock import FileLock

from asuka_modules.atomic import atomic_write

from ..engine.config import ConfigError
from .decoding import read_bytes, require_opencv
from .files import SUFFIXES, find_photos

log = logging.getLogger(__name__)
REMEDY = "set the environment variable ASUKA_CACHE to a folder of your own"
TRIES = 5  # to fetch a remote shard, waiting 1, 2, 4 and 8 seconds in between


class Source(Protocol):
    """Photos by number."""

    def __len__(self) -> int: ...

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The numbers of all photos in the order of one epoch."""

    def data(self, i: int) -> bytes:
        """The image's file, for `decode_photo`; empty where it cannot be read."""

    def name(self, i: int) -> str: ...


def open_source(
    locations: tuple[str, ...], selected: Callable[[str], bool] = lambda name: True, suffix: str | None = None
) -> Source:
    """Folders and list files (.txt, a path per line) as one source of files; or tar shards (`data-{000..099}.tar`, URLs).

    Of these, the images whose name is `selected`. `suffix` tells, of a shard's images with one key, which one is meant.
    Raises FileNotFoundError where there are none, ConfigError for a shard with several images of one key and no suffix.
    """
    tars = [location for location in locations if location.endswith(".tar")]
    if tars and len(tars) < len(locations):
        raise ConfigError(f"photos: either tar shards or folders, not both: {', '.join(locations)}")
    if tars:
        require_opencv()
        return Shards([shard for location in tars for shard in expand(location)], selected, suffix)
    return Files(find_photos(locations, selected))


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

    def __init__(self, urls: list[str], selected: Callable[[str], bool] = lambda name: True, suffix: str | None = None):
        self.urls, self.cache = urls, shard_cache()
        self.suffixes: Counter[str] = Counter()  # of all images in the shards
        indexed = []
        for url in urls:
            names, places = self.index(url)
            self.suffixes.update(split_key(name)[1] for name in names)
            names, places = select(names, places, lambda name: has_suffix(name, suffix))
            require_one_per_key(url, names)
            indexed.append(select(names, places, selected))
        self.names, self.places = [names for names, _ in indexed], [places for _, places in indexed]
        self.starts = np.cumsum([0] + [len(names) for names in self.names])
        if not len(self):
            wanted = f" with the suffix {suffix}, only {', '.join(self.suffixes)}" if suffix and self.suffixes else ""
            raise FileNotFoundError(f"{', '.join(urls)}: no photos in these shards{wanted}")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Shuffles the shards, and the photos of every `MIXED` neighbors, so that reading stays local."""
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
        if path.exists():
            members = json.loads(path.read_text())
        else:
            try:
                with self.opened(url) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                    members = [(m.name, m.offset_data, m.size) for m in tar if m.isreg() and is_image(Path(m.name))]
                    file.seek(tar.offset)
                    whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
            except (FileNotFoundError, tarfile.TarError) as error:
                log.warning("%s: no readable tar file, skipped (%s; compressed ones are not read)", url, error)
                return Names([]), np.empty((0, 2), np.int64)
            if whole:
                with kept_in_cache(path) as partial:
                    partial.write_text(json.dumps(members))
            else:  # not remembered, so that it is told again
                log.warning("%s: damaged, its end is missing; %d images are before it", url, len(members))
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
                with kept_in_cache(path) as partial:
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


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")  # as what macOS adds to a tar file


def shard_cache() -> Path:
    """The folder for indices and copies of shards: ASUKA_CACHE, or this user's own in the temporary folder. Raises
    ConfigError where nothing can be written there."""
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""  # on Windows the temporary folder is the user's own
    folder = Path(os.environ.get("ASUKA_CACHE") or Path(tempfile.gettempdir(), f"asuka-shards{user}"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot keep indices and copies of tar shards there ({error.strerror}); {REMEDY}"
        ) from error
    return folder


@contextmanager
def kept_in_cache(path: Path) -> Iterator[Path]:
    """Writes a file of the cache folder. Raises OSError, which names the remedy, where the disk is full."""
    try:
        with atomic_write(path) as partial:
            yield partial
    except OSError as error:
        raise OSError(f"{error}; {REMEDY}, on a disk with more space") from error


def split_key(name: str) -> tuple[str, str]:
    """WebDataset's key and suffix of a file in a shard: "a/b.image.jpg" -> ("a/b", "image.jpg")."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def has_suffix(name: str, suffix: str | None) -> bool:
    """Whether a file in a shard has the suffix, or one of several ("image.jpg;image.png"); None: any."""
    return suffix is None or split_key(name)[1] in suffix.lower().split(";")


def require_one_per_key(url: str, names: Names) -> None:
    """Raises ConfigError where several images have one key: a photo and what belongs to it, such as its mask."""
    suffixes: dict[str, str] = {}
    for key, suffix in map(split_key, names):
        if suffixes.get(key) == suffix:
            raise ConfigError(f"{url}: {key}.{suffix} is there twice; pack the shard anew")
        if key in suffixes:
            raise ConfigError(
                f"{url}: {key} has several images, such as {suffixes[key]} and {suffix}; "
                f"tell which one is the photo with suffix, for example suffix: {suffixes[key]}"
            )
        suffixes[key] = suffix


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
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise ConfigError(f"{pattern}: expected a range such as {{000..099}} in the braces")
    numbers = [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    return [before + number + end for number in numbers for end in expand(after)]
