"""What `python -m training.<recipe>` does with its command line.

A recipe reads it before its own imports, since torch takes seconds to load: nothing here imports torch.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .config import ConfigError, read
from .worker_errors import one_line


def parse(recipe: str, description: str, dry_run: bool = True) -> argparse.Namespace:
    """Reads the command line of `python -m training.<recipe>`; answers --help and mistakes, and then exits."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are imported: no traceback out of torch
    parser = argparse.ArgumentParser(prog=f"python -m training.{recipe}", description=description.partition("\n")[0])
    parser.set_defaults(error=parser.error, dry_run=False)
    parser.add_argument("config", help="YAML file; see training/configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value, e.g. run.steps=100"
    )
    if dry_run:
        parser.add_argument("--dry-run", action="store_true", help="tell what the run would take, and stop")
    return parser.parse_args()


def main(arguments: argparse.Namespace, cls: type, run: Callable) -> None:
    """Runs `run(config)` with the config, a `cls`, that `arguments` name."""
    dry_run = ["run.dry_run=true"] if arguments.dry_run else []
    try:
        config = read(cls, arguments.config, arguments.set + dry_run)
    except (ConfigError, OSError) as error:
        arguments.error(str(error))
    with errors_told():
        run(config)


@contextmanager
def errors_told() -> Iterator[None]:
    """Ends the process in one line, without a traceback, for what its user can put right and for Ctrl-C."""
    from asuka_modules.checkpoints import CheckpointError  # needs torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except (ConfigError, CheckpointError, OSError, FloatingPointError, RuntimeError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on from what was saved last\n")
        sys.exit(130)  # as a shell reports it
