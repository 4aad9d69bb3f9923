"""The model card of exported weights: what each part is and what it took, from the run folders that made them."""

import csv
import json
from pathlib import Path

from asuka_modules import checkpoints

COLUMNS = ["part", "parameters", "steps", "batch", "learning rate", "loss, last tenth", "hours", "hardware"]


def card(title: str, parts: dict[str, Path], info: dict[str, str]) -> str:
    """Markdown: one row per part, the figures of its run where the file still lies in the run's folder; then `info`."""
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for name, path in parts.items():
        size = sum(tensor.numel() for tensor in checkpoints.load_part(path, name).state_dict.values())
        rows.append([name, f"{size / 1e6:.2f} M", *run_figures(run_folder(path))])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    facts = "\n".join(f"- {key}: {value}" for key, value in info.items())
    return f"# {title}\n\n{table}\n\n{facts}\n"


def run_folder(path: Path) -> Path:
    """Of the run that wrote these weights; it keeps the best in a folder of their own."""
    return path.parent.parent if path.parent.name == "best" else path.parent


def run_figures(folder: Path) -> list[str]:
    """Steps, batch, learning rate, loss, hours and hardware of the run in that folder; empty where there is none."""
    if not (folder / "run.json").exists():
        return [""] * (len(COLUMNS) - 2)
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
