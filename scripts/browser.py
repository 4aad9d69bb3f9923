"""ComfyUI's real page in a headless Chromium, for tests and for the images in the help pages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from scripts.comfy_server import FOLDER, ROOT, Server

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run"]
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
TITLE = 30  # height of a node's title, above its position


def find_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def open_page(server: Server, locale: str = "en") -> Iterator[Page]:
    """The page of a server, ready for graphs. Raises FileNotFoundError where no browser is installed."""
    browser = find_browser()
    if browser is None:
        raise FileNotFoundError(f"none of {', '.join(BROWSERS)} is installed")
    server.open("/settings", json.dumps({**SETTINGS, "Comfy.Locale": locale}).encode())
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=browser, args=ARGUMENTS) as chromium,
    ):
        page = chromium.new_page(viewport={"width": 1900, "height": 1000})
        page.set_default_timeout(120_000)
        page.goto(server.url)
        page.wait_for_function("window.app?.graph && window.app.extensionManager && !window.app.isGraphLoading")
        yield page


def load(page: Page, workflow: dict, name: str = "test", app: bool = False) -> None:
    """Opens a workflow as a graph, or in App Mode."""
    workflow = workflow | {"extra": workflow["extra"] | {"linearMode": app}}
    page.evaluate("([w, n]) => window.app.loadGraphData(w, true, true, n)", [workflow, name])


def show(page: Page, box: tuple[float, float, float, float], scale: float = 1.0, margin: int = 90) -> None:
    """Brings a part of the graph, (left, top, right, bottom), to the upper left of the view."""
    offset = [margin / scale - box[0], margin / scale - box[1]]
    page.evaluate(
        "([offset, scale]) => { const c = window.app.canvas; c.ds.scale = scale; c.ds.offset = offset; c.setDirty(true, true) }",
        [offset, scale],
    )
    page.wait_for_timeout(700)  # the canvas is drawn by a timer, images arrive when they arrive


def paint_mask(page: Page, line: list[tuple[float, float]], painted: Callable[[], None] = lambda: None) -> None:
    """In App Mode: draws a line over the image, in shares of its width and height, with the mask editor's own brush.

    `painted` is called before the mask is saved.
    """
    page.locator("[data-slot=drop-zone-indicator]").first.hover()
    page.get_by_label("Open in Mask Editor").first.click()
    editor = page.get_by_role("dialog").filter(has=page.get_by_test_id("mask-editor-root"))
    editor.get_by_test_id("zoom-dimensions").wait_for()
    page.wait_for_timeout(1000)  # until the image has been fitted into the view
    canvas = editor.locator("canvas").first.bounding_box()
    page.mouse.move(canvas["x"] + line[0][0] * canvas["width"], canvas["y"] + line[0][1] * canvas["height"])
    page.mouse.down()
    for x, y in line[1:]:
        page.mouse.move(canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"], steps=10)
    page.mouse.up()
    painted()
    editor.get_by_text("Save", exact=True).click()
    editor.wait_for(state="detached")


def run_app(page: Page) -> str:
    """In App Mode: presses Run and waits for the result; its file name. Raises RuntimeError with what the page says of a failure."""
    results = page.locator("#linearCenterPanel").get_by_text(re.compile(r"\.png$"))
    before = results.inner_text() if results.count() else None
    page.get_by_test_id("linear-run-button").get_by_role("button", name="Run", exact=True).click()
    failed = page.get_by_test_id("linear-validation-warning-message")
    for _ in range(600):
        page.wait_for_timeout(500)
        if failed.count():
            raise RuntimeError(failed.inner_text())
        if results.count() and results.inner_text() != before:
            return results.inner_text().split("| ")[-1]
    raise RuntimeError("no result after 300 s")


def show_templates(page: Page) -> list[str]:
    """Opens the template browser at this extension's templates; their names, once all images are there."""
    page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_role("dialog").get_by_text(FOLDER, exact=True).first.click()
    cards = page.locator('[data-testid^="template-workflow-"]')
    cards.first.wait_for()
    page.wait_for_function(
        "[...document.querySelectorAll('[data-testid^=template-workflow-] img')].every(image => image.naturalWidth > 0)"
    )
    return [card.get_attribute("data-testid").removeprefix("template-workflow-") for card in cards.all()]


def bounds(graph: dict) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of all nodes of a workflow."""
    nodes = graph["nodes"]
    return (
        min(n["pos"][0] for n in nodes),
        min(n["pos"][1] for n in nodes) - TITLE,
        max(n["pos"][0] + n["size"][0] for n in nodes),
        max(n["pos"][1] + n["size"][1] for n in nodes),
    )


def place_models(base: Path) -> None:
    """An empty file for every model that a shipped workflow names and that is not there, so that no node turns red."""
    for path in (ROOT / "workflows").glob("*.json"):
        for node in json.loads(path.read_text())["nodes"]:
            for model in node["properties"].get("models", []):
                file = base / "models" / model["directory"] / model["name"]
                file.parent.mkdir(parents=True, exist_ok=True)
                if not file.exists():
                    file.touch()
