"""The workflows in ComfyUI's template browser."""

import io

import pytest
from browser import find_browser, open_page, show_templates
from comfy_server import FOLDER, ROOT, Server
from PIL import Image
from thumbnails import NEED_TEXT

pytestmark = pytest.mark.newest
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
SCREENSHOTS = ROOT / "output" / "screenshots"


def test_workflows_are_offered_as_templates(server):
    """With a picture of what each makes, but for those that the miniature cannot run."""
    offered = server.get("/workflow_templates")
    assert sorted(offered[FOLDER]) == NAMES
    pictured = {name for name in NAMES if (ROOT / "workflows" / f"{name}.jpg").exists()}
    assert pictured == set(offered[FOLDER]) - set(NEED_TEXT)
    for name in pictured:
        thumbnail = server.open(f"/api/workflow_templates/{FOLDER}/{name}.jpg")
        assert Image.open(io.BytesIO(thumbnail)).size == (480, 480)


def test_template_browser_shows_every_workflow(server: Server):
    if find_browser() is None:
        pytest.skip("no Chromium is installed: apt install chromium-headless-shell")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(server) as page:
        shown = show_templates(page)
        page.screenshot(path=SCREENSHOTS / "templates.png")
    assert sorted(shown) == NAMES
