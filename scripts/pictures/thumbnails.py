"""Draws the workflows' thumbnails: `bash scripts/thumbnails.sh`.

Above the photo with its hole in gray, below what the workflow made of it in a real run with the miniature. Workflows that
need weights which the miniature cannot stand in for show the photo and the graph.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from playwright.sync_api import Page

from scripts.browser import bounds, load, open_page, place_models, show
from scripts.comfy_server import ROOT, Server, make_base
from scripts.demo import device_arguments, say
from scripts.stand_ins import with_miniature

LABELS = {  # text and its place in the image, in shares of its width and height
    "remove_object": {"Start here": (0.5, 0.06)},
    "asuka_and_plain_sd": {"Plain SD": (0.25, 0.94), "ASUKA": (0.75, 0.94)},
}
NEED_TEXT = ("flux_fill", "remove_by_text", "edit_by_text")
SIDE, GAP = 480, 4  # pixels
HALF = (SIDE, (SIDE - GAP) // 2)
MARGIN, RIM = 150, 16  # of the page, which its own bars take, and around the graph


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_base(base)
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, base, device_arguments()) as server:
            paths = sorted((ROOT / "workflows").glob("*.json"))
            for path in paths:
                if path.stem not in NEED_TEXT:
                    say(path.stem)
                    picture = thumbnail(server, json.loads((path.parent / "api" / path.name).read_text()))
                    label(picture, LABELS.get(path.stem, {}))
                    picture.save(path.with_suffix(".jpg"), quality=85)
            place_models(base)  # so that no node is red
            with open_page(server) as page:
                for path in paths:
                    if path.stem in NEED_TEXT:
                        say(path.stem)
                        graph_thumbnail(page, json.loads(path.read_text())).save(path.with_suffix(".jpg"), quality=85)


def graph_thumbnail(page: Page, workflow: dict) -> Image.Image:
    photo = next(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "LoadImage")
    load(page, workflow)
    left, top, right, bottom = box = bounds({"nodes": [n for n in workflow["nodes"] if n["type"] != "MarkdownNote"]})
    scale = min(1700 / (right - left), 800 / (bottom - top))
    show(page, box, scale, MARGIN)
    size = {"width": (right - left) * scale + 2 * RIM, "height": (bottom - top) * scale + 2 * RIM}
    graph = Image.open(io.BytesIO(page.screenshot(clip={"x": MARGIN - RIM, "y": MARGIN - RIM, **size})))
    graph = ImageOps.pad(graph, HALF, Image.Resampling.LANCZOS, graph.getpixel((1, 1)))
    return stack(Image.open(ROOT / "workflows" / "samples" / photo).convert("RGB"), graph)


def thumbnail(server: Server, prompt: dict) -> Image.Image:
    prompt = with_miniature(prompt)
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    reader = prompt[kinds.get("ASUKA_InpaintPrepare", kinds["ASUKA_MAEPriorEncode"])]["inputs"]
    saved = kinds.get("SaveVideo") or kinds["SaveImage"]
    prompt["photo"] = {"class_type": "PreviewImage", "inputs": {"images": reader["image"]}}
    prompt["hole"] = {"class_type": "MaskToImage", "inputs": {"mask": reader["mask"]}}
    prompt["hole shown"] = {"class_type": "PreviewImage", "inputs": {"images": ["hole", 0]}}
    outputs = server.run(prompt)
    photo, hole, result = (
        first_picture(server.image_file(outputs[k]["images"][0])) for k in ("photo", "hole shown", saved)
    )
    mask = hole.convert("L")
    height = np.nonzero(np.asarray(mask).max(1) > 127)[0].mean() / mask.height
    photo.paste((128, 128, 128), mask=mask)
    return stack(photo, result, height)


def stack(photo: Image.Image, result: Image.Image, height: float = 0.5) -> Image.Image:
    """One above the other, each cut to its half around a height of its own, 0 to 1."""
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    for picture, y in ((photo, 0), (result, HALF[1] + GAP)):
        canvas.paste(ImageOps.fit(picture, HALF, Image.Resampling.LANCZOS, centering=(0.5, height)), (0, y))
    return canvas


def label(picture: Image.Image, texts: dict[str, tuple[float, float]]) -> None:
    """Writes in white on dark boxes: templates are listed in the order of the disk, so their images tell which is which."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(30)
    for text, (x, y) in texts.items():
        place = x * picture.width, y * picture.height
        left, top, right, bottom = draw.textbbox(place, text, font=font, anchor="mm")
        draw.rounded_rectangle((left - 12, top - 8, right + 12, bottom + 8), 8, fill="#202020")
        draw.text(place, text, "white", font, anchor="mm")


def first_picture(path: Path) -> Image.Image:
    if path.suffix == ".mp4":
        with av.open(str(path)) as video:
            return next(video.decode(video=0)).to_image()
    return Image.open(path).convert("RGB")


if __name__ == "__main__":
    main()
