"""The model card of exported weights: what each part is and what it took, from the run folders that made them."""

import csv
import json
from pathlib import Path

from asuka_modules import checkpoints
from asuka_modules.alignment import VARIANTS, AlignmentConfig
from asuka_modules.decoder import BASE, DecoderConfig
from asuka_modules.mae import MAEConfig

COLUMNS = ["part", "variant", "parameters", "steps", "batch", "learning rate", "loss, last tenth", "hours", "hardware"]


def card(title: str, parts: dict[str, Path], info: dict[str, str]) -> str:
    """Markdown: one row per part, and the figures and photos of its run where the file still lies in the run's folder; then
    `info`."""
    rows, photos = [COLUMNS, ["---"] * len(COLUMNS)], {}
    for name, path in parts.items():
        part, folder = checkpoints.load_part(path, name), run_folder(path)
        size = sum(tensor.numel() for tensor in part.state_dict.values())
        rows.append([name, describe(name, part.config), f"{size / 1e6:.2f} M", *run_figures(folder)])
        photos |= {f"photos of {name}": ", ".join(found) for found in [trained_on(folder)] if found}
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    facts = "\n".join(f"- {key}: {value}" for key, value in (photos | info).items())
    return f"# {title}\n\n{table}\n\n{facts}\n"


def describe(part: str, config: object) -> str:
    """The paper's name for a shape, or the shape."""
    if isinstance(config, MAEConfig):
        return f"ViT {config.depth} x {config.embed_dim}" + (", partial patches" if config.partial_patches else "")
    if isinstance(config, AlignmentConfig):
        kind = (config.depth, config.num_queries)
        return next(
            (name for name, known in VARIANTS.items() if (known.depth, known.num_queries) == kind), f"{kind[0]} blocks"
        )
    if isinstance(config, DecoderConfig):
        return f"{config.ch / BASE.ch:g} x the VAE's width, {config.num_res_blocks} blocks a level"
    return part


def run_folder(path: Path) -> Path:
    """Of the run that wrote these weights; it keeps the best in a folder of their own."""
    return path.parent.parent if path.parent.name == "best" else path.parent


def trained_on(folder: Path) -> list[str]:
    """The folders, lists or shards of photos of the run in that folder; empty where it is not known."""
    if not (folder / "run.json").exists():
        return []
    recipe = json.loads((folder / "run.json").read_text()).get("recipe", {})
    return recipe.get("latents", recipe).get("data", {}).get("folders", [])


def run_figures(folder: Path) -> list[str]:
    """Steps, batch, learning rate, loss, hours and hardware of the run in that folder; empty where there is none."""
    if not (folder / "run.json").exists():
        return [""] * (len(COLUMNS) - 3)
    run = json.loads((folder / "run.json").read_text())
    with (folder / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    tail = log[-max(1, len(log) // 10) :]
    loss = sum(float(row["loss"]) for row in tail) / len(tail)
    hours, before = 0.0, 0
    for row in log:
        images = (int(row["step"]) - before) * run["batch_size"]
        hours += images / float(row["images_per_second"]) / 3600
        before = int(row["step"])
    return [log[-1]["step"], str(run["batch_size"]), f"{run['lr']:g}", f"{loss:.4g}", f"{hours:.2f}", run["hardware"]]
