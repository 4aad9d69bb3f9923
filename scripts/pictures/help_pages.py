"""Draws the images of the nodes' help pages: `bash scripts/help_pictures.sh`.

Each shows what goes into a node and what comes out, from one real run with the miniature. The miniature knows no text:
DiffEdit's two prompts are what the MAE expects without the rocket and with it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

from scripts.browser import load, open_page, show
from scripts.comfy_server import ROOT, Server, make_base
from scripts.demo import device_arguments, say

PICTURES = ROOT / "web" / "docs" / "pictures"
HEIGHT, GAP = 240, 6
PANELS = {  # node -> what goes in, what comes out: an image or a mask of the graph
    "ASUKA_InpaintPrepare": (("photo", 0), ("4", 0)),
    "ASUKA_MAEPriorEncode": (("4", 0), ("5", 1)),
    "ASUKA_AlignConditioning": (("plain decode", 0), ("9", 0)),
    "ASUKA_MAEPriorGuidance": (("plain decode", 0), ("guided decode", 0)),
    "ASUKA_InpaintConditioning": (("4", 0), ("one encode decode", 0)),
    "ASUKA_HarmonizingVAEDecode": (("stock decode", 0), ("9", 0)),
    "ASUKA_InpaintStitch": (("9", 0), ("10", 0)),
    "ASUKA_InpaintSPL": (("4", 0), ("spl", 0)),
    "ASUKA_DiffEditMask": (("small", 0), ("soft map", 0)),
    "ASUKA_CleanMask": (("found", 0), ("cleaned", 0)),
    "ASUKA_DDIMInvert": (("small", 0), ("noise decode", 0)),
    "ASUKA_DiffEditDecode": (("small", 0), ("edit decode", 0)),
    "ASUKA_RePaint": (("photo", 0), ("repaint decode", 0)),
}


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def graph() -> dict:
    """The quick start, and around it every other node."""
    prompt = json.loads((ROOT / "workflows" / "api" / "remove_object.json").read_text())
    mae, alignment, model, vae = ["3", 0], ["3", 1], ["2", 0], ["2", 2]
    sampling = {k: v for k, v in prompt["8"]["inputs"].items() if not isinstance(v, list)}
    custom = {"model": model, "add_noise": True, "noise_seed": 0, "cfg": 1.0}
    return prompt | {
        "grey": node("EmptyImage", width=640, height=427, batch_size=1, color=0x808080),
        "photo": node(
            "ImageCompositeMasked",
            destination=["1", 0],
            source=["grey", 0],
            mask=["1", 1],
            x=0,
            y=0,
            resize_source=True,
        ),
        "plain": node("ASUKA_AlignConditioning", alignment=alignment, prior=["5", 0], strength=0.0),
        "plain for inpainting": node(
            "InpaintModelConditioning", **prompt["7"]["inputs"] | {"positive": ["plain", 0], "negative": ["plain", 1]}
        ),
        "plain latent": node(
            "KSampler",
            **prompt["8"]["inputs"]
            | {"positive": ["plain for inpainting", 0], "negative": ["plain for inpainting", 1]},
        ),
        "plain decode": node("ASUKA_HarmonizingVAEDecode", **prompt["9"]["inputs"] | {"samples": ["plain latent", 0]}),
        "guided": node(
            "ASUKA_MAEPriorGuidance",
            **{"model": model, "vae": vae, "image": ["4", 0], "mask": ["4", 1], "prior_image": ["5", 1]},
            **{"strength": 1.0, "detail": 1.0, "until": 1.0, "close_seam": True},
        ),
        "guided latent": node(
            "KSampler",
            **prompt["8"]["inputs"]
            | {
                "model": ["guided", 0],
                "positive": ["plain for inpainting", 0],
                "negative": ["plain for inpainting", 1],
            },
        ),
        "guided decode": node(
            "ASUKA_HarmonizingVAEDecode", **prompt["9"]["inputs"] | {"samples": ["guided latent", 0]}
        ),
        "one encode": node(
            "ASUKA_InpaintConditioning",
            **{"positive": ["6", 0], "negative": ["6", 1], "vae": vae, "image": ["4", 0], "mask": ["4", 2]},
            noise_mask=False,
        ),
        "one encode latent": node(
            "KSampler",
            **prompt["8"]["inputs"]
            | {"positive": ["one encode", 0], "negative": ["one encode", 1], "latent_image": ["one encode", 2]},
        ),
        "one encode decode": node(
            "ASUKA_HarmonizingVAEDecode", **prompt["9"]["inputs"] | {"samples": ["one encode latent", 0]}
        ),
        "stock decode": node("VAEDecode", samples=["8", 0], vae=vae),
        "spl weights": node("ASUKA_Load", file="asuka-miniature-spl.safetensors"),
        "spl": node("ASUKA_InpaintSPL", spl=["spl weights", 3], image=["4", 0], mask=["4", 1], resolution=256),
        "square": node("ImageCrop", image=["1", 0], width=427, height=427, x=112, y=0),
        "small": node("ImageScale", image=["square", 0], upscale_method="area", width=256, height=256, crop="disabled"),
        "complete": node("ASUKA_MAEPriorEncode", mae=mae, image=["4", 0], mask=["4", 1], prior_image=["small", 0]),
        "rocket": node("ASUKA_AlignConditioning", alignment=alignment, prior=["complete", 0], strength=1.0),
        "latent": node("VAEEncode", pixels=["small", 0], vae=vae),
        "find": node(
            "ASUKA_DiffEditMask",
            **{"model": model, "query": ["6", 0], "reference": ["rocket", 0], "samples": ["latent", 0]},
            **{"threshold": 0.5, "seed": 0, "maps": 10, "strength": 0.5, "clip": "mean", "clip_ratio": 3.0},
        ),
        "soft map": node("MaskToImage", mask=["find", 1]),
        "found": node("MaskToImage", mask=["find", 0]),
        "clean": node("ASUKA_CleanMask", mask=["find", 0], min_area=0.005, fill_holes=True, grow=0.03),
        "cleaned": node("MaskToImage", mask=["clean", 0]),
        "invert": node(
            "ASUKA_DDIMInvert",
            **{"model": model, "conditioning": ["plain", 0], "samples": ["latent", 0]},
            **{"steps": 50, "ratio": 0.8, "predict_at": "next level"},
        ),
        "noise decode": node("VAEDecode", samples=["invert", 0], vae=vae),
        "edit": node(
            "ASUKA_DiffEditDecode",
            **{"model": model, "positive": ["6", 0], "negative": ["plain", 0], "trajectory": ["invert", 1]},
            **{"mask": ["4", 1], "cfg": 1.0},
        ),
        "edit decode": node("VAEDecode", samples=["edit", 0], vae=vae),
        "repaint": node("ASUKA_RePaint", jump_length=5, resamples=3),
        "levels": node("BasicScheduler", model=model, scheduler=sampling["scheduler"], steps=25, denoise=1.0),
        "crop latent": node("VAEEncode", pixels=["4", 0], vae=vae),
        "hole latent": node("SetLatentNoiseMask", samples=["crop latent", 0], mask=["4", 2]),
        "repaint latent": node(
            "SamplerCustom",
            **custom,
            **{"positive": ["7", 0], "negative": ["7", 1], "sampler": ["repaint", 0], "sigmas": ["levels", 0]},
            latent_image=["hole latent", 0],
        ),
        "repaint decode": node("VAEDecode", samples=["repaint latent", 0], vae=vae),
    }


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_base(base)
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, base, device_arguments()) as server:
            say("one run through every node")
            prompt = graph()
            for link in {link for panels in PANELS.values() for link in panels}:
                prompt[f"see {link}"] = node("PreviewImage", images=list(link))
            outputs = server.run(prompt)
            for name, panels in PANELS.items():
                pictures = [Image.open(server.image_file(outputs[f"see {link}"]["images"][0])) for link in panels]
                side_by_side(pictures).save(PICTURES / f"{name}.jpg", quality=88)
            say("the loader, in the page")
            loader(server, PICTURES / "ASUKA_Load.jpg")


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    pictures = [p.convert("RGB").resize((round(p.width * HEIGHT / p.height), HEIGHT)) for p in pictures]
    canvas = Image.new("RGB", (sum(p.width + GAP for p in pictures) - GAP, HEIGHT), "white")
    x = 0
    for picture in pictures:
        canvas.paste(picture, (x, 0))
        x += picture.width + GAP
    return canvas


def loader(server: Server, out: Path) -> None:
    """Load ASUKA as the page shows it in the quick start."""
    workflow = json.loads((ROOT / "workflows" / "remove_object.json").read_text())
    box = next(n for n in workflow["nodes"] if n["type"] == "ASUKA_Load")
    (left, top), (width, height) = box["pos"], box["size"]
    with open_page(server) as page:
        load(page, workflow)
        show(page, (left, top - 30, left + width, top + height), 1.0, 190)
        page.screenshot(
            path=out, type="jpeg", quality=88, clip={"x": 170, "y": 170, "width": width + 40, "height": height + 70}
        )


if __name__ == "__main__":
    main()
