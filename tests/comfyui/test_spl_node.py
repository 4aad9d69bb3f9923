"""Inpaint (SPL) on a real server: sizes, known pixels, what lies under the hole, batches, and its picture as a prior."""

import json

import numpy as np
import pytest
from graphs import ellipse, photo, put_image, read

from scripts.comfy_server import ROOT, Server, ServerError


def inpaint(image: list, mask: list, resolution: int = 256) -> dict:
    return {
        "3": {"class_type": "ASUKA_Load", "inputs": {"file": "asuka-miniature-spl.safetensors"}},
        "4": {
            "class_type": "ASUKA_InpaintSPL",
            "inputs": {"spl": ["3", 3], "image": image, "mask": mask, "resolution": resolution},
        },
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "spl"}},
    }


def load(name: str) -> dict:
    return {"class_type": "LoadImage", "inputs": {"image": name}}


def run(server: Server, name: str, resolution: int = 256) -> np.ndarray:
    return read(server, server.run({"1": load(name), **inpaint(["1", 0], ["1", 1], resolution)}), "5")


@pytest.mark.parametrize(
    ("width", "height", "resolution"),
    [(131, 133, 256), (256, 256, 256), (7, 10, 256), (700, 300, 128), (300, 711, 64), (16, 400, 256)],
)
def test_any_size_comes_back_with_its_known_pixels(server, width, height, resolution):
    pixels, hole = photo(width, height), ellipse(width, height)
    result = run(server, put_image(server, "spl.png", pixels, hole), resolution)
    assert result.shape == pixels.shape
    assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(result[hole], pixels[hole])


@pytest.mark.parametrize("resolution", [64, 256])
def test_content_under_the_hole_changes_no_bit(server, resolution):
    pixels, hole = photo(150, 100), ellipse(150, 100)
    results = []
    for i, content in enumerate((pixels, np.zeros_like(pixels), np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8))):  # fmt: skip
        under = np.where(hole[..., None], content, pixels)
        results.append(run(server, put_image(server, f"spl-{i}.png", under, hole), resolution))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_images_of_a_batch_are_independent(server):
    hole = ellipse(64, 48)
    names = [put_image(server, f"batch-{i}.png", photo(64, 48, i), hole) for i in range(2)]
    prompt = {"1": load(names[0]), "2": load(names[1])}
    prompt["6"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}}
    together = server.run(prompt | inpaint(["6", 0], ["1", 1]))
    for i, name in enumerate(names):
        assert np.array_equal(read(server, together, "5", i), run(server, name))


def test_file_without_spl(server):
    prompt = {"1": load(put_image(server, "spl.png", photo(64, 48), ellipse(64, 48))), **inpaint(["1", 0], ["1", 1])}
    prompt["3"]["inputs"]["file"] = "asuka-miniature.safetensors"
    with pytest.raises(ServerError, match=r"asuka-miniature\.safetensors contains no spl, only mae"):
        server.run(prompt)


def test_prior_from_spl(server):
    """The shipped workflow: SPL's picture decides the prior, and known pixels stay."""
    pixels, hole = photo(120, 104), ellipse(120, 104)
    prompt = json.loads((ROOT / "workflows" / "api" / "prior_from_spl.json").read_text())
    numbers = {node["class_type"]: key for key, node in prompt.items()}
    prompt[numbers["LoadImage"]]["inputs"]["image"] = put_image(server, "spl.png", pixels, hole)
    prompt[numbers["KSampler"]]["inputs"]["steps"] = 2
    with_spl = server.run(prompt)
    result = read(server, with_spl, numbers["SaveImage"])
    assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(result[hole], pixels[hole])
    del prompt[numbers["ASUKA_MAEPriorEncode"]]["inputs"]["prior_image"]
    without = server.run(prompt)
    previews = [read(server, outputs, numbers["ASUKA_MAEPriorEncode"]) for outputs in (with_spl, without)]
    assert not np.array_equal(*previews)
