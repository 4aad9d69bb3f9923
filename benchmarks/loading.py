"""What it costs to read weights instead of mapping them, with SD-1.5-sized networks of random weights in fp16.

python -m benchmarks.loading --out benchmarks/results/loading.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from asuka_modules import checkpoints, weight_file
from asuka_modules.alignment import SELF4, Alignment
from asuka_modules.decoder import BASE, HarmonizingDecoder
from asuka_modules.mae import MAE, VIT_L

from .machine import describe

WAYS = {  # how weights get into memory -> what is replaced in asuka_modules.weight_file
    "mapped, unchecked": {"READING": {}, "owned": lambda tensor: tensor, "require_finite": lambda *_: None},
    "read, unchecked": {"require_finite": lambda *_: None},
    "read and checked": {},
}


def measure(way: str, path: Path) -> dict[str, float]:
    """CPU seconds until the networks are built, and until all of their weights were used once; MiB that are then the process's
    own, beyond what it had before."""
    for name, value in WAYS[way].items():
        setattr(weight_file, name, value)
    process = psutil.Process()
    before, start = process.memory_full_info().uss, time.process_time()
    networks = [part.build() for part in checkpoints.load(path).values()]
    built = time.process_time() - start
    for network in networks:
        for value in network.state_dict().values():
            value.amax()
    used = time.process_time() - start
    return {"built": built, "used": used, "MiB": (process.memory_full_info().uss - before) / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a way and a file, in a process of their own
    arguments = parser.parse_args()
    if arguments.one:
        arguments.out.write_text(json.dumps(measure(arguments.one[0], Path(arguments.one[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path, result = Path(folder, "asuka.safetensors"), Path(folder, "result.json")
        networks = {"mae": MAE(VIT_L), "alignment": Alignment(SELF4), "decoder": HarmonizingDecoder(BASE)}
        checkpoints.save(path, networks, dtype=torch.float16)
        del networks
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(arguments.repeats):
            for way, results in found.items():
                command = [sys.executable, "-m", "benchmarks.loading", "--out", str(result), "--one", way, str(path)]
                subprocess.run(command, check=True)
                results.append(json.loads(result.read_text()))
        size = path.stat().st_size / 2**20
    medians = {
        way: {key: round(statistics.median(one[key] for one in results), 2) for key in results[0]}
        for way, results in found.items()
    }
    arguments.out.write_text(json.dumps({"file, MiB": round(size), **medians, **describe()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
