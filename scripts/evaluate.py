"""Runs a benchmark of the miniature on a ComfyUI of its own: `bash scripts/evaluate.sh CONFIG [arguments]`.

CONFIG is the name of one in training/configs/miniature; the arguments are those of training.evaluate.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from scripts.comfy_server import ROOT, Server, link, make_base

ABLATIONS = ROOT / "runs" / "miniature" / "models"


def main() -> None:
    name, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_base(base)
        for file in ABLATIONS.glob("*.safetensors"):
            link(file, base / "models" / "asuka" / file.name)
        device = [] if torch.cuda.is_available() else ["--cpu"]
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, base, device) as server:
            command = [sys.executable, "-m", "training.evaluate", f"training/configs/miniature/{name}.yaml"]
            settings = [f"comfyui.url={server.url}", f"comfyui.models={base / 'models'}"]
            for setting in settings:
                command += ["--set", setting]
            sys.exit(subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
