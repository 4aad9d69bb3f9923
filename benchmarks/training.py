"""What data loading and logging cost each recipe, and how fast the masks are made.

    python -m benchmarks.training --photos PHOTOS --masks MASKS --out benchmarks/results/training-cpu.json

Steps are the miniature's. On a CUDA device full-size MAE and alignment steps are measured too, as a share of the GPU's peak.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import HarmonizingDecoder
from asuka_modules.mae import MAE, VIT_L
from training import align, config, decoder, mae
from training.base.unet import DescribedUNet
from training.data import Photos, unpack
from training.dry_run import GPUS
from training.frozen import sd15_unet, sd15_vae
from training.log import Log
from training.loop import Objective, RunConfig, Training
from training.masks import MaskConfig, Mixture
from training.masks.freeform import FREE_FORM
from training.masks.lama import LAMA
from training.precision import has_bf16, run_device
from training.sd import LatentDiffusion

from .machine import describe
from .timing import medians, synchronize

CONFIGS = Path("training/configs/miniature")
WARM_UP, STEPS, ROUNDS = 3, 20, 3


def images_per_second(run: RunConfig, objective: Objective, dataset) -> dict[str, float]:
    """Of the recipe's loop with data loading and logging, and of its bare step on one batch kept in memory."""
    batch = default_collate([dataset[i] for i in range(run.batch_size)])
    with tempfile.TemporaryDirectory() as out:
        training = Training(replace(run, out=out, steps=10**6, accumulate=1), objective)
        batches, device = iter(training.prepare(dataset)), training.accelerator.device
        batch = unpack({key: value.to(device) for key, value in batch.items()})
        log = Log(Path(out), asdict(training.run), 0)

        def timed(steps: Callable[[], None]) -> float:
            synchronize(device)
            start = time.perf_counter()
            steps()
            synchronize(device)
            return STEPS * run.batch_size / (time.perf_counter() - start)

        def bare() -> None:
            for _ in range(STEPS):
                training.advance(batch)

        def looped() -> None:
            for i in range(STEPS):
                training.advance(unpack(next(batches)))
                log.step(training.step)
                if training.due(run.log_every) or i == STEPS - 1:
                    log.row(training.step, training.measured.means(), training.grad_norm, run.lr)

        for _ in range(WARM_UP):
            training.advance(unpack(next(batches)))
        rates: dict[str, list[float]] = {"bare step": [], "with data and log": []}
        for _ in range(ROUNDS):  # interleaved, for a machine that does other things too
            rates["with data and log"].append(timed(looped))
            rates["bare step"].append(timed(bare))
        log.close()
    best = {name: float(np.median(values)) for name, values in rates.items()}
    return {**best, "cost": 1 - best["with data and log"] / best["bare step"]}


def remember(dataset: Photos) -> None:
    """Reads what a worker keeps in memory from the second epoch on (`data.cache`): photos and objects' shapes."""
    for i in range(len(dataset.source)):
        dataset.photo(i)
    for _ in dataset.extend.mixture.objects.shapes:
        pass


