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
        part, run = checkpoints.load_part(path, name), read_run(path)
        size = sum(tensor.numel() for tensor in part.state_dict.values())
        figures = run_figures(run, run_folder(path) / "log.csv") if run else [""] * (len(COLUMNS) - 3)
        rows.append([name, describe(name, part.config), f"{size / 1e6:.2f} M", *figures])
        recipe = run.get("recipe", {})
        if folders := recipe.get("latents", recipe).get("data", {}).get("folders"):
            photos[f"photos of {name}"] = ", ".join(folders)
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


def read_run(path: Path) -> dict:
    """What the run that wrote these weights noted of itself; empty where they no longer lie in its folder."""
    noted = run_folder(path) / "run.json"
    return json.loads(noted.read_text()) if noted.exists() else {}


def run_figures(run: dict, path: Path) -> list[str]:
    """Steps, batch, learning rate, loss, hours and hardware of a run, with the log at `path`."""
    with path.open(newline="") as file:
        log = list(csv.DictReader(file))
    tail = log[-max(1, len(log) // 10) :]
    loss = sum(float(row["loss"]) for row in tail) / len(tail)
    hours, before = 0.0, 0
    for row in log:
        images = (int(row["step"]) - before) * run["batch_size"]
        hours += images / float(row["images_per_second"]) / 3600
        before = int(row["step"])
    return [log[-1]["step"], str(run["batch_size"]), f"{run['lr']:g}", f"{loss:.4g}", f"{hours:.2f}", run["hardware"]]
