"""Evaluate ASUKA: against its own base model on held-out photos, or against anything by the field's protocols.

    python -m training.evaluate miniature --set photos=PHOTOS --set masks.objects=MASKS
    python -m training.evaluate training/configs/sd15/benchmark-misato.yaml
    python -m training.evaluate training/configs/sd15/benchmark-misato.yaml --compare ASUKA SD

`miniature` stands for training/configs/miniature/evaluate.yaml. A config with `methods` is a benchmark
(training.evaluation). Interrupted runs continue where they stopped.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from asuka_modules import checkpoints
from asuka_modules.checkpoints import CheckpointError
from asuka_modules.masking import fill_hole, reduce_mask

from . import metrics
from .claim import claim
from .config import ConfigError, load, read, require_same
from .data import DataConfig, find_photos, random_view
from .evaluation import benchmark
from .evaluation.benchmark import Benchmark
from .evaluation.comfyui import ComfyUIError
from .evaluation.hashes import sha256
from .evaluation.pairs import draw_mask, read_picture
from .evaluation.records import dumps, loads
from .frozen import load_frozen
from .masks import MaskConfig, Mixture
from .pictures import save_rows
from .precision import bf16_where_fast
from .sd import SCALE, LatentDiffusion

METHODS = {  # name -> (context, decoder)
    "plain base, stock decode": ("empty", "stock"),
    "plain base, harmonizing decode": ("empty", "harmonizing"),
    "prior, stock decode": ("prior", "stock"),
    "ASUKA": ("prior", "harmonizing"),
    "ASUKA, prior from SPL": ("spl", "harmonizing"),  # where SPL's weights are given
}
BASELINE, OURS = "plain base, stock decode", "ASUKA"
METRICS = {  # name -> (unit, is more better)
    "hole_psnr": ("dB", True),
    "seed_spread": ("grey levels", False),
    "boundary_gradient": ("grey levels", False),
    "colour_offset": ("grey levels", False),
}
EXAMPLES = 12
SHORTCUTS = {"miniature": "training/configs/miniature/evaluate.yaml"}


@dataclass(frozen=True)
class EvaluateRecipe:
    """Compare ASUKA with the same base model, empty context and stock decode."""

    base: str  # checkpoint with U-Net and autoencoder
    bundle: str  # MAE, alignment and decoder
    photos: str  # folder of held-out photos
    masks: MaskConfig
    out: str
    count: int = 100
    size: int = 256
    hole: tuple[float, float] = (0.1, 0.5)  # share of the image
    seeds: int = 4
    steps: int = 25
    seed: int = 20231204
    spl: str | None = None  # weights of SPL: also compare the prior of the picture that it makes

    def __post_init__(self):
        require_same("size", self.size, "masks.size", self.masks.size)


class Case:
    """The i-th photo, hole and noise; the same for all methods. Raises ValueError where no mask has such a hole."""

    def __init__(self, recipe: EvaluateRecipe, mixture: Mixture, photo: Path, i: int):
        rng = np.random.default_rng([recipe.seed, i])
        view = random_view(read_picture(photo), DataConfig(folders=(), size=recipe.size), rng)
        self.image = torch.from_numpy(np.ascontiguousarray(view)).permute(2, 0, 1).float()[None] / 255
        self.mask = torch.from_numpy(draw_mask(mixture, recipe.hole, rng)).float()[None, None]
        cells = recipe.size // 8
        self.noise = torch.from_numpy(rng.standard_normal((recipe.seeds, 4, cells, cells), "float32"))


class Methods:
    """The compared ways from a hole to pixels."""

    def __init__(self, recipe: EvaluateRecipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.base: LatentDiffusion = load_frozen(recipe.base).to(device)
        parts = checkpoints.load(recipe.bundle)
        if missing := {"mae", "alignment", "decoder"} - parts.keys():
            raise ConfigError(
                f"{recipe.bundle} holds no {' and no '.join(sorted(missing))}; training.export joins them"
            )
        self.networks: dict[str, nn.Module] = {
            name: part.build(device=device, dtype=torch.float32) for name, part in parts.items()
        }
        if recipe.spl:
            self.networks["spl"] = checkpoints.load_part(recipe.spl, "spl").build(device=device, dtype=torch.float32)

    @torch.inference_mode()
    def results(self, case: Case) -> dict[str, Tensor]:
        """What every method returns, without pasting: {name: (seeds, 3, H, W)}."""
        image, mask, noise = (x.to(self.device) for x in (case.image, case.mask, case.noise))
        cells = reduce_mask(mask, (mask.shape[-2] // 8, mask.shape[-1] // 8), "area")
        masked_latent = self.base.encode(fill_hole(image, F.interpolate(cells, scale_factor=8), 0.5))
        contexts = {
            "empty": self.base.empty_context,
            "prior": self.networks["alignment"](self.networks["mae"].prior(image, mask)),
        }
        if "spl" in self.networks:
            filled = torch.where(mask > 0.5, self.networks["spl"](image, mask)[0], image)
            contexts["spl"] = self.networks["alignment"](self.networks["mae"].prior(filled, torch.zeros_like(mask)))
        n = len(noise)
        image, mask, cells, masked_latent = (x.expand(n, -1, -1, -1) for x in (image, mask, cells, masked_latent))
        with bf16_where_fast(self.device):
            latents = {
                name: self.base.sample(noise, cells, masked_latent, context.expand(n, -1, -1), self.recipe.steps)
                for name, context in contexts.items()
            }
        decoders = {
            "stock": self.base.decode,
            "harmonizing": lambda latent: self.networks["decoder"](latent / SCALE, image, mask),
        }
        return {
            name: decoders[decoder](latents[context]).clamp(0, 1).cpu()
            for name, (context, decoder) in METHODS.items()
            if context in latents
        }


def measure(case: Case, results: Tensor) -> dict[str, float]:
    """All metrics of one method on one case, means over seeds; one seed has no spread."""
    image, mask = (x.expand(len(results), -1, -1, -1) for x in (case.image, case.mask))
    values = {
        "hole_psnr": metrics.hole_psnr(results, image, mask).mean(),
        "boundary_gradient": metrics.boundary_gradient(results, image, mask).mean(),
        "colour_offset": metrics.colour_offset(results, image, mask).mean(),
    }
    if len(results) > 1:
        values["seed_spread"] = metrics.seed_spread(results[:, None], case.mask)
    return {name: float(value) for name, value in values.items()}


def run(recipe: EvaluateRecipe) -> dict:
    out = Path(recipe.out)
    settings = {key: value for key, value in asdict(recipe).items() if key not in ("out", "count")}
    weights = {path: sha256(Path(path)) for path in (recipe.base, recipe.bundle, recipe.spl) if path}
    claim(out, {**settings, "weights": weights})
    photos = find_photos((recipe.photos,))
    if len(photos) < recipe.count:
        raise ConfigError(f"{recipe.photos} has {len(photos)} photos, fewer than count, {recipe.count}")
    order = np.random.default_rng(recipe.seed).permutation(len(photos))[: recipe.count]
    log = out / "images.jsonl"
    done = [loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if any(row["photo"] != photos[index].name for row, index in zip(done, order, strict=False)):
        raise ConfigError(f"{out} is of other photos than are in {recipe.photos} now; remove it, or choose another out")
    methods, mixture, examples = None, Mixture(recipe.masks), []
    for i, index in enumerate(tqdm(order, desc="evaluate", unit="photo", dynamic_ncols=True)):
        if i < len(done) and i >= EXAMPLES:
            continue
        methods = methods or Methods(recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        case = Case(recipe, mixture, photos[index], i)
        results = methods.results(case)
        if i < EXAMPLES:
            pasted = [case.image * (1 - case.mask) + results[name][:1] * case.mask for name in (BASELINE, OURS)]
            examples.append([case.image * (1 - case.mask) + case.mask / 2, *pasted, case.image])
        if i >= len(done):
            done.append({"photo": photos[index].name, **{name: measure(case, r) for name, r in results.items()}})
            with log.open("a") as file:
                file.write(dumps(done[-1]) + "\n")
    save_rows(out / "examples.png", [torch.cat(row) for row in zip(*examples, strict=True)])
    summary = summarize(done[: recipe.count])
    (out / "results.json").write_text(dumps(summary, indent=2) + "\n")
    (out / "results.md").write_text(table(summary, recipe))
    return summary


def summarize(images: list[dict]) -> dict:
    """Means of every metric and method, and ASUKA's paired difference to the baseline with its 95 % interval."""
    names = [name for name in METHODS if name in images[0]]
    measured = [m for m in METRICS if all(m in image[OURS] for image in images)]
    values = {m: {name: np.array([image[name][m] for image in images]) for name in names} for m in measured}
    return {
        "images": len(images),
        "means": {m: {name: float(v.mean()) for name, v in by_name.items()} for m, by_name in values.items()},
        "difference": {m: metrics.paired_bootstrap(v[OURS], v[BASELINE]) for m, v in values.items()},
    }


