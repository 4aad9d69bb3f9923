"""Join trained parts into the one file that Load ASUKA loads, with a model card beside it.

The command is `python -m training.export`.
"""

import json
from pathlib import Path

import torch

from asuka_modules import checkpoints
from asuka_modules.atomic import atomic_write

from ..engine import parsers
from ..engine.config import ConfigError
from ..engine.git_revision import git_revision
from .card import card, describe, read_run


def export(parts: dict[str, Path], out: Path, dtype: torch.dtype, info: dict[str, str]) -> None:
    """Writes the named parts of the given files into `out`, and a model card beside it. The metadata also tell each part's
    variant and, where its file still lies in the run's folder, its run: photos, masks, steps, commit and all other settings,
    as JSON.

    Raises CheckpointError for a file without its part, ConfigError for a run whose run.json is damaged.
    """
    networks = {name: checkpoints.load_part(path, name).build(dtype=torch.float32) for name, path in parts.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    variants = "; ".join(describe(name, network.config) for name, network in networks.items())
    info = {**info, "variants": variants, "commit": git_revision()}
    runs = {name: read_run(path) for name, path in parts.items()}
    trained = {f"{name} training": json.dumps(run) for name, run in runs.items() if run}
    text = card(out.stem, parts, info)
    checkpoints.save(out, networks, info | trained, dtype)
    with atomic_write(out.with_suffix(".md")) as partial:
        partial.write_text(text, encoding="utf-8")


def main() -> None:
    parser = parsers.export()
    arguments = parser.parse_args()
    parts = {name: path for name in parsers.PARTS if (path := getattr(arguments, name))}
    if not parts:
        parser.error(f"nothing to export; give at least one of --{', --'.join(parsers.PARTS)}")
    if malformed := [item for item in arguments.info if "=" not in item]:
        parser.error(f"--info {malformed[0]}; expected KEY=VALUE")
    try:
        export(
            parts,
            arguments.out,
            getattr(torch, parsers.DTYPES[arguments.dtype]),
            dict(item.split("=", 1) for item in arguments.info),
        )
    except (checkpoints.CheckpointError, ConfigError, OSError) as error:
        parser.error(str(error))
