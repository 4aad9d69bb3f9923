"""The DiffEdit workflows on a real server, with random weights and without a text encoder: ASUKA's conditioning plays the
prompts."""

import json
import threading
import time

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from graphs import photo, put_image, read
from PIL import Image

from scripts.comfy_server import ROOT, Server, ServerError
from training.base.checkpoint import save_base
from training.base.unet import ConditionedUNet

PIXELS = photo(120, 104)


CHECKPOINT = "random.safetensors"
MINIATURE = "asuka-miniature.safetensors"


@pytest.fixture(scope="module", autouse=True)
def checkpoint(server: Server) -> None:
    torch.manual_seed(0)
    save_base(server.base / "models" / "checkpoints" / CHECKPOINT, AutoencoderTiny(), ConditionedUNet())


def without_text(server: Server, name: str) -> dict:
    """A shipped workflow whose prompts are priors of pictures; the empty prompt is the empty context."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = put_image(server, "diffedit.png", PIXELS)
        elif node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = CHECKPOINT
        elif node["class_type"] == "ASUKA_Load":
            node["inputs"]["file"] = MINIATURE
        elif node["class_type"] == "ImageScaleToTotalPixels":
            node["inputs"]["megapixels"] = 0.01
    prompt["asuka"] = {"class_type": "ASUKA_Load", "inputs": {"file": MINIATURE}}
    prompt["everywhere"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}}
    encoders = [key for key, node in prompt.items() if node["class_type"] == "CLIPTextEncode"]
    for seed, key in enumerate(encoders):
        text = prompt[key]["inputs"]["text"]
        picture = put_image(server, f"prompt-{seed}.png", np.roll(photo(64, 64, seed), 20 * seed, 0))
        prompt[f"{key}-picture"] = {"class_type": "LoadImage", "inputs": {"image": picture}}
        prior = {
            "mae": ["asuka", 0],
            "image": [f"{key}-picture", 0],
            "mask": ["everywhere", 0],
            "prior_image": [f"{key}-picture", 0],
        }
        prompt[f"{key}-prior"] = {"class_type": "ASUKA_MAEPriorEncode", "inputs": prior}
        strength = 1.0 if text else 0.0
        aligned = {"alignment": ["asuka", 1], "prior": [f"{key}-prior", 0], "strength": strength}
        prompt[key] = {"class_type": "ASUKA_AlignConditioning", "inputs": aligned}
    return prompt


def find(prompt: dict, kind: str) -> str:
    return next(key for key, node in prompt.items() if node["class_type"] == kind)


def test_remove_by_text(server):
    prompt = without_text(server, "remove_by_text")
    prompt[find(prompt, "ASUKA_DiffEditMask")]["inputs"] |= {"threshold": 0.4, "maps": 2}
    prompt[find(prompt, "ASUKA_CleanMask")]["inputs"] |= {"min_area": 0.0, "grow": 0.0}  # of random weights' specks
    prompt[find(prompt, "ASUKA_InpaintPrepare")]["inputs"]["resolution"] = 128
    prompt[find(prompt, "KSampler")]["inputs"]["steps"] = 2
    outputs = server.run(prompt)
    hole = read(server, outputs, find(prompt, "MaskPreview"))[..., 0] > 127
    result = read(server, outputs, find(prompt, "SaveImage"))
    assert hole.shape == PIXELS.shape[:2]
    assert hole.any()
    assert not hole.all()
    assert np.array_equal(result[~hole], PIXELS[~hole])
    assert not np.array_equal(result[hole], PIXELS[hole])


def test_edit_by_text(server):
    prompt = without_text(server, "edit_by_text")
    prompt[find(prompt, "ASUKA_DiffEditMask")]["inputs"] |= {"threshold": 0.4, "maps": 2}
    prompt[find(prompt, "ASUKA_DDIMInvert")]["inputs"]["steps"] = 5
    outputs = server.run(prompt)
    result = read(server, outputs, find(prompt, "SaveImage"))
    mask = Image.fromarray(read(server, outputs, find(prompt, "MaskPreview")))
    mask = np.asarray(mask.resize(PIXELS.shape[1::-1], Image.Resampling.BILINEAR))[..., 0]
    assert result.shape == PIXELS.shape
    assert 0 < (mask > 127).mean() < 1
    assert np.array_equal(result[mask == 0], PIXELS[mask == 0])
    assert (result[mask > 127] != PIXELS[mask > 127]).any(-1).mean() > 0.9


def test_cancelling_takes_effect_at_once(server):
    prompt = without_text(server, "edit_by_text")
    prompt[find(prompt, "ASUKA_DDIMInvert")]["inputs"] |= {"steps": 1000, "ratio": 1.0, "predict_at": "this level"}
    prompt_id = server.queue(prompt)
    result: list = []

    def wait() -> None:
        try:
            result.append(server.wait(prompt_id))
        except ServerError as error:
            result.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(5)
    assert not result
    cancelled = time.monotonic()
    server.open("/interrupt", b"{}")
    waiting.join(60)
    assert result == ["interrupted"]
    assert time.monotonic() - cancelled < 10


@pytest.mark.parametrize("node", ["ASUKA_DiffEditMask", "ASUKA_DDIMInvert"])
def test_latent_of_another_model(server, node):
    prompt = without_text(server, "edit_by_text")
    prompt["60"] = {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    prompt[find(prompt, node)]["inputs"]["samples"] = ["60", 0]
    with pytest.raises(ServerError, match=f"{node}: the latent is \\(1, 16, 8, 8\\) but the model expects"):
        server.run(prompt)
