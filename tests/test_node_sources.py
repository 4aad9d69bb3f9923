"""What can be told from the nodes' sources alone."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "nodes").glob("*.py"), *(ROOT / "asuka_modules").glob("*.py")])


def nodes() -> dict[str, str]:
    """Class name -> node id, found as ComfyUI-Manager does: a class that derives from io.ComfyNode, a literal in its schema."""
    found = {}
    for path in SOURCES:
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef) and "ComfyNode" in [
                ast.unparse(base).split(".")[-1] for base in item.bases
            ]:
                calls = [call for call in ast.walk(item) if isinstance(call, ast.Call)]
                (schema,) = [call for call in calls if ast.unparse(call.func) == "io.Schema"]
                (node_id,) = [keyword.value for keyword in schema.keywords if keyword.arg == "node_id"]
                assert isinstance(node_id, ast.Constant)
                found[item.name] = node_id.value
    return found


def test_managers_scanner_finds_every_node():
    """Else it cannot say which pack a workflow needs. The prefix keeps ids from clashing with another pack's."""
    found = nodes()
    assert found.keys() == json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text()).keys()
    for name, node_id in found.items():
        assert name == node_id
        assert node_id.startswith("ASUKA_")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_device_is_named_and_nothing_is_patched(path):
    """Which device is ComfyUI's business: Macs, AMD's and Intel's GPUs and CPUs are served alike."""
    source = path.read_text()
    assert not re.search(r"\bcuda\b|\bmps\b|\bxpu\b", source)
    for item in ast.walk(ast.parse(source)):
        targets = item.targets if isinstance(item, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute):
                assert not ast.unparse(target).startswith(("comfy.", "folder_paths.", "torch.")), ast.unparse(target)
