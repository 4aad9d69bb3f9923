"""The shipped workflows in ComfyUI's real page, in a real browser."""

import json
import shutil
from collections.abc import Iterator

import pytest
from comfy_server import ROOT, Server
from graphs import photo, put_image
from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    put_image(server, "asuka_sample.png", photo(64, 64))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1800, "height": 1000})
        page.set_default_timeout(120_000)
        page.goto(server.url)
        page.wait_for_function("window.app?.graph && window.app.extensionManager && !window.app.isGraphLoading")
        yield page
        browser.close()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_loads_without_missing_nodes_and_gives_the_api_workflow(page, path):
    page.evaluate("(w) => window.app.loadGraphData(w, true, true, 'test.json')", json.loads(path.read_text()))
    nodes = page.evaluate(
        "() => window.app.graph._nodes.map(n => ({type: n.type, known: n.type in LiteGraph.registered_node_types,"
        " red: !!n.has_errors && !n.properties.models, x: n.pos[0], y: n.pos[1], w: n.size[0], h: n.size[1]}))"
    )
    assert nodes
    # a model that has to be downloaded is missing here, and its node says where from
    assert [n["type"] for n in nodes if not n["known"] or n["red"]] == []
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    shipped = json.loads((ROOT / "workflows" / "api" / path.name).read_text())
    assert {k: (v["class_type"], v["inputs"]) for k, v in prompt.items()} == {
        k: (v["class_type"], v["inputs"]) for k, v in shipped.items()
    }
    for i, a in enumerate(nodes):
        for b in nodes[i + 1 :]:
            apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            apart_y = a["y"] + a["h"] + 30 <= b["y"] or b["y"] + b["h"] + 30 <= a["y"]
            assert apart_x or apart_y, f"{a['type']} overlaps {b['type']}"


def test_workflows_are_offered_as_templates(server):
    offered = server.get("/workflow_templates")
    assert sorted(offered["asuka-inpaint"]) == [path.stem for path in WORKFLOWS]
