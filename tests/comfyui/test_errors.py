"""Bad input gives one clear line and leaves the server working."""

import json
import math
import struct

import pytest
import torch
from graphs import ellipse, photo, put_image
from safetensors.torch import load_file, save_file

from scripts.comfy_server import ServerError

PIXELS, HOLE = photo(96, 96), ellipse(96, 96)


def expect(server, prompt: dict, message: str) -> None:
    """The prompt fails with a one-line message holding `message`, and the next one succeeds."""
    with pytest.raises(ServerError) as error:
        server.run(prompt)
    text = str(error.value)
    assert message in text
    assert "\n" not in text
    put_image(server, "fine.png", PIXELS, HOLE)
    server.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "fine.png"}},
            "2": {"class_type": "ASUKA_InpaintPrepare", "inputs": {"image": ["1", 0], "mask": ["1", 1], "resolution": 64, "context": 1.0}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }
    )  # fmt: skip


@pytest.fixture
def prompt(server, workflow) -> dict:
    workflow["1"]["inputs"]["image"] = put_image(server, "errors.png", PIXELS, HOLE)
    workflow["8"]["inputs"]["steps"] = 1
    return workflow


def test_photo_without_alpha(server, prompt):
    prompt["1"]["inputs"]["image"] = put_image(server, "opaque.png", PIXELS)
    expect(server, prompt, "the mask is 64x64 but the image is 96x96: Load Image gives an empty 64x64 mask")


def test_mask_of_another_shape(server, prompt):
    prompt["30"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 80, "height": 96}}
    prompt["4"]["inputs"]["mask"] = ["30", 0]
    expect(server, prompt, "the mask is 80x96 but the image is 96x96, with another aspect ratio")


@pytest.mark.parametrize("node", ["4", "5", "9"])
def test_empty_mask(server, prompt, node):
    prompt["30"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 96, "height": 96}}
    prompt[node]["inputs"]["mask"] = ["30", 0]
    expect(server, prompt, "the mask is empty, so there is nothing to inpaint")


def test_faint_mask(server, prompt):
    prompt["30"] = {"class_type": "SolidMask", "inputs": {"value": 0.4, "width": 96, "height": 96}}
    prompt["4"]["inputs"]["mask"] = ["30", 0]
    expect(server, prompt, "the mask is at most 0.40 but the hole must be above 0.5; paint it with an opaque")


def test_numbers_that_are_none(server, prompt):
    prompt["30"] = {"class_type": "SolidMask", "inputs": {"value": math.nan, "width": 96, "height": 96}}
    prompt["31"] = {"class_type": "MaskToImage", "inputs": {"mask": ["30", 0]}}
    prompt["4"]["inputs"]["image"] = ["31", 0]
    expect(server, prompt, "the image holds values that are not numbers")


def test_latent_with_numbers_that_are_none(server, prompt):
    """As an overflowing half-precision U-Net gives."""
    prompt["30"] = {"class_type": "LatentMultiply", "inputs": {"samples": ["8", 0], "multiplier": 10.0}}
    for i in range(31, 70):
        prompt[str(i)] = {"class_type": "LatentMultiply", "inputs": {"samples": [str(i - 1), 0], "multiplier": 10.0}}
    prompt["9"]["inputs"]["samples"] = ["69", 0]
    expect(
        server, prompt, "the latent holds values that are not numbers (NaN or infinity); check the KSampler, or start"
    )


def test_batches_that_do_not_fit(server, prompt):
    prompt["30"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 3}}
    prompt["31"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 2}}
    prompt["32"] = {"class_type": "ImageToMask", "inputs": {"image": ["31", 0], "channel": "red"}}
    prompt["4"]["inputs"] |= {"image": ["30", 0], "mask": ["32", 0]}
    expect(server, prompt, "batch sizes differ: 3 of image but 2 of mask; use equal counts, or a single one")


@pytest.mark.parametrize("images, prior_images", [(3, 2), (1, 3)])
def test_prior_images_that_do_not_fit(server, prompt, images, prior_images):
    for key, amount in (("30", images), ("31", prior_images)):
        prompt[key] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": amount}}
    prompt["4"]["inputs"]["image"] = ["30", 0]
    prompt["5"]["inputs"]["prior_image"] = ["31", 0]
    expect(server, prompt, f"batch sizes differ: {prior_images} of prior_image but {images} of image; use equal counts")


def test_prior_image_with_numbers_that_are_none(server, prompt):
    prompt["30"] = {"class_type": "SolidMask", "inputs": {"value": math.nan, "width": 96, "height": 96}}
    prompt["31"] = {"class_type": "MaskToImage", "inputs": {"mask": ["30", 0]}}
    prompt["5"]["inputs"]["prior_image"] = ["31", 0]
    expect(server, prompt, "the prior_image holds values that are not numbers")


def test_latent_of_another_size(server, prompt):
    prompt["30"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    prompt["9"]["inputs"]["samples"] = ["30", 0]
    expect(server, prompt, "the latent is 64x64 pixels but the image is 96x96")


def test_crop_resized_before_stitching(server, prompt):
    prompt["10"]["inputs"]["image"] = ["30", 0]
    scale = {"upscale_method": "area", "width": 48, "height": 48, "crop": "disabled"}
    prompt["30"] = {"class_type": "ImageScale", "inputs": {"image": ["9", 0], **scale}}
    expect(server, prompt, "the crop is 48x48 but Inpaint Prepare made 96x96")


def test_missing_weights_say_what_to_do(server, prompt):
    prompt["3"]["inputs"]["file"] = "nowhere.safetensors"
    expect(server, prompt, "put it there and press R")


@pytest.fixture
def weights(server) -> dict[str, torch.Tensor]:
    return load_file(server.base / "models" / "asuka" / "asuka-miniature.safetensors")


def test_truncated_weights(server, prompt):
    folder = server.base / "models" / "asuka"
    (folder / "cut.safetensors").write_bytes((folder / "asuka-miniature.safetensors").read_bytes()[:100_000])
    prompt["3"]["inputs"]["file"] = "cut.safetensors"
    expect(server, prompt, "cut.safetensors: not a readable safetensors file")


def test_foreign_weights(server, prompt):
    save_file({"lora_up.weight": torch.zeros(2)}, server.base / "models" / "asuka" / "lora.safetensors")
    prompt["3"]["inputs"]["file"] = "lora.safetensors"
    expect(server, prompt, "lora.safetensors: not recognized; it contains 1 tensors")


def test_part_that_the_file_does_not_hold(server, prompt, weights):
    path = server.base / "models" / "asuka" / "asuka-miniature.safetensors"
    size = struct.unpack("<Q", path.read_bytes()[:8])[0]
    described = json.loads(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["asuka"])
    described["parts"] = {"mae": described["parts"]["mae"]}
    only_mae = {key: value for key, value in weights.items() if key.startswith("mae.")}
    save_file(only_mae, path.with_name("only-mae.safetensors"), {"asuka": json.dumps(described)})
    prompt["3"]["inputs"]["file"] = "only-mae.safetensors"
    expect(server, prompt, "only-mae.safetensors contains no alignment, only mae; choose another file in Load ASUKA")