def table(summary: dict, recipe: EvaluateRecipe) -> str:
    """The results as Markdown."""
    names = list(next(iter(summary["means"].values())))
    lines = [
        f"{summary['images']} photos at {recipe.size} px, holes of {recipe.hole[0]:.0%} to {recipe.hole[1]:.0%}, "
        f"{recipe.seeds} seeds, {recipe.steps} steps; raw decoder output, nothing pasted.\n",
        f"| | {' | '.join(names)} | {OURS} - baseline (95 % interval) |",
        f"|---|{'---|' * (len(names) + 1)}",
    ]
    for metric in summary["means"]:
        unit, more = METRICS[metric]
        mean, low, high = summary["difference"][metric]
        cells = " | ".join(f"{summary['means'][metric][name]:.2f}" for name in names)
        better = "more" if more else "less"
        lines.append(
            f"| {metric.replace('_', ' ')} ({unit}, {better} is better) | {cells} | {mean:+.2f} ({low:+.2f} to {high:+.2f}) |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("config", help="YAML file; see training/configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value, e.g. seeds=1"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help="a benchmark of these methods alone")
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar=("A", "B"),
        help="print how methods of a finished benchmark differ: A - B for each B",
    )
    arguments = parser.parse_args()
    if arguments.compare and len(arguments.compare) < 2:
        parser.error("--compare takes two methods or more")
    path = SHORTCUTS.get(arguments.config, arguments.config)
    try:
        if "methods" not in load(Path(path)):
            if arguments.compare or arguments.only:
                parser.error(f"--compare and --only are for benchmarks; {path} compares {OURS} with {BASELINE} already")
            run(read(EvaluateRecipe, path, arguments.set))
            return
        recipe = read(Benchmark, path, arguments.set)
        if arguments.compare:
            first, *others = arguments.compare
            sys.stdout.write("\n".join(benchmark.compare_methods(recipe, first, other) for other in others))
        else:
            benchmark.run(benchmark.pick(recipe, arguments.only))
    except (CheckpointError, ComfyUIError, ConfigError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
