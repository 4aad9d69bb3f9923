"""The model card of exported weights: what each part is and what it took, from the run folders that made them."""

from pathlib import Path

from safetensors import safe_open

from asuka_modules import checkpoints
from asuka_modules.alignment import VARIANTS, AlignmentConfig
from asuka_modules.decoder import BASE, DecoderConfig
from asuka_modules.mae import MAEConfig

from ..engine.config import ConfigError
from ..engine.log import LOG, VALIDATION
from ..engine.run_folder import BEST, BEST_NOTE, RUN_NOTE, read_json
from ..engine.tables import read_rows
from ..evaluation.hashes import sha256

COLUMNS = ["part", "variant", "parameters", "steps", "batch", "learning rate", "loss, last tenth", "hours", "hardware"]


def card(title: str, parts: dict[str, Path], info: dict[str, str]) -> str:
    """Markdown: one row for each part, with the figures of its run where the file still lies in the run's folder; then what
    each part was made from, and `info`. Raises ConfigError for a run whose run.json is damaged."""
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    facts: dict[str, str] = {}
    for name, path in parts.items():
        part, run = checkpoints.load_part(path, name), read_run(path)
        size = sum(tensor.numel() for tensor in part.state_dict.values())
        figures = run_figures(run, path) if run else [""] * (len(COLUMNS) - 3)
        rows.append([name, describe(name, part.config), f"{size / 1e6:.2f} M", *figures])
        facts |= {f"{fact} of {name}": text for fact, text in origins(run, path).items()}
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# {title}\n\n{table}\n\n" + "\n".join(f"- {key}: {value}" for key, value in (facts | info).items()) + "\n"


def origins(run: dict, path: Path) -> dict[str, str]:
    """What a part was made from: its run's photos, frozen base and start, or where a file that no run here made came from."""
    if not run:
        with safe_open(path, "pt") as file:
            source = (file.metadata() or {}).get("converted from", "no run here; its own source is not known")
        return {"source": f"{path.name}, SHA-256 {sha256(path)}: {source}"}
    recipe, facts = run.get("recipe", {}), {}
    if folders := recipe.get("latents", recipe).get("data", {}).get("folders"):
        facts["photos"] = ", ".join(folders)
    for fact in ("base", "mae", "init"):
        if recipe.get(fact):
            facts[fact] = recipe[fact]
    if best := read_best(path):
        losses = ", ".join(f"{key} {value:.4g}" for key, value in best["validation"].items())
        facts["validation"] = f"{losses}, the lowest of the run's, at step {best['step']}"
    return facts


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
    return path.parent.parent if path.parent.name == BEST else path.parent


def read_run(path: Path) -> dict:
    """What the run that wrote these weights noted of itself; empty where they no longer lie in its folder.

    Raises ConfigError where it is damaged.
    """
    note = run_folder(path) / RUN_NOTE
    run = read_json(note)
    if run is None and note.exists():
        raise ConfigError(f"{note} is damaged; start its run's command again, which mends it, or remove it")
    return run or {}


def read_best(path: Path) -> dict | None:
    """{"step": ..., "validation": losses} of a run's best weights, empty where the run died while it wrote them; None for
    other weights."""
    if path.parent.name != BEST:
        return None
    if (note := read_json(path.parent / BEST_NOTE)) is not None:
        return note
    validations = [  # of a run by an older version, without a note
        (int(row["step"]), {key: float(value) for key, value in row.items() if key != "step" and value})
        for row in read_rows(run_folder(path) / VALIDATION)
    ]
    step, losses = min(validations, key=lambda item: sum(item[1].values()), default=(None, {}))
    return {"step": step, "validation": losses} if losses else None


def run_figures(run: dict, path: Path) -> list[str]:
    """Steps, batch, learning rate, loss, hours and hardware of the run that wrote these weights, up to their step."""
    best, rows = read_best(path), read_rows(run_folder(path) / LOG)
    rows = [row for row in rows if row.get("loss") and row.get("images_per_second")]
    steps = rows[-1]["step"] if rows else ""
    if best is not None:
        rows = [row for row in rows if int(row["step"]) <= best.get("step", 0)]
        steps = str(best.get("step", ""))
    tail = rows[-max(1, len(rows) // 10) :]
    loss = f"{sum(float(row['loss']) for row in tail) / len(tail):.4g}" if rows else ""
    hours, before = 0.0, 0
    for row in rows:
        images = (int(row["step"]) - before) * run["batch_size"]
        hours += images / float(row["images_per_second"]) / 3600
        before = int(row["step"])
    batch, lr = str(run["batch_size"]), f"{run['lr']:g}"
    return [steps, batch, lr, loss, f"{hours:.2f}" if rows else "", run["hardware"]]