def measure_recipes(photos: list[str], masks: str) -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    folders = f"[{', '.join(photos)}]"
    views = [f"data.folders={folders}", f"masks.objects={masks}"]
    base = DescribedUNet()
    base = LatentDiffusion(base.unet, AutoencoderTiny(), base.description.empty_context).requires_grad_(False)
    results = {}

    recipe = config.read(mae.MAERecipe, CONFIGS / "mae.yaml", views)
    network = MAE(recipe.model)
    network.init_weights()
    dataset = Photos(recipe.data, 0, mae.HoleSampler(recipe.masks, recipe.model.grid))
    results["mae, first epoch"] = images_per_second(recipe.run, mae.MAEObjective(network), dataset)
    remember(dataset)
    results["mae, later epochs"] = images_per_second(recipe.run, mae.MAEObjective(network), dataset)

    with tempfile.TemporaryDirectory() as out:
        latents = [
            f"latents.data.folders={folders}",
            f"latents.masks.objects={masks}",
            f"latents.out={out}",
            "latents.count=128",
        ]
        recipe = config.read(align.AlignRecipe, CONFIGS / "align.yaml", latents)
        align.build_latents(recipe.latents, base.autoencoder, base.encode, torch.device("cpu"))
        dataset = align.Encoded(recipe.latents, align.NoiseSampler(recipe), 0)
        if recipe.run.precision == "bf16" and has_bf16(run_device()):
            base.unet.to(torch.bfloat16)
        objective = align.AlignObjective(Alignment(recipe.model), network.requires_grad_(False), base, recipe)
        results["align"] = images_per_second(recipe.run, objective, dataset)

    recipe = config.read(decoder.DecoderRecipe, CONFIGS / "decoder.yaml", [*views, "data.augmented=null"])
    dataset = Photos(recipe.data, 0, decoder.Corruption(recipe))
    objective = decoder.DecoderObjective(HarmonizingDecoder(recipe.model), base, recipe)
    results["decoder"] = images_per_second(recipe.run, objective, dataset)
    return results


def straightforward_strokes(
    rng: np.random.Generator, size: int, times: tuple[int, int], max_width: int, max_length: int
) -> np.ndarray:
    """LaMa's strokes as one would write them down: one draw at a time."""
    mask = np.zeros((size, size), np.float32)
    for stroke in range(rng.integers(times[0], times[1] + 2)):
        x, y = rng.integers(size), rng.integers(size)
        for _ in range(1 + rng.integers(5)):
            angle = 0.01 + rng.integers(4)
            angle = 2 * np.pi - angle if stroke % 2 == 0 else angle
            length, width = 10 + rng.integers(max_length), 5 + rng.integers(max_width)
            end_x = int(np.clip(x + length * np.sin(angle), 0, size))
            end_y = int(np.clip(y + length * np.cos(angle), 0, size))
            cv2.line(mask, (int(x), int(y)), (end_x, end_y), 1.0, int(width))
            x, y = end_x, end_y
    return mask


