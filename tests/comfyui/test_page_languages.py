"""A user who has set ComfyUI to another language reads nodes and help pages in it."""

import json

import pytest

from scripts.browser import find_browser, open_page, show
from scripts.comfy_server import ROOT, Server

pytestmark = pytest.mark.newest
SCREENSHOTS = ROOT / "output" / "screenshots"
NODE = "ASUKA_InpaintPrepare"


@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_node_and_help_page_in_the_users_language(server: Server, language: str):
    if find_browser() is None:
        pytest.skip("no Chromium is installed: apt install chromium-headless-shell")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))[NODE]
    with open_page(server, language) as page:
        node = page.evaluate(
            """name => {
                window.app.graph.clear()
                const node = LiteGraph.createNode(name)
                node.pos = [700, 300]
                window.app.graph.add(node)
                return {
                    title: node.title,
                    inputs: node.inputs.map(slot => slot.localized_name),
                    outputs: node.outputs.map(slot => slot.localized_name),
                }
            }""",
            NODE,
        )
        show(page, (700, 300, 0, 0), margin=300)
        page.mouse.click(360, 285)  # on the node's title, just above its position
        page.get_by_test_id("info-button").click(timeout=10_000)
        page.locator(".node-help-content li").first.wait_for()
        shown = page.locator(".node-help-content").inner_text()
        page.wait_for_function("document.querySelector('.node-help-content img').naturalWidth > 0")
        page.wait_for_timeout(500)  # until the panel has slid in
        page.screenshot(path=SCREENSHOTS / f"help-{language}.png")
    assert node["title"] == texts["display_name"]
    assert node["inputs"] == [slot["name"] for slot in texts["inputs"].values()]
    assert node["outputs"] == [slot["name"] for slot in texts["outputs"].values()]
    for slot in texts["inputs"].values():
        assert slot["name"] in shown
