"""The workflows that open in App Mode, in a real browser: settings beside the result, without a graph."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import photo, put_image
from PIL import Image
from playwright.sync_api import Page, Route
from test_diffedit_workflows import checkpoint, find, without_text  # noqa: F401
from test_flux import flux, models, with_base  # noqa: F401

from scripts.browser import find_browser, load, open_page, paint_mask, place_models, run_app
from scripts.comfy_server import ROOT, Server
from scripts.stand_ins import with_miniature

pytestmark = pytest.mark.newest
SCREENSHOTS = ROOT / "output" / "screenshots"
PIXELS = photo(320, 240)
APPS = {  # the settings that each shows
    "remove_object": ["image", "grow", "seed"],
    "remove_object_without_training": ["image", "grow", "strength", "seed"],
    "high_resolution": ["image", "grow", "context", "seed"],
    "outpaint": ["image", "left", "top", "right", "bottom", "seed"],
    "flux_fill": ["image", "grow", "seed"],
    "remove_by_text": ["image", "text", "threshold", "seed"],
}


@pytest.fixture(scope="module")
def page(server: Server, models: Path) -> Iterator[Page]:  # noqa: F811
    if find_browser() is None:
        pytest.skip("no Chromium is installed: apt install chromium-headless-shell")
    place_models(server.base)
    put_image(server, "unpainted.png", PIXELS)  # before the page opens, which knows the files of that moment
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(server) as page:
        yield page


@pytest.fixture
def small(request, server: Server, name: str) -> dict | None:
    """A prompt for tiny weights, for a workflow whose models the miniature cannot stand in for."""
    if name == "flux_fill":
        return with_base(request.getfixturevalue("flux"))
    if name == "remove_by_text":
        prompt = without_text(server, name)
        prompt[find(prompt, "ASUKA_DiffEditMask")]["inputs"] |= {"threshold": 0.4, "maps": 2}
        prompt[find(prompt, "ASUKA_CleanMask")]["inputs"] |= {"min_area": 0.0, "grow": 0.0}  # of random weights' specks
        prompt[find(prompt, "ASUKA_InpaintPrepare")]["inputs"]["resolution"] = 128
        return prompt
    return None


def workflow(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def send_instead(page: Page, small: dict | None) -> None:
    """What the page queues reaches the server with weights that are here, and with few steps."""

    def replace(route: Route) -> None:
        body = route.request.post_data_json
        prompt = small or with_miniature(body["prompt"])
        for node in prompt.values():
            if "steps" in node["inputs"]:
                node["inputs"]["steps"] = 2
        route.continue_(post_data=json.dumps(body | {"prompt": prompt}))

    page.unroute_all()
    page.route("**/api/prompt", replace)


@pytest.mark.parametrize("name", APPS)
def test_app_runs_to_its_result(page: Page, name: str, small: dict | None):
    send_instead(page, small)
    load(page, workflow(name), name, workflow(name)["extra"]["linearMode"])
    shown = page.get_by_test_id("builder-widget-label")
    shown.first.wait_for()
    assert shown.all_inner_texts() == APPS[name]
    run_app(page)
    page.screenshot(path=SCREENSHOTS / f"app-{name}.png")


def test_every_other_workflow_opens_as_a_graph():
    paths = (ROOT / "workflows").glob("*.json")
    assert {path.stem for path in paths if "linearMode" in workflow(path.stem)["extra"]} == APPS.keys()


def test_mask_is_painted_in_app_mode(server: Server, page: Page):
    """Without leaving it: only what was painted over is replaced."""
    send_instead(page, None)
    graph = workflow("remove_object")
    next(node for node in graph["nodes"] if node["type"] == "LoadImage")["widgets_values"][0] = "unpainted.png"
    load(page, graph, "painted", app=True)
    paint_mask(page, [(0.5, 0.3), (0.5, 0.7)])
    page.screenshot(path=SCREENSHOTS / "app-mask.png")
    result = np.asarray(Image.open(server.base / "output" / run_app(page)).convert("RGB"))
    changed = (result != PIXELS).any(2)
    ys, xs = np.nonzero(changed)
    assert 0.25 < ys.min() / 240 < 0.35
    assert 0.65 < ys.max() / 240 < 0.75
    assert 0.4 < xs.min() / 320 < xs.max() / 320 < 0.6
