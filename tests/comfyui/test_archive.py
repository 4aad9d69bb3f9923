"""What the Comfy registry is told, and what it hands out."""

import re

import pytest
import tomllib
from archive import archived
from PIL import Image

from scripts.comfy_server import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RAW = "https://raw.githubusercontent.com/asuka-inpaint/ComfyUI-ASUKA/main/"
NEEDED = {"asuka_modules", "docs", "locales", "nodes", "subgraphs", "training", "web", "workflows"}
AT_TOP = {"__init__.py", "convert.py", "pyproject.toml", "requirements.txt", "LICENSE", "CHANGELOG.md"}

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


def test_archive_holds_the_pack_and_nothing_else():
    files = {path.as_posix() for path in archived()}
    assert {name for name in files if "/" not in name} - {"README.md"} == AT_TOP
    assert {name.split("/")[0] for name in files if "/" in name} == NEEDED
    assert {name for name in files if name.startswith("docs/")} == {"docs/weights.md"}
    assert not any(name.startswith("workflows/api/") for name in files)


def test_archive_is_small_and_holds_no_weights():
    assert not {path for path in archived() if path.suffix in (".safetensors", ".ckpt", ".pth", ".pt", ".bin")}
    assert sum((ROOT / path).stat().st_size for path in archived()) < 4_000_000


def test_name_and_version_fit_the_registry():
    """https://docs.comfy.org/registry/specifications"""
    project = PYPROJECT["project"]
    assert re.fullmatch(r"[a-z](?:[a-z0-9]|[-_.](?![-_.])){1,98}", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert f"## {project['version']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / project["license"]["file"]).is_file()
    assert project["dependencies"] == []
    assert not [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1] not in ("", "#")]


def test_pictures_for_the_registry():
    pictures = {}
    for key in ("Icon", "Banner"):
        url = PYPROJECT["tool"]["comfy"][key]
        assert url.startswith(RAW)
        with Image.open(ROOT / url.removeprefix(RAW)) as picture:
            pictures[key] = picture.size
    assert pictures["Icon"][0] == pictures["Icon"][1] <= 400
    assert pictures["Banner"][0] * 9 == pictures["Banner"][1] * 21


def test_comfyui_reads_the_configuration(comfyui, monkeypatch):
    monkeypatch.syspath_prepend(str(comfyui))
    from comfy_config.config_parser import extract_node_configuration

    found = extract_node_configuration(str(ROOT))
    assert found.project.name == "asuka-inpaint"
    assert found.project.supported_comfyui_version == PYPROJECT["tool"]["comfy"]["requires-comfyui"]
    assert found.project.supported_os == ["OS Independent"]
    assert found.project.license.file == "LICENSE"
    assert found.project.urls.repository == PYPROJECT["project"]["urls"]["Repository"]
    assert found.project.urls.issues
    assert found.tool_comfy.publisher_id
    assert found.tool_comfy.display_name == "ASUKA Inpaint"
    assert found.tool_comfy.icon.endswith(".png")
