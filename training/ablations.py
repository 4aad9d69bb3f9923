"""Train the miniature's ablations, after the miniature itself (training.miniature).

    python -m training.ablations --photos PHOTOS [PHOTOS ...] --masks MASKS

Each is one of the `variants` in mae.yaml, align.yaml (after the one of words.yaml that it starts from) and decoder.yaml (which
continue from the miniature's decoder). Finished ones are kept and an interrupted one continues. `--only` picks some of them.
"""

from .engine import parsers

if __name__ == "__main__":
    parsers.ablations().parse_args()  # answers --help and mistakes before torch is loaded

from collections.abc import Callable
from pathlib import Path

import torch

from . import align, decoder, mae
from .base import words
from .engine import config
from .engine.command_line import errors_told
from .miniature import CONFIGS, STAGES
from .weights.export import export

RECIPES: dict[
    str, tuple[type, Callable, str | None]
] = {  # in this order: an alignment may need another MAE, and other words
    "mae": (mae.MAERecipe, mae.train, "mae"),
    "words": (words.WordsRecipe, words.train, None),
    "align": (align.AlignRecipe, align.train, "alignment"),
    "decoder": (decoder.DecoderRecipe, decoder.train, "decoder"),
}


def find(only: list[str] = []) -> list[Path]:
    """The ablations' configs in the order of training. Raises ValueError for a name that is none."""
    names = [f"{kind}-{name}" for kind in RECIPES for name in sorted(config.variants(CONFIGS / f"{kind}.yaml"))]
    paths = {name: CONFIGS / f"{name}.yaml" for name in names}
    unknown = sorted(set(only) - paths.keys())
    if unknown:
        raise ValueError(f"no ablation {', '.join(unknown)}, only {', '.join(paths)}")
    wanted = set(only).union(*map(before, only))
    return [path for name, path in paths.items() if not only or name in wanted]


def before(name: str) -> set[str]:
    """What an ablation goes on from, where there is such a config."""
    kind, _, variant = name.partition("-")
    return {f"mae-{variant}", f"words-{variant}"} if kind == "align" else set()


def main() -> None:
    parser = parsers.ablations()
    arguments = parser.parse_args()
    try:
        paths = find(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    for path in paths:
        kind = path.stem.split("-")[0]
        recipe_class, train, part = RECIPES[kind]
        recipe = config.read(recipe_class, path, STAGES[kind].overrides(arguments.photos, arguments.masks))
        train(recipe)
        if part is None:
            continue
        trained = Path(recipe.run.out, f"{part}.safetensors")
        info = {"variant": f"miniature, {path.stem}"}
        export({part: trained}, arguments.out / f"{path.stem}.safetensors", torch.float16, info)


if __name__ == "__main__":
    with errors_told():
        main()
