"""The pack as the registry hands it out, in a folder of an odd name, beside another pack, with no weights at first."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from archive import unpack
from graphs import ellipse, photo, put_image, read

from scripts.comfy_server import FOLDER, ROOT, Server, ServerError, make_base

NAME = "ASUKA in-paint - 0.1 (1)"
CLASHING = "clashing"
CLAIM = """
import pathlib, sys
HERE = str(pathlib.Path(__file__).parent)
sys.path.append(HERE)
for name in ("training", "asuka_modules"):
    assert __import__(name).__file__.startswith(HERE), name
"""


@pytest.fixture(scope="module")
def installed(comfyui: Path, tmp_path_factory) -> Iterator[Server]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so what the archive holds is unknown")
    base = tmp_path_factory.mktemp("installed")
    make_base(base)
    (base / "custom_nodes" / FOLDER).unlink()
    shutil.rmtree(base / "models" / "asuka")
    unpack(base / "custom_nodes" / NAME)
    clash(base / "custom_nodes" / CLASHING)
    (base / "elsewhere").mkdir()
    (base / "extra.yaml").write_text("mine:\n  asuka: elsewhere\n")
    options = ["--cpu", "--extra-model-paths-config", str(base / "extra.yaml")]
    with Server(comfyui, sys.executable, base, [*options, "--whitelist-custom-nodes", NAME, CLASHING]) as server:
        yield server


def clash(folder: Path) -> None:
    """A pack that puts modules named like ours on the path, before any other pack is loaded, and wants to keep them."""
    for name in ("nodes", "utils", "training", "asuka_modules"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise_if_used_for_another = None\n")
    (folder / "prestartup_script.py").write_text(CLAIM)
    (folder / "__init__.py").write_text(CLAIM + "NODE_CLASS_MAPPINGS = {}\n")


@pytest.fixture(scope="module")
def loader(installed: Server) -> dict:
    return {
        "1": {"class_type": "ASUKA_Load", "inputs": {"file": "?"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


def test_loads_under_any_name_beside_a_pack_with_the_same_modules(installed):
    nodes = {name for name in installed.get("/object_info") if name.startswith("ASUKA_")}
    assert nodes == json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text()).keys()
    log = installed.log.read_text()
    assert "IMPORT FAILED" not in log
    assert "Traceback" not in log
    assert {NAME, CLASHING} <= set(re.findall(r"seconds: .*/(.*)", log))


def test_brings_its_workflows_blueprint_and_languages(installed):
    """Not its help pages: a folder with a space in its name is one that ComfyUI serves no files from, whosever it is."""
    assert sorted(installed.get("/workflow_templates")[NAME]) == sorted(
        p.stem for p in (ROOT / "workflows").glob("*.json")
    )
    assert "ASUKA_Load" in installed.get("/i18n")["ja"]["nodeDefs"]
    assert f"custom_nodes.{NAME}" in {
        entry["info"]["node_pack"] for entry in installed.get("/global_subgraphs").values()
    }


def test_model_folder_is_made_with_a_readme(installed):
    readme = (installed.base / "models" / "asuka" / "README.md").read_text()
    assert "docs/weights.md" in readme
    assert installed.get("/models/asuka") == []


@pytest.mark.parametrize("file", [None, "asuka-miniature.safetensors"], ids=["first time", "from a workflow"])
def test_missing_weights_tell_file_address_and_folder(installed, loader, file):
    (offered,) = files(installed)
    loader["1"]["inputs"]["file"] = file or offered
    with pytest.raises(ServerError) as error:
        installed.run(loader)
    message = str(error.value)
    assert (file or "contains no weights") in message
    assert "https://github.com/asuka-inpaint/ComfyUI-ASUKA/blob/main/docs/weights.md" in message
    for folder in ("models/asuka", "elsewhere"):
        assert str(installed.base / folder) in message


def files(installed: Server) -> list[str]:
    """What Load ASUKA offers once the user has pressed R, which asks the server for /object_info again."""
    return installed.get("/object_info/ASUKA_Load")["ASUKA_Load"]["input"]["required"]["file"][1]["options"]


def test_weights_are_found_after_pressing_r_and_the_workflow_runs(installed, workflow):
    shutil.copy(ROOT / "demo" / "asuka-miniature.safetensors", installed.base / "models" / "asuka")
    assert files(installed) == ["asuka-miniature.safetensors"]
    pixels, hole = photo(120, 100), ellipse(120, 100)
    workflow["1"]["inputs"]["image"] = put_image(installed, "photo.png", pixels, hole)
    workflow["8"]["inputs"]["steps"] = 1
    result = read(installed, installed.run(workflow), "11")
    assert np.array_equal(result[~hole], pixels[~hole])


def test_folders_of_extra_model_paths_are_searched_too(installed, loader):
    shutil.copy(ROOT / "demo" / "asuka-miniature.safetensors", installed.base / "elsewhere" / "there.safetensors")
    (installed.base / "elsewhere" / "notes.txt").touch()
    assert files(installed)[1:] == ["there.safetensors"]
    loader["1"]["inputs"]["file"] = "there.safetensors"
    installed.run(loader)
