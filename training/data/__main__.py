"""Look at photos before training on them: python -m training.data check PHOTOS [PHOTOS ...]"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..engine.config import ConfigError
from .decoding import decode_photo, problem
from .files import SUFFIXES, files_below
from .sources import Shards, Source, has_suffix, open_source


def report(source: Source, smallest: int) -> str:
    """How many photos there are, their sizes, and which cannot be used."""
    with ThreadPoolExecutor() as pool:
        found = tqdm(pool.map(lambda i: look(source, i), range(len(source))), total=len(source), unit="photo")
        found = list(found)
    sides = np.array([min(size) for size, _ in found if size])
    lines = [f"{len(source)} photos, {len(source) - len(sides)} of them not readable"]
    lines += [f"  {source.name(i)}: {reason}" for i, (_, reason) in enumerate(found) if reason]
    if len(sides):
        low, middle, high = np.percentile(sides, [5, 50, 95]).astype(int)
        small = int((sides < smallest).sum())
        lines.append(f"short side: {low} (5 %), {middle} (median), {high} (95 %) pixels")
        lines.append(f"{small} have a short side below {smallest} pixels and would be enlarged")
    return "\n".join(lines)


def look(source: Source, i: int) -> tuple[tuple[int, int] | None, str | None]:
    """A photo's size, or why it has none."""
    data = source.data(i)
    photo = decode_photo(data)
    return (None, problem(data)) if photo is None else (photo.shape[:2], None)


def left_out(source: Source, locations: list[str], suffix: str | None) -> str | None:
    """What else is there and would not be read, by suffix."""
    if isinstance(source, Shards):
        others = Counter({name: n for name, n in source.suffixes.items() if not has_suffix(f"key.{name}", suffix)})
    else:
        files = [file for folder in locations if Path(folder).is_dir() for file in files_below(Path(folder))]
        others = Counter(file.suffix.lower() or "no suffix" for file in files)
        others = Counter({name: n for name, n in others.items() if name not in SUFFIXES})
    return f"left out: {', '.join(f'{n} {name}' for name, n in sorted(others.items()))}" if others else None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.data", description="Look at photos before training on them."
    )
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="read every photo and report what was found")
    check.add_argument("photos", nargs="+", help="folders, list files or tar shards")
    check.add_argument(
        "--smallest", type=int, default=256, help="short side in pixels below which photos are counted as small"
    )
    check.add_argument("--suffix", help="of the photos in tar shards with several images a key, such as image.jpg")
    arguments = parser.parse_args()
    try:
        source = open_source(tuple(arguments.photos), suffix=arguments.suffix)
        lines = [report(source, arguments.smallest), left_out(source, arguments.photos, arguments.suffix)]
    except (ConfigError, OSError) as error:
        parser.error(str(error))
    sys.stdout.write("\n".join(line for line in lines if line) + "\n")


if __name__ == "__main__":
    main()
