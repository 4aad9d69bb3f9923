"""Runs every method on every pair, image by image, and measures what came out."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm.auto import tqdm

from asuka_modules.atomic import atomic_write

from ..engine.config import ConfigError
from ..engine.git_revision import git_revision
from ..engine.manifest import check_manifest
from .comfyui import ComfyUIConfig
from .compare import Difference, compare, differences, fid_difference, read_images
from .features import FeatureCache
from .graphs import Diffusion
from .hashes import sha256
from .inpaint_input import InpaintInput, Method, prepare_input
from .methods import ComfyUIMethod, MethodConfig, make_method
from .networks import NETWORKS, Perceptual
from .pairs import Pair, PairsConfig, open_pairs, read_image, spread
from .pixels import composite
from .protocols import PROTOCOLS, Networks, measure, measure_set
from .pytorch import PyTorchConfig, Stack, WeightsConfig
from .records import dumps, without_nan
from .report import write_report

INPUT_DIGEST = "question"  # of an image's file, beside those of what made it
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "scikit-image",
    "lpips",
    "spandrel",
    "timm",
    "transformers",
)
SEED_STRIDE = 1_000_000  # between the seeds of one image, so that no two images share one


@dataclass(frozen=True)
class Benchmark:
    """Compare methods on pairs of photo and hole by one of the field's two protocols."""

    pairs: PairsConfig
    methods: tuple[MethodConfig, ...]
    out: str  # a run that is in it already is continued
    comfyui: ComfyUIConfig | None = None  # for methods by `diffusion`
    pytorch: WeightsConfig | None = None  # for methods by `pytorch`
    protocol: Literal["asuka", "comod"] = "asuka"
    features: str | None = None  # another feature network than the protocol's own; "none": no FID, U-IDS and P-IDS
    lpips: bool = True
    clip: bool = True
    weights: str = "weights/metrics"  # folder for the weights of the metrics' networks
    seeds: int = 1
    seed: int = 20231204
    pictures: int = 50  # shown in the report, evenly over the pairs
    ours: str | None = None  # a method whose paired differences from all others are in the report

    def __post_init__(self):
        if len({method.name for method in self.methods}) < len(self.methods):
            raise ConfigError("methods: two have the same name; results are told apart by it")
        if self.ours and self.ours not in (names := [method.name for method in self.methods]):
            raise ConfigError(f"ours is {self.ours!r}, expected one of {', '.join(names)}")


def pick(recipe: Benchmark, names: Sequence[str]) -> Benchmark:
    """The same of some of its methods alone; of all for no names. Raises ConfigError for one that it does not have."""
    known = [method.name for method in recipe.methods]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no method {unknown[0]!r}, only {', '.join(known)}")
    methods = tuple(method for method in recipe.methods if not names or method.name in names)
    ours = recipe.ours if any(method.name == recipe.ours for method in methods) else None
    return replace(recipe, methods=methods, ours=ours)


def run(recipe: Benchmark) -> dict:
    """Writes results.json, results.md, index.html and plots/ into `recipe.out`, and returns what results.json holds."""
    out = Path(recipe.out)
    networks = load_networks(recipe, out)  # what is missing is told before the long part
    pairs = open_pairs(recipe.pairs)
    stack = Stack(recipe.pytorch) if recipe.pytorch and any(config.pytorch for config in recipe.methods) else None
    methods = {
        config.name: make_method(config, recipe.comfyui, stack, pairs.names, recipe.seeds) for config in recipe.methods
    }
    for config in recipe.methods:
        check_manifest(
            out / "pictures" / config.name, {"method": asdict(config), "weights": methods[config.name].weights}
        )
    for _, group in groupby(recipe.methods, without_decoder):
        together = {config.name: methods[config.name] for config in group}
        generate(together, pairs, recipe, out)
    images = measure_pairs(methods, pairs, recipe, networks, out)
    sets = score_sets(methods, pairs, images, recipe, networks, out)
    results = without_nan(summarize(methods, images, sets, recipe, networks))
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (out / "images.jsonl").write_text("".join(dumps(image) + "\n" for image in images))
    found = {}
    if recipe.ours:
        others = [name for name in methods if name != recipe.ours]
        found = {other: differ(recipe.ours, other, results, images, pairs, networks, out) for other in others}
    write_report(out, results, images, spread(pairs, recipe.pictures), found)
    return results


