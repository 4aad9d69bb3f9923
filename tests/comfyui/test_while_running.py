"""What a user sees while a prompt runs: progress, a cancel button that works, nothing done twice, memory that stays."""

import asyncio
import gc
import io
import json
import os
import shutil
import sys
import time
import weakref

import aiohttp
import numpy as np
import psutil
import pytest
import torch
from graphs import ellipse, photo, put_image
from PIL import Image

from scripts.comfy_server import ROOT, Server

MANY = 150  # images in a batch, or steps: seconds of work, so that there is something to cancel


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def graph(server: Server):
    """Every node of ours that takes its time, for a batch and a number of steps."""
    put_image(server, "running.png", photo(192, 160), ellipse(192, 160))

    def build(amount: int) -> dict:
        return {
            "1": node("LoadImage", image="running.png"),
            "2": node("CheckpointLoaderSimple", ckpt_name="asuka-miniature-base.safetensors"),
            "3": node("ASUKA_Load", file="asuka-miniature.safetensors"),
            "spl weights": node("ASUKA_Load", file="asuka-miniature-spl.safetensors"),
            "photos": node("RepeatImageBatch", image=["1", 0], amount=amount),
            "hole": node("MaskToImage", mask=["1", 1]),
            "hole images": node("RepeatImageBatch", image=["hole", 0], amount=amount),
            "holes": node("ImageToMask", image=["hole images", 0], channel="red"),
            "one": node("ASUKA_InpaintPrepare", image=["1", 0], mask=["1", 1], resolution=64, context=1.5),
            "prior of one": node("ASUKA_MAEPriorEncode", mae=["3", 0], image=["one", 0], mask=["one", 1]),
            "align": node("ASUKA_AlignConditioning", alignment=["3", 1], prior=["prior of one", 0], strength=1.0),
            "latent": node("VAEEncode", pixels=["one", 0], vae=["2", 2]),
            "latents": node("RepeatLatentBatch", samples=["latent", 0], amount=min(amount, 64)),
            "clean": node("ASUKA_CleanMask", mask=["holes", 0], min_area=0.001, fill_holes=True, grow=0.05),
            "prepare": node(
                "ASUKA_InpaintPrepare",
                **{"image": ["photos", 0], "mask": ["holes", 0], "resolution": 64, "context": 3.0, "grow": 9},
            ),
            "prior": node("ASUKA_MAEPriorEncode", mae=["3", 0], image=["photos", 0], mask=["1", 1]),
            "sample": node(
                "KSampler",
                **{"model": ["2", 0], "positive": ["align", 0], "negative": ["align", 1], "latent_image": ["latent", 0]},
                **{"seed": 0, "steps": amount, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": 1.0},
            ),
            "decode": node(
                "ASUKA_HarmonizingVAEDecode",
                **{"decoder": ["3", 2], "samples": ["latents", 0], "image": ["one", 0], "mask": ["one", 1], "keep_known": True},
            ),
            "stitch": node("ASUKA_InpaintStitch", stitch=["prepare", 3], image=["prepare", 0], feather=8),
            "invert": node(
                "ASUKA_DDIMInvert",
                **{"model": ["2", 0], "conditioning": ["align", 1], "samples": ["latent", 0]},
                **{"steps": amount, "ratio": 0.8, "predict_at": "next level"},
            ),
            "way": node(
                "ASUKA_DDIMInvert",
                **{"model": ["2", 0], "conditioning": ["align", 1], "samples": ["latent", 0]},
                **{"steps": 40, "ratio": 0.8, "predict_at": "next level"},
            ),
            "edit": node(
                "ASUKA_DiffEditDecode",
                **{"model": ["2", 0], "positive": ["align", 0], "negative": ["align", 1], "trajectory": ["way", 1]},
                **{"mask": ["one", 1], "cfg": 2.0},
            ),
            "find": node(
                "ASUKA_DiffEditMask",
                **{"model": ["2", 0], "query": ["align", 0], "reference": ["align", 1], "samples": ["latent", 0]},
                **{"threshold": 0.5, "seed": 0, "maps": min(amount, 64), "strength": 0.5, "clip": "mean", "clip_ratio": 3.0},
            ),
            "spl": node("ASUKA_InpaintSPL", spl=["spl weights", 3], image=["photos", 0], mask=["1", 1], resolution=128),
        }  # fmt: skip

    return build


LONG = ["clean", "prepare", "prior", "sample", "decode", "stitch", "invert", "edit", "find", "spl"]


def until(prompt: dict, name: str) -> dict:
    """The prompt up to a node."""
    return {**prompt, "end": node("PreviewAny", source=[name, 0])}


async def follow(
    server: Server, prompt: dict, cancel_at: str | None = None, previews: str = "none"
) -> list[tuple[float, str, dict]]:
    """Runs a prompt; (seconds, kind, data) of all that the page is told. Cancels it at the first progress of a node.

    A preview's data are its picture, and the node that told of its progress last.
    """
    events = []
    url = f"{server.url}/ws?clientId={server.client_id}"
    async with asyncio.timeout(300), aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        prompt_id = server.queue(prompt, preview_method=previews)
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                picture = Image.open(io.BytesIO(message.data[8:]))  # after the kinds of event and of picture
                events.append((time.monotonic(), "preview", {"picture": picture, "node": events[-1][2]["node"]}))
            if message.type != aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            events.append((time.monotonic(), kind, data))
            if kind == "progress" and data["node"] == cancel_at:
                events.append((time.monotonic(), "cancelled", data))
                server.open("/interrupt", b"{}")
                cancel_at = None
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                return events
    raise AssertionError("the server hung up")


def run(*arguments) -> list[tuple[float, str, dict]]:
    return asyncio.run(follow(*arguments))


@pytest.mark.parametrize("name", LONG)
def test_cancel_works_within_a_second(server, graph, name):
    events = run(server, until(graph(MANY), name), name)
    times = {kind: when for when, kind, _ in events}
    assert "execution_interrupted" in times
    assert times["execution_interrupted"] - times["cancelled"] < 1
    assert next(data for _, kind, data in events if kind == "execution_interrupted")["node_id"] == name


def test_long_steps_report_progress(server, graph):
    prompt = graph(3)
    for name in LONG:
        prompt[f"end of {name}"] = node("PreviewAny", source=[name, 0])
    events = run(server, prompt)
    assert events[-1][1] == "execution_success"
    for name in LONG:
        values = [
            (data["value"], data["max"]) for _, kind, data in events if kind == "progress" and data["node"] == name
        ]
        assert len(values) > 1 or name == "prior", name  # which takes up to 16 images at once
        assert values == sorted(values)
        assert values[-1][0] == values[-1][1]


@pytest.mark.parametrize(
    ("previews", "amount"), [("latent2rgb", 2), ("none", 4)]
)  # amounts of its own: nothing is cached
def test_long_steps_show_what_they_make(server, graph, previews, amount):
    """Where the user wants previews: the pictures of a batch as they are finished, or DiffEdit's map as it settles."""
    sizes = {"decode": (512, 512), "spl": (512, 427), "find": (512, 512)}  # as ComfyUI shows them: crop, photo, crop
    prompt = graph(amount)
    for name in sizes:
        prompt[f"end of {name}"] = node("PreviewAny", source=[name, 0])
    events = asyncio.run(follow(server, prompt, previews=previews))
    assert events[-1][1] == "execution_success"
    assert executed(events) >= sizes.keys()
    for name, size in sizes.items():
        pictures = [data["picture"] for _, kind, data in events if kind == "preview" and data["node"] == name]
        assert [picture.size for picture in pictures] == ([size] * amount if previews != "none" else [])
        assert all(np.asarray(picture).std() > 5 for picture in pictures)


def executed(events: list) -> set[str]:
    return {data["node"] for _, kind, data in events if kind == "executing" and data["node"]}


def test_nothing_is_done_twice(server, workflow):
    workflow["1"]["inputs"]["image"] = put_image(server, "cached.png", photo(96, 96), ellipse(96, 96))
    workflow["8"]["inputs"]["steps"] = 1
    assert executed(run(server, workflow)) >= {"4", "5", "6", "8", "9", "10"}
    assert not executed(run(server, workflow))
    workflow["8"]["inputs"]["seed"] += 1
    assert executed(run(server, workflow)) == {"8", "9", "10", "11"}


def test_new_weights_under_the_same_name_are_loaded(server, workflow):
    file = shutil.copy(
        server.base / "models" / "asuka" / "asuka-miniature.safetensors",
        server.base / "models" / "asuka" / "new.safetensors",
    )
    workflow["1"]["inputs"]["image"] = put_image(server, "cached.png", photo(96, 96), ellipse(96, 96))
    workflow["3"]["inputs"]["file"] = "new.safetensors"
    workflow["8"]["inputs"]["steps"] = 1
    run(server, workflow)
    os.utime(file, (0, 0))
    assert "3" in executed(run(server, workflow))


def test_memory_stays_over_repeated_prompts(server, workflow):
    """Every prompt has another photo, hole and seed, so that all of it is computed anew."""
    process = psutil.Process(server.process.pid)
    workflow["4"]["inputs"]["resolution"] = 128

    def repeat(seeds: range) -> float:
        for seed in seeds:
            pixels, hole = photo(960, 640, seed), ellipse(960, 640, 0.2 + 0.02 * (seed % 5))
            workflow["1"]["inputs"]["image"] = put_image(server, f"memory-{seed}.png", pixels, hole)
            workflow["8"]["inputs"] |= {"steps": 1, "seed": seed}
            server.run(workflow)
        return process.memory_info().rss / 2**20

    before = repeat(range(10))  # until the allocator's pools have their size
    assert repeat(range(10, 20)) - before < 35  # a photo alone is 7 MiB, the weights are 90


def test_nothing_stays_after_unloading(extension):
    import comfy.model_management as mm

    parts = sys.modules["asuka_extension.asuka_modules.checkpoints"].load(ROOT / "demo" / "asuka-miniature.safetensors")
    loaded = []
    for part in parts.values():
        network = sys.modules["asuka_extension.nodes.networks"].Network(part, torch.device("cpu"), torch.device("cpu"))
        loaded.append(weakref.ref(network.load(0)))
        assert network.patcher in [model.model for model in mm.current_loaded_models]
    mm.unload_all_models()
    del network
    gc.collect()
    assert not mm.current_loaded_models
    assert [reference() for reference in loaded] == [None] * len(parts)
