"""The workflows in ComfyUI's template browser."""

import io

import pytest
from PIL import Image

from scripts.browser import find_browser, open_page, show_templates
from scripts.comfy_server import FOLDER, ROOT, Server

pytestmark = pytest.mark.newest
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
SCREENSHOTS = ROOT / "output" / "screenshots"


def test_workflows_are_offered_as_templates(server):
    """With a picture of what each makes, or of its graph."""
    offered = server.get("/workflow_templates")
    assert sorted(offered[FOLDER]) == NAMES
    for name in NAMES:
        thumbnail = server.open(f"/api/workflow_templates/{FOLDER}/{name}.jpg")
        assert Image.open(io.BytesIO(thumbnail)).size == (480, 480)


def test_template_browser_shows_every_workflow(server: Server):
    """With "start here" first, in whatever order the file system lists the workflows."""
    if find_browser() is None:
        pytest.skip("no Chromium is installed: apt install chromium-headless-shell")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(server) as page:
        shown = show_templates(page)
        page.screenshot(path=SCREENSHOTS / "templates.png")
    assert shown == ["remove_object", *(name for name in NAMES if name != "remove_object")]
