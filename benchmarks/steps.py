"""Training steps of two checkouts of this repository in turn, so that what else a machine does slows both alike.

    git worktree add ../before beb75f1
    python -m benchmarks.training --photos PHOTOS --masks MASKS --against ../before --out steps.json

Each side runs its own recipes in its own process, by the other checkout's configs, on one batch that is kept in memory.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

RECIPES = ("mae", "unet", "decoder")
WARM_UP, ROUNDS = 2, 9

# Run by either side, whose working folder is its checkout. It says how long the process has computed when it is about to
# take a batch, and waits.
WORKER = """
import sys, tempfile, time
from dataclasses import replace
from importlib import import_module
import torch
from training.engine import config
from training.engine.loop import fit

recipe, configs, photos, masks, settings = sys.argv[1], *map(eval, sys.argv[2:])
out = tempfile.TemporaryDirectory()
base = "demo/asuka-miniature-base.safetensors"

class InMemory(torch.utils.data.Dataset):
    def __init__(self, dataset, size):
        self.samples = [dataset[i] for i in range(size)]

    def __getitem__(self, index):
        if index % len(self.samples) == 0:
            print(time.process_time(), flush=True)
            sys.stdin.readline()
        return self.samples[index % len(self.samples)]

def fit_in_memory(run, objective, dataset, *_, **__):
    never = dict.fromkeys(("steps", "log_every", "save_every", "sample_every", "validate_every"), 10**6)
    run = replace(run, out=out.name, workers=0, **never, **settings)
    return fit(run, objective, InMemory(dataset, run.batch_size))

module = import_module("training.base.unet" if recipe == "unet" else f"training.{recipe}")
module.fit = fit_in_memory
views = [f"data.folders={photos}", f"validation={photos}", f"masks.objects={masks}"]
if recipe == "unet":
    from training.base.__main__ import BaseRecipe
    stage = config.read(BaseRecipe, f"{configs}/base.yaml").unet[-1]
    sides = {"latent": 4, "masked_latent": 4, "colours": 3}
    latents = {key: torch.randn(channels, 32, 32) for key, channels in sides.items()}
    latents["mask"] = torch.zeros(1, 32, 32)
    latents["mask"][:, 8:24, 8:24] = 1
    module.train_unet(stage, [latents], None, None)
elif recipe == "mae":
    module.train(config.read(module.MAERecipe, f"{configs}/mae.yaml", views))
else:
    module.train(config.read(module.DecoderRecipe, f"{configs}/decoder.yaml", [*views, f"base={base}", "data.augmented=null"]))
"""


class Side:
    """The process of one checkout, which takes a step when told to."""

    def __init__(self, checkout: Path, arguments: list[str], errors: IO[str]):
        command = [sys.executable, "-c", WORKER, *arguments]
        self.errors = errors  # a file, for a pipe that nobody reads would fill up
        self.process = subprocess.Popen(
            command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self.computed = self.told()

    def told(self) -> float:
        """Seconds that the process has computed so far. Raises RuntimeError where it has ended."""
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"a side of the comparison ended:\n{self.errors.read()}")
        return float(line)

    def step(self) -> tuple[float, float]:
        """Seconds that a step takes, by the clock and of computing."""
        start, before = time.perf_counter(), self.computed
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.computed = self.told()
        return time.perf_counter() - start, self.computed - before


def compare(against: Path, photos: list[str], masks: str, settings: dict) -> dict[str, dict[str, float]]:
    """How many times as fast this checkout's steps are, by recipe: medians of rounds in which both take one step."""
    configs, results = against.resolve() / "training/configs/miniature", {}
    places = str(configs), str([str(Path(folder).resolve()) for folder in photos]), str(Path(masks).resolve())
    for recipe in RECIPES:
        sides: list[Side] = []
        with tempfile.TemporaryFile("w+") as errors, ExitStack() as stack:
            for checkout, chosen in ((against, {}), (Path(__file__).parents[1], settings)):
                sides.append(Side(checkout, [recipe, *map(repr, (*places, chosen))], errors))
                stack.callback(sides[-1].process.kill)
            rounds = [[side.step() for side in sides] for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
        by_clock, by_computing = ([before[i] / after[i] for before, after in rounds] for i in range(2))
        results[recipe] = {
            "seconds before": statistics.median(before[0] for before, _ in rounds),
            "seconds now": statistics.median(after[0] for _, after in rounds),
            "ratio": statistics.median(by_clock),
            "ratio of CPU time": statistics.median(by_computing),
        }
    return results