def straightforward_brush(rng: np.random.Generator, size: int, brushes: int) -> np.ndarray:
    """Co-Mod's brushes as one would write them down: one vertex at a time, a disc on each."""
    mask = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(brushes)):
        mean, radius = 2 * np.pi / 5, size * np.sqrt(2) / 8
        low, high = mean - rng.uniform(0, 2 * np.pi / 15), mean + rng.uniform(0, 2 * np.pi / 15)
        points = [(int(rng.integers(size)), int(rng.integers(size)))]
        width = int(rng.uniform(12, 48))
        for i in range(rng.integers(4, 18)):
            angle = rng.uniform(low, high)
            angle = 2 * np.pi - angle if i % 2 == 0 else angle
            step = np.clip(rng.normal(radius, radius // 2), 0, 2 * radius)
            x = int(np.clip(points[-1][0] + step * np.cos(angle), 0, size))
            y = int(np.clip(points[-1][1] + step * np.sin(angle), 0, size))
            cv2.line(mask, points[-1], (x, y), 1.0, width)
            cv2.circle(mask, (x, y), width // 2, 1.0, -1)
            points.append((x, y))
    return mask


def measure_masks(masks: str) -> dict[str, dict[str, float]]:
    """Masks a second on one core, ours and straightforward."""
    cv2.setNumThreads(1)
    rng, count, device = np.random.default_rng(0), 300, torch.device("cpu")
    strokes, brushes = LAMA["thin-256"].strokes, FREE_FORM["comod"].brushes
    pairs = {
        "strokes, thin, 256 px": (
            lambda: strokes(rng, 256),
            lambda: straightforward_strokes(rng, 256, strokes.times, strokes.max_width, strokes.max_length),
        ),
        "brushes, Co-Mod, 256 px": (
            lambda: [
                FREE_FORM["comod"].brush(rng, np.zeros((256, 256), np.uint8)) for _ in range(rng.integers(brushes))
            ],
            lambda: straightforward_brush(rng, 256, brushes),
        ),
    }
    results = {}
    for name, (ours, straightforward) in pairs.items():
        calls = {
            "ours": lambda f=ours: [f() for _ in range(count)],
            "straightforward": lambda f=straightforward: [f() for _ in range(count)],
        }
        rates = {key: count / seconds for key, seconds in medians(calls, device, 5).items()}
        results[name] = {**rates, "ratio": rates["ours"] / rates["straightforward"]}
    mixture = Mixture(MaskConfig(objects=masks))
    seconds = medians({"mixture": lambda: [mixture(rng) for _ in range(count)]}, device, 5)["mixture"]
    return {**results, "the whole mixture": {"ours": count / seconds}}


def measure_full_size(batch: dict[str, int]) -> dict[str, dict[str, float]]:
    """Model FLOP utilisation of full-size MAE and alignment steps in bf16 on the GPU."""
    device = torch.device("cuda")
    peak = next((value for name, value in GPUS.items() if name.split()[-1] in torch.cuda.get_device_name()), None)
    torch.manual_seed(0)

    def utilisation(objective: Objective, samples: dict[str, torch.Tensor], n: int) -> dict[str, float]:
        objective.to(device).train()
        samples = {key: value.to(device) for key, value in samples.items()}

        def step() -> None:
            with torch.autocast("cuda", torch.bfloat16):
                loss, _ = objective(samples)
            loss.backward()

        with FlopCounterMode(display=False) as counter:
            step()
        with torch.enable_grad():
            times = []
            for _ in range(13):
                torch.cuda.synchronize()
                start = time.perf_counter()
                step()
                torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
        seconds = float(np.median(times[3:]))
        rate = {"images per second": n / seconds, "TFLOP/s": counter.get_total_flops() / seconds / 1e12}
        return rate | ({"share of peak": counter.get_total_flops() / seconds / peak} if peak else {})

    n = batch["mae"]
    network = MAE(VIT_L)
    network.init_weights()
    hidden = torch.rand(n, 256).argsort(1) >= 64
    samples = {"image": torch.rand(n, 3, 256, 256), "mask": torch.zeros(n, 1, 256, 256), "hidden": hidden}
    results = {"mae": utilisation(mae.MAEObjective(network), samples, n)}

    n = batch["align"]
    base = LatentDiffusion(sd15_unet(), sd15_vae(), torch.zeros(1, 77, 768)).requires_grad_(False)
    base.unet.to(torch.bfloat16)
    recipe = config.read(align.AlignRecipe, "training/configs/sd15/align.yaml")
    objective = align.AlignObjective(Alignment(AlignmentConfig()), network.requires_grad_(False), base, recipe)
    samples = {
        "image": torch.rand(n, 3, 512, 512),
        "mask": (torch.rand(n, 1, 16, 16) > 0.7).float().repeat_interleave(32, 2).repeat_interleave(32, 3),
        "cells": torch.ones(n, 1, 64, 64),
        "latent": torch.randn(n, 4, 64, 64),
        "masked_latent": torch.randn(n, 4, 64, 64),
        "noise": torch.randn(n, 4, 64, 64),
        "timestep": torch.randint(1000, (n,)),
        "reconstructed": torch.zeros(n, dtype=torch.bool),
    }
    return {**results, "align": utilisation(objective, samples, n)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos")
    parser.add_argument("--masks", required=True, help="folder of object masks")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    result = {"images per second": measure_recipes(arguments.photos, arguments.masks)}
    result["masks per second and core"] = measure_masks(arguments.masks)
    if torch.cuda.is_available():
        result["full size"] = measure_full_size({"mae": 256, "align": 16})
    arguments.out.write_text(json.dumps(result | describe(), indent=2) + "\n")


if __name__ == "__main__":
    main()
