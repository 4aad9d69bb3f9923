"""What the nodes say in English, in the form of ComfyUI's translations: `bash scripts/locales.sh`, after a node has changed."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from scripts.comfy_server import ROOT, Server, make_base

FILE = ROOT / "locales" / "en" / "nodeDefs.json"


def node_texts(object_info: dict) -> dict:
    """{node id: {display_name, description, inputs: {id: {name, tooltip}}, outputs: {index: {name, tooltip}}}}."""
    return {
        node: {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {
                name: {"name": name, "tooltip": options["tooltip"]}
                for group in ("required", "optional")
                for name, (_, options) in info["input"].get(group, {}).items()
            },
            "outputs": {
                str(i): {"name": name, "tooltip": tooltip}
                for i, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
            },
        }
        for node, info in sorted(object_info.items())
        if node.startswith("ASUKA_")
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_base(Path(folder))
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, Path(folder), ["--cpu"]) as server:
            texts = node_texts(server.get("/object_info"))
    FILE.write_text(json.dumps(texts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
