"""Look at photos before training on them: python -m training.data check PHOTOS [PHOTOS ...]"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm.auto import tqdm

from .sources import Source, decode_photo, open_source


def report(source: Source, smallest: int) -> str:
    """How many photos there are, their sizes, and which cannot be used."""
    with ThreadPoolExecutor() as pool:
        sizes = tqdm(pool.map(lambda i: shape(source, i), range(len(source))), total=len(source), unit="photo")
        sizes = list(sizes)
    readable = np.array([size for size in sizes if size is not None]).reshape(-1, 2)
    lines = [f"{len(source)} photos, {len(source) - len(readable)} of them not readable"]
    lines += [f"  {source.name(i)}" for i, size in enumerate(sizes) if size is None]
    if len(readable):
        low, middle, high = np.percentile(readable.min(1), [5, 50, 95]).astype(int)
        small = int((readable.min(1) < smallest).sum())
        lines.append(f"short side: {low} (5 %), {middle} (median), {high} (95 %) pixels")
        lines.append(f"{small} have a short side below {smallest} pixels and would be enlarged")
    return "\n".join(lines)


def shape(source: Source, i: int) -> tuple[int, int] | None:
    photo = decode_photo(source.data(i))
    return None if photo is None else photo.shape[:2]


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
    arguments = parser.parse_args()
    try:
        sys.stdout.write(report(open_source(tuple(arguments.photos)), arguments.smallest) + "\n")
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