def load_networks(recipe: Benchmark, out: Path) -> Networks:
    folder, cache = Path(recipe.weights), out / "features"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = recipe.features or PROTOCOLS[recipe.protocol].features
    if features not in {*NETWORKS, "none"}:
        raise ConfigError(f"features is {features!r}, expected none or one of {', '.join(NETWORKS)}")
    return Networks(
        None if features == "none" else FeatureCache(NETWORKS[features](folder, device), cache),
        Perceptual(folder, device) if recipe.lpips else None,
        FeatureCache(NETWORKS["clip-vit-l-14"](folder, device), cache) if recipe.clip else None,
    )


def seeds(method: Method, recipe: Benchmark) -> int:
    return recipe.seeds if method.uses_seed else 1


def result_path(out: Path, method: str, pair: str, seed: int) -> Path:
    return out / "pictures" / method / f"{pair}-{seed}.png"


def without_decoder(config: MethodConfig) -> Diffusion | PyTorchConfig | str:
    """A key that methods share if they differ only in the decoder. Run one after the other on an image, they share its latent,
    which ComfyUI or the stack keeps."""
    if config.pytorch:
        return replace(config.pytorch, decoder="stock", close_seam=False)
    return replace(config.diffusion, decoder=None, close_seam=False) if config.diffusion else config.name


def generate(methods: dict[str, Method], pairs: Sequence[Pair], recipe: Benchmark, out: Path) -> None:
    """Make the images that are missing, or whose photo or mask has changed. A pair's noise is the same for all methods, and for any count of pairs.

    Raises ConfigError for an image of another size than the photo's.
    """
    makers = {name: provenance(method) for name, method in methods.items()}
    for pair in tqdm(pairs, desc=", ".join(methods), unit="photo", dynamic_ncols=True):
        for seed in range(recipe.seeds):
            inputs = prepare_input(
                pair.name, pair.image, pair.mask, recipe.seed + pair.number + SEED_STRIDE * seed, seed
            )
            for name, method in methods.items():
                path = result_path(out, name, pair.name, seed)
                if seed < seeds(method, recipe) and (not path.exists() or noted(path, INPUT_DIGEST) != inputs.digest):
                    save_result(path, method(inputs), inputs, name, makers[name])


def provenance(method: Method) -> dict[str, str]:
    """What makes a method's images now, besides its weights."""
    return {"commit": git_revision()} | (
        {"comfyui": method.server.version} if isinstance(method, ComfyUIMethod) else {}
    )


def save_result(path: Path, result: np.ndarray, inputs: InpaintInput, name: str, makers: dict[str, str]) -> None:
    if result.shape != inputs.image.shape:
        found, expected = (f"{w}x{h}" for h, w, _ in (result.shape, inputs.image.shape))
        raise ConfigError(f"{name} made {inputs.name} {found}; expected {expected}")
    note = PngInfo()
    for key, text in {INPUT_DIGEST: inputs.digest, **makers}.items():
        note.add_text(key, text)
    with atomic_write(path) as partial:
        Image.fromarray(result).save(partial, "png", pnginfo=note)


def noted(path: Path, key: str) -> str | None:
    """One of an image's notes, or None."""
    with Image.open(path) as image:
        return image.info.get(key)


def measure_pairs(
    methods: dict[str, Method], pairs: Sequence[Pair], recipe: Benchmark, networks: Networks, out: Path
) -> list[dict]:
    """The metrics of every pair: {"name", "domain", "methods": {method: {metric: value}}}."""
    images = []
    for pair in tqdm(pairs, desc="measure", unit="photo", dynamic_ncols=True):
        values = {}
        for name, method in methods.items():
            results = [read_image(result_path(out, name, pair.name, seed)) for seed in range(seeds(method, recipe))]
            values[name] = measure(results, pair.image, pair.mask, networks)
        images.append({"name": pair.name, "domain": pair.domain, "methods": values})
    return images


def set_features(name: str, seed: int, pairs: Sequence[Pair], features: FeatureCache, out: Path) -> np.ndarray:
    """Features (N, D) of a method's composites of one seed."""
    return features(
        composite(read_image(result_path(out, name, pair.name, seed)), pair.image, pair.mask) for pair in pairs
    )


