"""The commands of docs/api.md, run as written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import ellipse, photo
from PIL import Image
from skimage.morphology import dilation, disk

from scripts.comfy_server import ROOT, Server

PAGE = (ROOT / "docs" / "api.md").read_text()
JOIN, CURL, PYTHON = re.findall(r"```(?:python|bash)\n(.*?)```", PAGE, re.DOTALL)
PIXELS, HOLE = photo(120, 96), ellipse(120, 96)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the image, its mask, and the workflows."""
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    Image.fromarray(HOLE.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    return tmp_path


def run(folder: Path, server: Server, command: list[str], text: str) -> np.ndarray:
    """The result of a script from the page, after the one that joins image and mask."""
    for shell, script in (([sys.executable, "-c"], JOIN), (command, text)):
        script = script.replace("http://127.0.0.1:8188", server.url)
        subprocess.run([*shell, script], cwd=folder, check=True, timeout=300)
    return np.asarray(Image.open(folder / "result.png").convert("RGB"))


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_removes_an_object(server: Server, folder: Path):
    result = run(folder, server, ["bash", "-euo", "pipefail", "-c"], CURL)
    assert np.array_equal(result[~HOLE], PIXELS[~HOLE])
    assert not np.array_equal(result[HOLE], PIXELS[HOLE])


def test_python_client_removes_an_object(server: Server, folder: Path):
    result = run(folder, server, [sys.executable, "-c"], PYTHON)
    hole = dilation(HOLE, disk(4))
    assert np.array_equal(result[~hole], PIXELS[~hole])
    assert not np.array_equal(result[HOLE], PIXELS[HOLE])
