"""Evaluate ASUKA against its base model, simple fills and other methods, by the field's protocols (training.evaluation).

    python -m training.evaluate miniature --set pairs.photos=PHOTOS --set pairs.masks.objects=MASKS
    python -m training.evaluate training/configs/sd15/benchmark-misato.yaml
    python -m training.evaluate training/configs/sd15/benchmark-misato.yaml --compare ASUKA SD

`miniature` stands for training/configs/miniature/evaluate.yaml, which needs no ComfyUI. Interrupted runs continue where they
stopped.
"""

from .engine import parsers

if __name__ == "__main__":
    parsers.evaluate().parse_args()  # answers --help and mistakes before torch is loaded

import sys

from asuka_modules.checkpoints import CheckpointError

from .engine.config import ConfigError, read
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
    parser = parsers.evaluate()
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
