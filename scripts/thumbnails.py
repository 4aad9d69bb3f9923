"""Draws the workflows' thumbnails from real runs with the miniature: `bash scripts/thumbnails.sh`.

Above the photo with its hole in grey, below what the workflow made of it. Workflows that need weights which the miniature
cannot stand in for get none.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from comfy_server import ROOT, Server, make_base
from PIL import Image, ImageOps
from stand_ins import with_miniature

from demo import device_arguments, say

NEED_TEXT = ("flux_fill", "remove_by_text", "edit_by_text")
SIDE, GAP = 480, 4


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_base(base)
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, base, device_arguments()) as server:
            for path in sorted((ROOT / "workflows").glob("*.json")):
                if path.stem in NEED_TEXT:
                    continue
                say(path.stem)
                thumbnail(server, json.loads((path.parent / "api" / path.name).read_text())).save(
                    path.with_suffix(".jpg"), quality=85
                )


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
        first_picture(server.picture(outputs[k]["images"][0])) for k in ("photo", "hole shown", saved)
    )
    mask = hole.convert("L")
    height = np.nonzero(np.asarray(mask).max(1) > 127)[0].mean() / mask.height
    photo.paste((128, 128, 128), mask=mask)
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    size = (SIDE, (SIDE - GAP) // 2)
    for picture, y in ((photo, 0), (result, size[1] + GAP)):
        canvas.paste(ImageOps.fit(picture, size, Image.Resampling.LANCZOS, centering=(0.5, height)), (0, y))
    return canvas


def first_picture(path: Path) -> Image.Image:
    if path.suffix == ".mp4":
        with av.open(str(path)) as video:
            return next(video.decode(video=0)).to_image()
    return Image.open(path).convert("RGB")


if __name__ == "__main__":
    main()
