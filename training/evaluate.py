"""Evaluate ASUKA against its base model, simple fills and other methods, by the field's protocols (training.evaluation).

    python -m training.evaluate miniature --set pairs.photos=PHOTOS --set pairs.masks.objects=MASKS
    python -m training.evaluate training/configs/sd15/benchmark-misato.yaml
    python -m training.evaluate training/configs/sd15/benchmark-misato.yaml --compare ASUKA SD

`miniature` stands for training/configs/miniature/evaluate.yaml, which needs no ComfyUI. Interrupted runs continue where they
stopped.
"""

import argparse
import sys

from asuka_modules.checkpoints import CheckpointError

from .config import ConfigError, read
from .evaluation import benchmark
from .evaluation.benchmark import Benchmark
from .evaluation.comfyui import ComfyUIError

SHORTCUTS = {"miniature": "training/configs/miniature/evaluate.yaml"}
MOVED = {  # keys of `--set` as they were -> as they are
    **{key: f"pairs.{key}" for key in ("photos", "masks", "count", "size", "hole")},
    **{key: f"pytorch.{key}" for key in ("base", "bundle", "spl")},
}


def current(setting: str) -> str:
    """A setting by its key of today, with a warning if it had another one."""
    key = setting.split("=")[0].split(".")[0]
    if key not in MOVED:
        return setting
    sys.stderr.write(f"warning: --set {key} is now --set {MOVED[key]}\n")
    return MOVED[key] + setting.removeprefix(key)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("config", help="miniature, or a YAML file; see training/configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value, e.g. seeds=1"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help="take these methods alone")
    parser.add_argument(
        "--compare", nargs="+", metavar=("A", "B"), help="print how methods of a finished run differ: A - B for each B"
    )
    arguments = parser.parse_args()
    if arguments.compare and len(arguments.compare) < 2:
        parser.error("--compare takes two methods or more")
    try:
        recipe = read(Benchmark, SHORTCUTS.get(arguments.config, arguments.config), list(map(current, arguments.set)))
        if arguments.compare:
            first, *others = arguments.compare
            sys.stdout.write("\n".join(benchmark.compare_methods(recipe, first, other) for other in others))
        else:
            benchmark.run(benchmark.pick(recipe, arguments.only))
    except (CheckpointError, ComfyUIError, ConfigError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
