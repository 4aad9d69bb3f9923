"""What importing the pack costs and touches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.comfy_server import ROOT


@pytest.fixture(scope="module")
def imported(comfyui: Path) -> dict:
    script = Path(__file__).with_name("import_watched.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(ROOT), str(comfyui)],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_import_is_quick(imported):
    """Beyond what ComfyUI has imported itself, in seconds of processor time."""
    assert imported["nodes"]
    assert imported["seconds"] < 0.3


def test_import_touches_neither_network_nor_disk(imported):
    assert imported["touched"] == []


def test_nothing_of_comfyui_is_replaced(imported):
    """Our own model folder is all that is new."""
    assert imported["patched"] == ["folder asuka"]
