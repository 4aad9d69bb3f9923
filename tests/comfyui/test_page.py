"""The shipped workflows in ComfyUI's real page, in a real browser. What it looked like is kept in output/screenshots/."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import ellipse, photo, put_image, read
from playwright.sync_api import Page

from scripts.browser import bounds, find_browser, load, open_page, place_models, show
from scripts.comfy_server import ROOT, Server

pytestmark = pytest.mark.newest
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SCREENSHOTS = ROOT / "output" / "screenshots"


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    if find_browser() is None:
        pytest.skip("no Chromium is installed: apt install chromium-headless-shell")
    place_models(server.base)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(server) as page:
        yield page


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_loads_without_missing_nodes_and_gives_the_api_workflow(server, page, path):
    workflow = json.loads(path.read_text())
    for node in workflow["nodes"]:
        if node["type"] == "LoadImage" and not (server.base / "input" / node["widgets_values"][0]).exists():
            put_image(server, node["widgets_values"][0], photo(64, 64))
    load(page, workflow, path.stem)
    nodes = page.evaluate(
        "() => window.app.graph._nodes.map(n => ({type: n.type, known: n.type in LiteGraph.registered_node_types,"
        " red: !!n.has_errors, x: n.pos[0], y: n.pos[1], w: n.size[0], h: n.size[1]}))"
    )
    left, top, right, bottom = box = bounds(workflow)
    show(page, box, min(1800 / (right - left), 880 / (bottom - top), 1.0))
    page.screenshot(path=SCREENSHOTS / f"{path.stem}.png")
    assert nodes
    assert [n["type"] for n in nodes if not n["known"] or n["red"]] == []
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    shipped = json.loads((ROOT / "workflows" / "api" / path.name).read_text())
    assert {key: node["class_type"] for key, node in prompt.items()} == {
        key: node["class_type"] for key, node in shipped.items()
    }
    for key, node in shipped.items():
        given = prompt[key]["inputs"]
        if not node["class_type"].startswith(
            "ASUKA_"
        ):  # core nodes may have more: Load Video its player, new ones new widgets
            given = {name: given.get(name) for name in node["inputs"]}
        assert given == node["inputs"]
    for i, a in enumerate(nodes):
        for b in nodes[i + 1 :]:
            apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            apart_y = a["y"] + a["h"] + 30 <= b["y"] or b["y"] + b["h"] + 30 <= a["y"]
            assert apart_x or apart_y, f"{a['type']} overlaps {b['type']}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_page_saves_what_was_shipped(page, path: Path):
    """Slots and widget values are as the page itself writes them, so that nothing shifts when a user saves."""
    shipped = json.loads(path.read_text())
    load(page, shipped, path.stem)
    saved = page.evaluate("() => window.app.graph.serialize()")
    saved = {node["id"]: node for node in saved["nodes"]}
    for node in shipped["nodes"]:
        other = saved[node["id"]]
        assert [slot["name"] for slot in node["inputs"]] == [slot["name"] for slot in other["inputs"]], node["type"]
        assert node["widgets_values"] == other.get("widgets_values", []), node["type"]


def add_blueprint(page: Page, name: str) -> None:
    """From the node library onto an empty graph."""
    assert page.locator(".p-toast-message").all_inner_texts() == []
    page.evaluate("() => window.app.graph.clear()")
    page.keyboard.press("n")
    page.locator('input[placeholder^="Search"]').first.fill(name)
    page.get_by_text(name, exact=True).first.click()
    page.mouse.click(1000, 300)
    page.wait_for_function("window.app.graph._nodes.length == 1")


def test_blueprint_is_one_box_that_runs(server, page):
    """Added from the node library, between a photo and a saved picture; an invalid blueprint greets every user with a red box."""
    add_blueprint(page, "ASUKA Inpaint")
    page.screenshot(path=SCREENSHOTS / "blueprint.png")
    page.keyboard.press("n")
    page.evaluate(
        """() => {
            const [box] = window.app.graph._nodes
            const [photo, saved] = ["LoadImage", "SaveImage"].map(name => window.app.graph.add(LiteGraph.createNode(name)))
            photo.widgets.find(w => w.name == "image").value = "blueprint.png"
            box.widgets.find(w => w.name == "steps").value = 1
            photo.connect(0, box, "image")
            photo.connect(1, box, "mask")
            box.connect(0, saved, "images")
        }"""
    )
    pixels, hole = photo(120, 100), ellipse(120, 100)
    put_image(server, "blueprint.png", pixels, hole)
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert len(prompt) == 11
    outputs = server.run(prompt)
    result = read(server, outputs, next(key for key in prompt if prompt[key]["class_type"] == "SaveImage"))
    assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(result[hole], pixels[hole])


def test_blueprint_without_training_is_one_box_with_its_graph(page):
    """It needs SD-1.5's text encoder, so it does not run here; the workflow of the same nodes does, elsewhere."""
    add_blueprint(page, "Inpaint Without Training")
    page.keyboard.press("n")
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    workflow = json.loads((ROOT / "workflows" / "api" / "remove_object_without_training.json").read_text())
    kinds = [sorted(node["class_type"] for node in graph.values()) for graph in (prompt, workflow)]
    assert kinds[0] == [kind for kind in kinds[1] if kind not in ("LoadImage", "SaveImage")]
    (guidance,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "ASUKA_MAEPriorGuidance"]
    (shipped,) = [node["inputs"] for node in workflow.values() if node["class_type"] == "ASUKA_MAEPriorGuidance"]
    for name in ("strength", "detail", "until", "close_seam"):
        assert guidance[name] == shipped[name]
