"""What data loading and logging cost each recipe, and how fast the masks are made.

    python -m benchmarks.training --photos PHOTOS --masks MASKS --out benchmarks/results/training-cpu.json

Steps are the miniature's. On a CUDA device full-size MAE and alignment steps are measured too, as a share of the GPU's peak.
With `--against CHECKOUT` the steps of another checkout of this repository are taken in turn with these, and nothing else is
measured: see benchmarks/steps.py.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import HarmonizingDecoder
from asuka_modules.mae import MAE, VIT_L
from training import align, decoder, mae
from training.base.unet import ConditionedUNet
from training.data import Photos, to_float
from training.engine import config
from training.engine.dry_run import GPUS
from training.engine.log import Log
from training.engine.loop import Objective, RunConfig, Training
from training.engine.precision import has_bf16, run_device
from training.sd import LatentDiffusion
from training.weights.frozen import sd15_unet, sd15_vae

from .machine import describe
from .masks import measure_masks
from .steps import compare
from .timing import synchronize

CONFIGS = Path("training/configs/miniature")
WARM_UP, STEPS, ROUNDS = 3, 20, 3


def images_per_second(run: RunConfig, objective: Objective, dataset) -> dict[str, float]:
    """Of the recipe's loop with data loading and logging, and of its bare step on one batch kept in memory."""
    batch = default_collate([dataset[i] for i in range(run.batch_size)])
    with tempfile.TemporaryDirectory() as out:
        training = Training(replace(run, out=out, steps=10**6, gradient_accumulation_steps=1), objective)
        batches, device = iter(training.prepare(dataset)), training.accelerator.device
        batch = to_float({key: value.to(device) for key, value in batch.items()})
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
                training.advance(to_float(next(batches)))
                log.step(training.step)
                if training.due(run.log_every) or i == STEPS - 1:
                    log.row(training.step, training.measured.means(), training.grad_norm, run.lr)

        for _ in range(WARM_UP):
            training.advance(to_float(next(batches)))
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
    for _ in dataset.transform.mixture.objects.shapes:
        pass


def measure_recipes(photos: list[str], masks: str) -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    folders = f"[{', '.join(photos)}]"
    views = [f"data.folders={folders}", f"masks.objects={masks}"]
    base = ConditionedUNet()
    base = LatentDiffusion(base.unet, AutoencoderTiny(), base.description.empty_context).requires_grad_(False)
    results = {}

    recipe = config.read(mae.MAERecipe, CONFIGS / "mae.yaml", views)
    network = MAE(recipe.model)
    network.init_weights()
    dataset = Photos(recipe.data, 0, mae.RandomHiddenPatches(recipe.masks, recipe.model.grid))
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
        device, crops = torch.device("cpu"), align.crops(recipe.latents)
        latents = align.build_latents(recipe.latents, crops, base.autoencoder, base.encode, device)
        priors = align.build_priors(recipe.latents, crops, latents, network.requires_grad_(False), device)
        dataset = align.Encoded(crops, latents, priors, align.RandomNoise(recipe), 0)
        if recipe.run.precision == "bf16" and has_bf16(run_device()):
            base.unet.to(torch.bfloat16)
        objective = align.AlignObjective(Alignment(recipe.model), base, recipe)
        results["align"] = images_per_second(recipe.run, objective, dataset)

    recipe = config.read(
        decoder.DecoderRecipe, CONFIGS / "decoder.yaml", [*views, "data.augmented=null", "sampled=null"]
    )
    dataset = Photos(recipe.data, 0, decoder.RandomCorruption(recipe))
    objective = decoder.DecoderObjective(HarmonizingDecoder(recipe.model), base, recipe)
    results["decoder"] = images_per_second(recipe.run, objective, dataset)
    return results


def measure_full_size(batch: dict[str, int]) -> dict[str, dict[str, float]]:
    """Model FLOP utilization of full-size MAE and alignment steps in bf16 on the GPU."""
    device = torch.device("cuda")
    peak = next((value for name, value in GPUS.items() if name.split()[-1] in torch.cuda.get_device_name()), None)
    torch.manual_seed(0)

    def utilization(objective: Objective, samples: dict[str, torch.Tensor], n: int) -> dict[str, float]:
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
    results = {"mae": utilization(mae.MAEObjective(network), samples, n)}

    n = batch["align"]
    base = LatentDiffusion(sd15_unet(), sd15_vae(), torch.zeros(1, 77, 768)).requires_grad_(False)
    base.unet.to(torch.bfloat16)
    recipe = config.read(align.AlignRecipe, "training/configs/sd15/align.yaml")
    objective = align.AlignObjective(Alignment(AlignmentConfig()), base, recipe)
    samples = {
        "prior": torch.randn(n, 256, 512),
        "latent_mask": torch.ones(n, 1, 64, 64),
        "latent": torch.randn(n, 4, 64, 64),
        "masked_latent": torch.randn(n, 4, 64, 64),
        "noise": torch.randn(n, 4, 64, 64),
        "timestep": torch.randint(1000, (n,)),
        "reconstructed": torch.zeros(n, dtype=torch.bool),
    }
    return {**results, "align": utilization(objective, samples, n)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos")
    parser.add_argument("--masks", required=True, help="folder of object masks")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="another checkout of this repository, to compare steps with")
    parser.add_argument("--channels-last", action="store_true", help="compare with run.channels_last")
    arguments = parser.parse_args()
    if arguments.against:
        settings = {"channels_last": True} if arguments.channels_last else {}
        result = {"steps against": compare(arguments.against, arguments.photos, arguments.masks, settings)}
        arguments.out.write_text(json.dumps(result | describe(), indent=2) + "\n")
        return
    result = {"images per second": measure_recipes(arguments.photos, arguments.masks)}
    result["masks per second and core"] = measure_masks(arguments.masks)
    if torch.cuda.is_available():
        result["full size"] = measure_full_size({"mae": 256, "align": 16})
    arguments.out.write_text(json.dumps(result | describe(), indent=2) + "\n")


if __name__ == "__main__":
    main()
