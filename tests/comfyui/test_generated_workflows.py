"""The shipped workflows are what their descriptions give for the nodes as this ComfyUI knows them."""

import json

import pytest
from comfy_server import ROOT
from workflow_graph import Graph

from workflows import WORKFLOWS


@pytest.mark.parametrize("describe", WORKFLOWS, ids=lambda describe: describe.__name__)
def test_workflow_is_up_to_date(server, describe):
    """Else run scripts/workflows.sh. Slots, links and widgets come from the server, so they fit its nodes."""
    graph = Graph(describe.__name__, server.get("/object_info"))
    describe(graph)
    for found, folder in ((graph.page(), "workflows"), (graph.api(), "workflows/api")):
        assert found == json.loads((ROOT / folder / f"{describe.__name__}.json").read_text())
