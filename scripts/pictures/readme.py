"""Takes README's screenshots of ComfyUI's page: the quick start in App Mode and as a graph after a run, and the templates."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.browser import bounds, load, open_page, paint_mask, place_models, run_app, show, show_templates
from scripts.comfy_server import ROOT, Server, make_base
from scripts.demo import device_arguments, say

IMAGES = ROOT / "docs" / "images"
APP = {"width": 1280, "height": 720}
ROCKET = [(0.488, 0.32), (0.488, 0.95), (0.514, 0.95), (0.514, 0.32)]  # a line that covers it


def main() -> None:
    workflow = json.loads((ROOT / "workflows" / "remove_object.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_base(base)
        place_models(base)
        shutil.copy(ROOT / "demo" / "sample.jpg", base / "input" / "rocket.jpg")
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, base, device_arguments()) as server:
            with open_page(server) as page:
                say("the quick start")
                load(page, workflow, "remove_object")
                page.evaluate("() => window.app.queuePrompt(0)")
                page.wait_for_function(
                    "window.app.graph._nodes.some(node => node.type == 'SaveImage' && node.imgs?.length)",
                    timeout=600_000,
                )
                left, top, right, bottom = bounds(workflow)
                scale = min(1650 / (right - left), 820 / (bottom - top))
                page.wait_for_timeout(10_000)  # until the page no longer announces that the job is done
                show(page, (left, top, right, bottom), scale, margin=130)
                size = {"width": (right - left) * scale + 40, "height": (bottom - top) * scale + 40}
                shoot(page, "graph", {"x": 110, "y": 110, **size})
            with open_page(server) as page:
                say("App Mode")
                page.set_viewport_size(APP)
                photo = next(node for node in workflow["nodes"] if node["type"] == "LoadImage")
                photo["widgets_values"][0] = "rocket.jpg"
                load(page, workflow, "remove_object", app=True)
                paint_mask(page, ROCKET, lambda: shoot(page, "app_mask", {"x": 0, "y": 0, **APP}))
                run_app(page)
                page.wait_for_timeout(10_000)  # as above
                shoot(page, "app_result", {"x": 0, "y": 0, **APP})
            with open_page(server) as page:
                say("the templates")
                show_templates(page)
                shoot(page, "templates", page.get_by_role("dialog").bounding_box())


def shoot(page, name: str, clip: dict) -> None:
    page.screenshot(path=IMAGES / f"{name}.jpg", type="jpeg", quality=88, clip=clip)


if __name__ == "__main__":
    main()
