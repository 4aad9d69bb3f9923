"""Every shipped workflow runs to the end with the miniature weights, and gives back what was known."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from graphs import ellipse, photo, put_image, read
from PIL import Image
from skimage.morphology import dilation, disk

from scripts.comfy_server import ROOT, Server
from scripts.stand_ins import with_miniature

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
OTHER_WEIGHTS = {  # what the miniature cannot stand in for runs elsewhere
    "flux_fill": "test_flux.py",
    "remove_by_text": "test_diffedit_workflows.py",
    "edit_by_text": "test_diffedit_workflows.py",
}
STITCHED = ("ASUKA_InpaintStitch", "ImageStitch")


def shortened(server: Server, path: Path) -> dict:
    """The workflow with the miniature and few steps, its photos in place, and also saved as ComfyUI reads them."""
    prompt = with_miniature(json.loads((path.parent / "api" / path.name).read_text()))
    for key, node in list(prompt.items()):
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
        if node["class_type"] in ("LoadImage", "LoadImageDataSetFromFolder"):
            name = node["inputs"].get("image")
            if name and not (server.base / "input" / name).exists():
                put_image(server, name, photo(96, 80), ellipse(96, 80))
            prompt[f"source {key}"] = {"class_type": "PreviewImage", "inputs": {"images": [key, 0]}}
    return prompt


def sources(server: Server, prompt: dict, outputs: dict) -> list[tuple[np.ndarray, np.ndarray]]:
    """The photos that a workflow opened, (H, W, 3) uint8, each with the hole (H, W) bool that it was to fill."""
    nodes = {node["class_type"]: node["inputs"] for node in prompt.values()}
    grow = nodes.get("ASUKA_InpaintPrepare", {}).get("grow", 0)
    found = []
    for key in outputs:
        if not key.startswith("source "):
            continue
        for i in range(len(outputs[key]["images"])):
            loaded = prompt[key.removeprefix("source ")]["inputs"]
            mask = nodes["LoadImageMask"]["image"] if "LoadImageMask" in nodes else loaded["image"]
            mask = np.asarray(Image.open(server.base / "input" / mask).convert("RGBA"))
            hole = mask[..., 0] > 127 if "LoadImageMask" in nodes else mask[..., 3] < 128
            found.append((read(server, outputs, key, i), dilation(hole, disk(grow))))
    return found


def keeps(result: np.ndarray, pixels: np.ndarray, hole: np.ndarray) -> bool:
    """Whether each panel of a result is the photo but for its hole; an outpainted photo is the first, and has none."""
    h, w = hole.shape
    panels = [result[:h, x : x + w] for x in range(0, result.shape[1] - w + 1, w)]
    known = all(np.array_equal(panel[~hole], pixels[~hole]) for panel in panels)
    return known and (not hole.any() or all(not np.array_equal(panel[hole], pixels[hole]) for panel in panels))


@pytest.mark.parametrize("path", [p for p in WORKFLOWS if p.stem not in OTHER_WEIGHTS], ids=lambda path: path.stem)
def test_workflow_runs_and_keeps_what_is_known(server: Server, path: Path):
    prompt = shortened(server, path)
    outputs = server.run(prompt)
    opened = sources(server, prompt, outputs)
    saved = [key for key, node in prompt.items() if node["class_type"] in ("SaveImage", "SaveVideo")]
    assert saved
    for key in saved:
        assert outputs[key]["images"]
        source = prompt[key]["inputs"].get("images", [None])[0]
        if source and prompt[source]["class_type"] in STITCHED:
            assert len(outputs[key]["images"]) == len(opened)
            for i, (pixels, hole) in enumerate(opened):
                assert keeps(read(server, outputs, key, i), pixels, hole)


def test_every_frame_of_a_video_comes_back(server: Server):
    """Compression changes every pixel a little, so frames are compared roughly, the logo's place aside."""
    prompt = shortened(server, ROOT / "workflows" / "video.json")
    outputs = server.run(prompt)
    saved = next(key for key, node in prompt.items() if node["class_type"] == "SaveVideo")
    clips = [server.image_file(outputs[saved]["images"][0]), server.base / "input" / "asuka_video.mp4"]
    results, frames = ([frame.to_ndarray(format="rgb24") for frame in decode(clip)] for clip in clips)
    hole = np.asarray(Image.open(server.base / "input" / "asuka_video_mask.webp"))[..., 3] == 0
    assert len(results) == len(frames) == 8
    for result, frame in zip(results, frames, strict=True):
        difference = np.abs(result.astype(int) - frame)
        assert difference[~hole].mean() < 4
        assert difference[hole].mean() > 12


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))
