"""Removes an object from a photo in a real ComfyUI server, and draws what happened side by side."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aiohttp
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from scripts.comfy_server import ROOT, Server, ServerError, make_base

WORKFLOW = ROOT / "workflows" / "api" / "remove_object.json"
PHOTO = "asuka_demo.png"  # its name in ComfyUI's input folder
PANELS = ["input, hole in grey", "MAE prior", "plain base model, stock decode", "ASUKA"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.sh", description=__doc__)
    parser.add_argument("--image", type=Path, default=ROOT / "demo" / "sample.jpg", help="photo (default: the sample)")
    parser.add_argument(
        "--mask",
        type=Path,
        help="image of the photo's size, white or transparent where something is to go; not needed for a photo with alpha",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "asuka.png", help="result (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help="keep the server up afterwards, for the browser")
    arguments = parser.parse_args()
    if arguments.image == parser.get_default("image") and arguments.mask is None:
        arguments.mask = ROOT / "demo" / "sample_mask.png"
    started = time.monotonic()
    base = ROOT / ".demo"
    make_base(base)
    try:
        photo = with_hole(arguments.image, arguments.mask)
        photo.save(base / "input" / PHOTO)
        say("starting ComfyUI")
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, base, device_arguments()) as server:
            pictures = remove_object(server, arguments.seed)
            save(photo, pictures, arguments.out, time.monotonic() - started)
            workflow = ROOT / "workflows" / "remove_object.json"
            if arguments.serve:
                say(f"open {server.url}, drop {workflow} on the page, choose {PHOTO}; Ctrl-C stops the server")
                server.process.wait()
            else:
                say(
                    f"the same in the browser: bash scripts/demo.sh --serve, then drop {workflow.relative_to(ROOT)} on the page"
                )
    except (ServerError, FileNotFoundError, UnidentifiedImageError, ValueError) as error:
        sys.exit(f"[asuka] {error}")
    except KeyboardInterrupt:
        say("stopped")


def say(text: str) -> None:
    sys.stdout.write(f"[asuka] {text}\n")
    sys.stdout.flush()


def device_arguments() -> list[str]:
    import torch  # slow to import, so not before the arguments are checked

    return [] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]


def with_hole(image: Path, mask: Path | None) -> Image.Image:
    """The photo with its hole in the alpha channel, as Load Image reads it."""
    photo = ImageOps.exif_transpose(Image.open(image))  # as Load Image turns it
    if mask is None:
        if photo.mode != "RGBA":
            raise ValueError(f"{image} has no alpha channel to tell what to remove; give --mask")
        return photo
    from training.engine.mask_file import read_mask  # slow to import, too

    hole = read_mask(mask)
    h, w = hole.shape
    if (w, h) != photo.size:
        raise ValueError(f"{mask} is {w}x{h} but {image} is {photo.width}x{photo.height}")
    if not hole.any():
        raise ValueError(f"{mask} is black all over; expected white where something is to go")
    photo = photo.convert("RGB")
    photo.putalpha(Image.fromarray(255 - 255 * hole))
    return photo


def remove_object(server: Server, seed: int) -> list[Path]:
    """Runs the shipped workflow, and beside it the same base model without ASUKA; returns prior, plain and ASUKA."""
    prompt = json.loads(WORKFLOW.read_text())
    prompt["1"]["inputs"]["image"] = PHOTO
    prompt["8"]["inputs"]["seed"] = seed
    empty = {"class_type": "ASUKA_AlignConditioning", "inputs": {**prompt["6"]["inputs"], "strength": 0.0}}
    conditioned = {"class_type": "InpaintModelConditioning", "inputs": {**prompt["7"]["inputs"], "positive": ["20", 0]}}
    links = {"positive": ["21", 0], "negative": ["21", 1], "latent_image": ["21", 2]}
    prompt |= {
        "20": empty,
        "21": conditioned,
        "22": {"class_type": "KSampler", "inputs": {**prompt["8"]["inputs"], **links}},
        "23": {"class_type": "VAEDecode", "inputs": {"samples": ["22", 0], "vae": ["2", 2]}},
        "24": {"class_type": "ASUKA_InpaintStitch", "inputs": {"stitch": ["4", 3], "image": ["23", 0]}},
        "25": {"class_type": "PreviewImage", "inputs": {"images": ["24", 0]}},
        "26": {"class_type": "ASUKA_InpaintStitch", "inputs": {"stitch": ["4", 3], "image": ["5", 1]}},
        "27": {"class_type": "PreviewImage", "inputs": {"images": ["26", 0]}},
    }
    say("removing the object, with and without ASUKA")
    outputs = asyncio.run(follow(server, prompt))
    return [server.image_file(outputs[node]["images"][0]) for node in ("27", "25", "11")]


async def follow(server: Server, prompt: dict) -> dict:
    """Runs a prompt while showing the current node and its progress; returns the outputs."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws?clientId={server.client_id}") as socket,
    ):
        prompt_id = server.queue(prompt)
        async for message in socket:
            if message.type != aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                break
            if kind in ("executing", "progress") and data["node"]:
                done = f" {data['value']:.0f}/{data['max']:.0f}" if kind == "progress" else ""
                sys.stdout.write(f"\r\033[K[asuka] {prompt[data['node']]['class_type']}{done}")
                sys.stdout.flush()
    sys.stdout.write("\r\033[K")
    return server.wait(prompt_id)


def save(photo: Image.Image, pictures: list[Path], out: Path, seconds: float) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    result = Image.open(pictures[-1])
    result.save(out)
    hole = Image.new("RGB", photo.size, (128, 128, 128))
    hole.paste(photo.convert("RGB"), mask=photo.getchannel("A"))
    comparison = out.with_name(out.stem + "_comparison.png")
    side_by_side([hole, *(Image.open(p).convert("RGB") for p in pictures)]).save(comparison)
    say(f"result:     {out} ({result.width}x{result.height}, {seconds:.0f} s in all)")
    say(f"comparison: {comparison}")


def side_by_side(pictures: list[Image.Image], height: int = 400, gap: int = 8, caption: int = 28) -> Image.Image:
    pictures = [p.resize((round(p.width * height / p.height), height), Image.Resampling.LANCZOS) for p in pictures]
    canvas = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, height + caption), "white")
    draw, x = ImageDraw.Draw(canvas), 0
    for picture, title in zip(pictures, PANELS, strict=True):
        canvas.paste(picture, (x, caption))
        draw.text((x + picture.width // 2, caption // 2), title, "black", ImageFont.load_default(16), anchor="mm")
        x += picture.width + gap
    return canvas


if __name__ == "__main__":
    main()
