"""Copies the demo model (three files) from this clone into ComfyUI's model folders.

python scripts/install_miniature.py [COMFYUI]
"""

import argparse
import filecmp
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is run as a file
from asuka_modules.atomic import atomic_write
from scripts.comfy_server import ROOT, WEIGHTS


def main() -> None:
    """Copy the files, or say what is wrong with the given folder."""
    parser = argparse.ArgumentParser(
        prog="python scripts/install_miniature.py",
        description="Copy the demo model (three files) from this clone into ComfyUI's model folders.",
    )
    parser.add_argument(
        "comfyui",
        type=Path,
        nargs="?",
        default=ROOT.parents[1],
        help="ComfyUI's folder, or its --base-directory (default: %(default)s, if this clone lies in custom_nodes)",
    )
    models = parser.parse_args().comfyui / "models"
    if not models.is_dir():
        parser.error(f"{models}: no such folder; give ComfyUI's folder, which contains models/")
    try:
        for folder, names in WEIGHTS.items():
            for name in names:
                print(install(ROOT / "demo" / name, models / folder / name))  # noqa: T201
    except OSError as error:
        sys.exit(f"error: {error}")


def install(source: Path, target: Path) -> str:
    """Copy a file unless it is there already, and return what was done. Raises OSError if it cannot be copied."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return f"{target}: already there"
    target.parent.mkdir(exist_ok=True)
    with atomic_write(target) as partial:
        shutil.copyfile(source, partial)
    return f"{target}: copied"


if __name__ == "__main__":
    main()
