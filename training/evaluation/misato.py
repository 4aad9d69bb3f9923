"""Builds MISATO, the paper's test set, from the four data sets that it is taken from (ASUKA, sec. 4).

    python -m training.evaluation.misato training/configs/sd15/misato.yaml

Every set is clustered by its CLIP features, and the photo nearest to each center is taken. The licenses allow no copies, so
what can be passed on is the manifest: which photo, which crop, which mask. Where it exists the choice is taken from it.
"""

from ..engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("evaluation.misato", __doc__, dry_run=False)

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from sklearn.cluster import BisectingKMeans
from tqdm.auto import tqdm

from ..data import find_photos, read_photo
from ..engine.config import ConfigError
from ..masks import MaskConfig, Mixture
from .coco import Foregrounds, read_stored
from .features import FeatureCache
from .hashes import sha256
from .networks import NETWORKS
from .pairs import DOMAINS, PER_DOMAIN, center_crop, crop_box

log = logging.getLogger(__name__)
Extract = Callable[[Iterable[np.ndarray]], np.ndarray]  # images (H, W, 3) uint8 -> features (N, D)
MIN_HOLE = 0.05  # share of the photo that the foreground must leave of a hole
MIN_WHOLE = 0.5  # share of such a hole that must be one piece
DRAWS = 20  # masks to try on a photo


@dataclass(frozen=True)
class MisatoRecipe:
    """Choose MISATO's photos, or take the choice from a manifest, and write images and masks."""

    masks: MaskConfig
    out: str
    outdoor: str | None = None  # folder of Flickr-Landscape
    indoor: str | None = None  # of Matterport3D
    building: str | None = None  # of MegaDepth
    background: str | None = None  # of COCO 2014; not in the version of 1024 pixels
    coco: str | None = None  # instance annotations of the background photos, so that no mask covers an object
    count: int = 500  # photos of each domain
    size: int = 512
    seed: int = 20231204
    normalize: bool = True  # features to length 1; the paper does not say
    weights: str = "weights/metrics"  # folder for CLIP's weights

    @property
    def folders(self) -> dict[str, str]:
        """Domain -> folder of photos, of those that are given; at 1024 pixels there is no background."""
        domains = DOMAINS[:3] if self.size == 1024 else DOMAINS
        return {domain: folder for domain in domains if (folder := getattr(self, domain))}

    def __post_init__(self):
        if self.count > PER_DOMAIN:
            raise ConfigError(f"count is {self.count}, expected {PER_DOMAIN} or less: a pair's number tells its domain")
        if self.background and not self.coco:
            raise ConfigError(
                "background needs coco, the instance annotations of its photos: no hole may cover an object"
            )


