"""What users get from the Comfy registry: the tracked files, but for those that .comfyignore names."""

import shutil
import subprocess
from pathlib import Path

from scripts.comfy_server import ROOT


def list_files(*options: str) -> set[Path]:
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", *options]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()}


def archived() -> set[Path]:
    """Relative paths. Files that git does not know yet, but does not ignore, count as tracked."""
    return list_files("--exclude-standard") - list_files("--ignored", "--exclude-from=.comfyignore")


def unpack(folder: Path) -> None:
    """Puts the pack into a folder, as the registry's archive would."""
    for path in archived():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