def score_sets(
    methods: dict[str, Method],
    pairs: Sequence[Pair],
    images: list[dict],
    recipe: Benchmark,
    networks: Networks,
    out: Path,
) -> dict[str, list[dict]]:
    """FID of every method, seed by seed; adds U-IDS and P-IDS, means over seeds, to the metrics of `images`."""
    found: dict[str, list[dict]] = {name: [] for name in methods}
    if not networks.features:
        return found
    real = networks.features(pair.image for pair in pairs)
    for name, method in methods.items():
        by_pair = []
        for seed in range(seeds(method, recipe)):
            fake = set_features(name, seed, pairs, networks.features, out)
            scores, each = measure_set(fake, real, recipe.pairs.size, PROTOCOLS[recipe.protocol])
            found[name].append(scores)
            by_pair.append(each)
        for metric in set.intersection(*(set(each) for each in by_pair)):
            for image, value in zip(images, np.mean([each[metric] for each in by_pair], axis=0), strict=True):
                image["methods"][name][metric] = float(value)
    return found


def summarize(
    methods: dict[str, Method], images: list[dict], sets: dict[str, list[dict]], recipe: Benchmark, networks: Networks
) -> dict:
    """What results.json holds: how it was measured, and for every method its means, each seed's FID, and by what its images
    were made, which may have been earlier."""
    domains = Counter(image["domain"] for image in images)
    versions = {name: version(name) for name in LIBRARIES}
    found = {}
    for name, method in methods.items():
        if isinstance(method, ComfyUIMethod):
            versions["comfyui"] = method.server.version
        paths = [
            result_path(Path(recipe.out), name, image["name"], seed)
            for image in images
            for seed in range(seeds(method, recipe))
        ]
        found[name] = {
            "means": means(image["methods"][name] for image in images),
            "domains": {
                domain: means(image["methods"][name] for image in images if image["domain"] == domain)
                for domain in domains
            },
            "sets": sets[name],
            "seeds": seeds(method, recipe),
            "weights": method.weights,
            "made_by": {key: sorted({noted(path, key) or "unknown" for path in paths}) for key in provenance(method)},
        }
    return {
        "protocol": recipe.protocol,
        "features": networks.features.network.name if networks.features else None,
        "pairs": len(images),
        "domains": domains,
        "recipe": asdict(recipe),
        "commit": git_revision(),
        "versions": versions,
        "networks": {path.name: sha256(path) for path in sorted(Path(recipe.weights).rglob("*")) if path.is_file()},
        "methods": found,
    }


def compare_methods(recipe: Benchmark, a: str, b: str) -> str:
    """How two methods of a finished run differ, as Markdown. Raises FileNotFoundError for a run that is not finished,
    ConfigError for a method that it does not have, and for other pairs or features than it was measured with."""
    out = Path(recipe.out)
    images = read_images(out)
    known = images[0]["methods"]
    for name in (a, b):
        if name not in known:
            raise ConfigError(f"no method {name!r} in {out}, only {', '.join(known)}")
    networks = load_networks(replace(recipe, lpips=False, clip=False), out)
    pairs, results = open_pairs(recipe.pairs), json.loads((out / "results.json").read_text())
    if networks.features:
        require_run(out, results, images, pairs.names, networks.features.network.name)
    return compare(a, b, differ(a, b, results, images, pairs, networks, out))


def differ(
    a: str, b: str, results: dict, images: list[dict], pairs: Sequence[Pair], networks: Networks, out: Path
) -> dict[str, Difference]:
    """The paired differences of two methods; of the FID, too, if there is one."""
    fid = None
    if networks.features and len(pairs) > 1:
        first, second = (
            np.stack(
                [
                    set_features(name, seed, pairs, networks.features, out)
                    for seed in range(results["methods"][name]["seeds"])
                ]
            )
            for name in (a, b)
        )
        fid = fid_difference(first, second, networks.features(pair.image for pair in pairs))
    return differences(images, a, b, fid)


def require_run(out: Path, results: dict, images: list[dict], names: Sequence[str], features: str) -> None:
    """Raises ConfigError where a config's pairs or feature network are not those of the finished run."""
    if features != results["features"]:
        raise ConfigError(
            f"features is {features} but {out} was measured with {results['features'] or 'none'}; set features to that, or to none"
        )
    measured = [image["name"] for image in images]
    if list(names) != measured:
        found, expected = (f"{len(x)} pairs ({x[0]} to {x[-1]})" for x in (names, measured))
        raise ConfigError(
            f"pairs has {found} but {out} was measured on {expected}; set pairs to those, or run it again"
        )


def means(values) -> dict[str, float]:
    """Means over the images that have a metric, NaN where none has: a mask without an outline has no Grad, a photo
    without texture no share of it."""
    values = list(values)
    columns = {metric: np.array([value[metric] for value in values]) for metric in values[0]}
    found = {metric: column[np.isfinite(column)] for metric, column in columns.items()}
    return {metric: float(column.mean()) if len(column) else math.nan for metric, column in found.items()}
