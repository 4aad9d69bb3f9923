"""One real ComfyUI server for all tests of this folder."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_server import ROOT, Server, make_base


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    comfyui = os.environ.get("COMFYUI_PATH")
    if not comfyui:
        pytest.skip("set COMFYUI_PATH to a ComfyUI, or run scripts/test.sh")
    base = tmp_path_factory.mktemp("comfyui")
    make_base(base)
    with Server(Path(comfyui), sys.executable, base, ["--cpu"]) as server:
        yield server


@pytest.fixture
def workflow() -> dict:
    """The shipped quick-start workflow, in API format."""
    return json.loads((ROOT / "workflows" / "api" / "remove_object.json").read_text())
