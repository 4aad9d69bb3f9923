"""A real ComfyUI: as one server for all tests of this folder, and imported into the test process."""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from scripts.comfy_server import ROOT, Server, make_base


@pytest.fixture(scope="session")
def comfyui() -> Path:
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("set COMFYUI_PATH to a ComfyUI, or run scripts/test.sh")
    return Path(path)


@pytest.fixture(scope="session")
def server(comfyui, tmp_path_factory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui")
    make_base(base)
    with Server(comfyui, sys.executable, base, ["--cpu"]) as server:
        yield server


@pytest.fixture(scope="session")
def extension(comfyui) -> ModuleType:
    """The extension as ComfyUI imports it, under a name of its own that cannot shadow ComfyUI's `nodes`."""
    sys.path.insert(0, str(comfyui))  # before the repository root
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before comfy.model_management is imported
    spec = importlib.util.spec_from_file_location("asuka_extension", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["asuka_extension"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def workflow() -> dict:
    """The shipped quick-start workflow, in API format."""
    return json.loads((ROOT / "workflows" / "api" / "remove_object.json").read_text())
