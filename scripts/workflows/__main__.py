"""Write all workflows and blueprints: python -m scripts.workflows, with COMFYUI_PATH set, or bash scripts/workflows.sh."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from scripts.comfy_server import ROOT, Server, make_base
from scripts.workflows.boxes import BLUEPRINTS
from scripts.workflows.graph import Graph
from scripts.workflows.shipped import WORKFLOWS


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        make_base(Path(base))
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, Path(base), ["--cpu"]) as server:
            object_info = server.get("/object_info")
    for describe in WORKFLOWS:
        graph = Graph(describe.__name__, object_info)
        describe(graph)
        graph.write(ROOT / "workflows")
    for describe in BLUEPRINTS:
        describe(object_info).write(ROOT / "subgraphs")


if __name__ == "__main__":
    main()