def nearest_to_centers(features: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Features (N, D) -> of each of `count` clusters its members' numbers, the nearest to the center first.

    Raises ConfigError for fewer photos than clusters.
    """
    if len(features) < count:
        raise ConfigError(f"{len(features)} different photos are too few for {count} clusters")
    clusters = BisectingKMeans(count, random_state=seed).fit(features)
    distances = np.linalg.norm(features - clusters.cluster_centers_[clusters.labels_], axis=1)
    order = np.argsort(distances, kind="stable")
    return [order[clusters.labels_[order] == label] for label in range(count)]


def draw_hole(
    mixture: Mixture, size: int, foreground: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray | None:
    """A mask (size, size) uint8, 255 in the hole, off the foreground; None where none of some draws leaves enough of it."""
    for _ in range(DRAWS):
        mask = cv2.resize(mixture(rng), (size, size), interpolation=cv2.INTER_NEAREST)
        if foreground is None:
            return mask * 255
        mask = mask & ~foreground
        _, _, pieces, _ = cv2.connectedComponentsWithStats(mask)
        largest = pieces[1:, cv2.CC_STAT_AREA].max(initial=0)
        if mask.mean() >= MIN_HOLE and largest >= MIN_WHOLE * mask.sum():
            return mask * 255
    return None


def distinct(files: Sequence[Path]) -> dict[str, Path]:
    """SHA-256 -> file, of identical files the first."""
    found: dict[str, Path] = {}
    for file in tqdm(files, desc="hash", unit="photo", dynamic_ncols=True):
        found.setdefault(sha256(file), file)
    return found


def read_source(file: Path, domain: str) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB; None where it is no readable image."""
    return read_stored(file) if domain == "background" else read_photo(file)


def read_chosen(file: Path, domain: str) -> np.ndarray:
    """A photo that was readable before, (H, W, 3) uint8. Raises ConfigError for one that no longer is."""
    photo = read_source(file, domain)
    if photo is None:
        raise ConfigError(f"{file}: not a readable image any more; put the original back")
    return photo


def describe(photos: dict[str, Path], domain: str, extract: Extract) -> tuple[list[str], np.ndarray]:
    """The hashes of those photos that are readable, and their features (N, D). Others are named and counted in the log."""
    readable = []

    def images() -> Iterator[np.ndarray]:
        skipped = 0
        for digest, file in tqdm(photos.items(), desc="features", unit="photo", dynamic_ncols=True):
            if (image := read_source(file, domain)) is None:
                skipped += 1
                log.warning("%s: not a readable image, skipped (%d so far)", file, skipped)
                continue
            readable.append(digest)
            yield image

    features = extract(images())
    return readable, features


def choose(recipe: MisatoRecipe, extract: Extract) -> list[dict]:
    """The manifest: of every pair its number, domain, file below its folder, crop, mask seed and hashes."""
    mixture, manifest = Mixture(recipe.masks), []
    for domain, folder in recipe.folders.items():
        foregrounds = Foregrounds(recipe.coco) if domain == "background" and recipe.coco else None
        photos = distinct(find_photos((folder,)))
        hashes, features = describe(photos, domain, extract)
        if recipe.normalize:
            features = features / np.linalg.norm(features, axis=1, keepdims=True)
        for i, members in enumerate(nearest_to_centers(features, recipe.count, recipe.seed)):
            number = DOMAINS.index(domain) * PER_DOMAIN + i  # the number tells the domain
            for member in members:
                file = photos[hashes[member]]
                photo = read_chosen(file, domain)
                foreground = foregrounds.crop(file.name, photo.shape[:2], recipe.size) if foregrounds else None
                mask = draw_hole(mixture, recipe.size, foreground, np.random.default_rng([recipe.seed, number]))
                if mask is not None:
                    break
            else:
                raise ConfigError(f"{folder}: objects leave no room for a hole in any photo like {file.name}")
            manifest.append(
                {
                    "name": f"{number:04d}",
                    "domain": domain,
                    "file": file.relative_to(folder).as_posix(),
                    "sha256": hashes[member],
                    "crop": crop_box(photo),  # left, top, side
                    "mask_seed": [recipe.seed, number],
                    "hole": round(float((mask > 0).mean()), 4),
                }
            )
    return manifest


def write(recipe: MisatoRecipe, manifest: list[dict]) -> None:
    """Writes the images and masks of a manifest. Raises ConfigError for a photo or a mask that is not the one chosen."""
    folder, mixture = Path(recipe.out, str(recipe.size)), Mixture(recipe.masks)
    for kind in ("image", "mask"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    foregrounds = Foregrounds(recipe.coco) if recipe.coco else None
    entries = [entry for entry in manifest if entry["domain"] in recipe.folders]
    for entry in tqdm(entries, desc="write", unit="photo", dynamic_ncols=True):
        file = Path(recipe.folders[entry["domain"]], entry["file"])
        if (found := sha256(file)) != entry["sha256"]:
            raise ConfigError(f"{file} has SHA-256 {found}, not the manifest's {entry['sha256']}; it is another photo")
        photo, foreground = read_chosen(file, entry["domain"]), None
        if entry["domain"] == "background" and foregrounds:
            foreground = foregrounds.crop(file.name, photo.shape[:2], recipe.size)
        mask = draw_hole(mixture, recipe.size, foreground, np.random.default_rng(entry["mask_seed"]))
        if mask is None or abs((mask > 0).mean() - entry["hole"]) > 1e-3:  # rounded there
            raise ConfigError(
                f"{file}: its mask is not the manifest's; masks or coco differ from those it was made with"
            )
        prefix = "00" if recipe.size == 1024 else ""
        Image.fromarray(center_crop(photo, recipe.size)).save(folder / "image" / f"{entry['name']}.png")
        Image.fromarray(mask).save(folder / "mask" / f"{prefix}{entry['name']}.png")


def run(recipe: MisatoRecipe, extract: Extract) -> None:
    path = Path(recipe.out, "manifest.json")
    if path.exists():
        manifest = json.loads(path.read_text())
        if missing := recipe.folders.keys() - {entry["domain"] for entry in manifest}:
            raise ConfigError(f"{path} has no {', '.join(sorted(missing))}; remove it, or choose another out")
    else:
        manifest = choose(recipe, extract)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest, indent=1) + "\n")
    write(recipe, manifest)


def clip_features(recipe: MisatoRecipe) -> Extract:
    def extract(images: Iterable[np.ndarray]) -> np.ndarray:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = NETWORKS["clip-vit-l-14"](Path(recipe.weights), device)
        return FeatureCache(network, Path(recipe.out, "features"))(images)

    return extract


if __name__ == "__main__":
    main(arguments, MisatoRecipe, lambda recipe: run(recipe, clip_features(recipe)))
