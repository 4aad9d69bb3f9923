"""The shipped workflows are what their descriptions give for the nodes as this ComfyUI knows them."""

import pytest

from scripts.comfy_server import ROOT
from scripts.workflows.boxes import BLUEPRINTS
from scripts.workflows.graph import CORE_VERSION, Graph
from scripts.workflows.shipped import WORKFLOWS

pytestmark = pytest.mark.newest


def files(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def object_info(server) -> dict:
    version = server.get("/system_stats")["system"]["comfyui_version"]
    if version != CORE_VERSION:
        pytest.skip(
            f"the workflows are written with ComfyUI {CORE_VERSION}, this is {version}, whose nodes may have other widgets"
        )
    return server.get("/object_info")


@pytest.mark.parametrize("describe", WORKFLOWS, ids=lambda describe: describe.__name__)
def test_workflow_is_up_to_date(object_info, describe, tmp_path):
    """Else run scripts/workflows.sh. Slots, links and widgets come from the server, so they fit its nodes."""
    graph = Graph(describe.__name__, object_info)
    describe(graph)
    graph.write(tmp_path)
    for folder in ("", "api"):
        written = files(tmp_path / folder)
        assert written.items() <= files(ROOT / "workflows" / folder).items()


def test_every_workflow_is_described():
    described = {f"{describe.__name__}.json" for describe in WORKFLOWS}
    assert described == files(ROOT / "workflows").keys() == files(ROOT / "workflows" / "api").keys()


def test_blueprints_are_up_to_date(object_info, tmp_path):
    for describe in BLUEPRINTS:
        describe(object_info).write(tmp_path)
    assert files(tmp_path) == files(ROOT / "subgraphs")
