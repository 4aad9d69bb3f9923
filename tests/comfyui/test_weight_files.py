"""Published files in the model folder of a real server: the good ones work as they are, the others are named."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AsymmetricAutoencoderKL
from graphs import ellipse, photo, put_image, read
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from scripts.comfy_server import ROOT, Server, ServerError

GOOD = "asuka-miniature.safetensors"


def shipped(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / name).read_text())


@pytest.fixture(scope="module")
def folder(server: Server) -> Path:
    return server.base / "models" / "asuka"


@pytest.fixture(scope="module")
def decoder_file(folder: Path) -> Path:
    """A small Asymmetric VQGAN as diffusers writes it, under the name of the shipped workflow."""
    torch.manual_seed(0)
    decoder = AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=(32,) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=(32, 64, 128, 128),
    )
    file = folder / "asymmetric-vqgan-x1.5.safetensors"
    save_file(decoder.state_dict(), file)
    return file


def test_decoder_of_diffusers_in_a_stock_graph(server, decoder_file):
    """The shipped decoder-only workflow; the miniature has no text encoder, so its prompts come from the prior."""
    graph = shipped("decoder_only.json")
    pixels, hole = photo(200, 168), ellipse(200, 168)
    graph["1"]["inputs"]["image"] = put_image(server, "decoder.png", pixels, hole)
    graph["2"]["inputs"]["ckpt_name"] = "asuka-miniature-base.safetensors"
    graph["8"]["inputs"]["steps"] = 2
    graph["20"] = {"class_type": "ASUKA_Load", "inputs": {"file": GOOD}}
    graph["21"] = {
        "class_type": "ASUKA_MAEPriorEncode",
        "inputs": {"mae": ["20", 0], "image": ["6", 0], "mask": ["6", 1]},
    }
    for node in ("4", "5"):
        inputs = {"alignment": ["20", 1], "prior": ["21", 0], "strength": 1.0}
        graph[node] = {"class_type": "ASUKA_AlignConditioning", "inputs": inputs}
    result = read(server, server.run(graph), "11")
    assert result.shape == pixels.shape
    assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(result[hole], pixels[hole])


def test_mae_of_transformers_shows_what_it_expects(server, folder, tmp_path):
    """The shipped MAE workflow, with a network whose prediction is known: every pixel ImageNet's mean, raised a little."""
    torch.manual_seed(0)
    mae = ViTMAEForPreTraining(ViTMAEConfig(num_hidden_layers=1, decoder_num_hidden_layers=8))
    nn.init.zeros_(mae.decoder.decoder_pred.weight)
    nn.init.constant_(mae.decoder.decoder_pred.bias, 0.5)
    mae.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(folder / "model.safetensors")
    graph = shipped("mae_preview.json")
    graph["1"]["inputs"]["image"] = put_image(server, "mae.png", photo(300, 200), ellipse(300, 200))
    result = read(server, server.run(graph), "4")
    expected = (np.array([0.485, 0.456, 0.406]) + 0.5 * np.array([0.229, 0.224, 0.225])) * 255
    assert result.shape == (200, 300, 3)
    assert np.abs(result - expected).max() <= 1


def load(file: str, output: int = 2) -> dict:
    """A graph that uses one output of Load ASUKA: 0 the MAE, 1 the alignment, 2 the decoder."""
    graph = shipped("remove_object.json")
    graph["1"]["inputs"]["image"] = "small.png"
    graph["20"] = {"class_type": "ASUKA_Load", "inputs": {"file": file}}
    node, name = {0: ("5", "mae"), 1: ("6", "alignment"), 2: ("9", "decoder")}[output]
    graph[node]["inputs"][name] = ["20", output]
    graph["8"]["inputs"]["steps"] = 1
    return graph


class Hostile:
    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("name", ["hostile.safetensors", "hostile.pth"])
def test_hostile_pickle_is_refused_and_does_not_run(server, folder, tmp_path, name):
    torch.save({"model": Hostile(tmp_path / "ran")}, folder / name)
    put_image(server, "small.png", photo(64, 64), ellipse(64, 64))
    with pytest.raises(ServerError, match=rf"{name}: looks like a PyTorch pickle, which could run code"):
        server.run(load(name))
    assert not (tmp_path / "ran").exists()
    server.run(load(GOOD))  # the server is well


@pytest.mark.parametrize(
    ("output", "part"), [(0, "mae"), (1, "alignment")], ids=["decoder for a MAE", "decoder for an alignment"]
)
def test_mixed_up_file_is_named(server, decoder_file, output, part):
    put_image(server, "small.png", photo(64, 64), ellipse(64, 64))
    message = rf"{decoder_file.name} contains no {part}, only decoder; choose another file in Load ASUKA"
    with pytest.raises(ServerError, match=message):
        server.run(load(decoder_file.name, output))


def test_truncated_and_unknown_files_are_named(server, folder, decoder_file):
    put_image(server, "small.png", photo(64, 64), ellipse(64, 64))
    (folder / "truncated.safetensors").write_bytes(decoder_file.read_bytes()[:-5000])
    save_file({"lora_up.weight": torch.zeros(1)}, folder / "lora.safetensors")
    (folder / "page.safetensors").write_text("<html>Sign in to download</html>")
    for name, message in {
        "truncated.safetensors": "not a readable safetensors file .* download it again",
        "page.safetensors": "not a readable safetensors file .* download it again",
        "lora.safetensors": "not recognized; it contains 1 tensors such as lora_up.weight. Known: ASUKA's own; ",
        "absent.safetensors": "is not in .*put it there and press R",
    }.items():
        with pytest.raises(ServerError, match=f"{name}.*{message}"):
            server.run(load(name))
    server.run(load(GOOD))


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


CHANGES = {
    "truncated": lambda path: os.truncate(path, 100),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten": overwrite,
}


@pytest.mark.parametrize("change", CHANGES)
def test_file_that_changes_during_a_run_changes_nothing(server, folder, change):
    """A mapped file would kill the server with its next use, here of the decoder after sampling."""
    put_image(server, "small.png", photo(64, 64), ellipse(64, 64))
    expected = read(server, server.run(long_run(GOOD)), "11")
    path = folder / f"{change}.safetensors"
    path.write_bytes((folder / GOOD).read_bytes())
    logged = len(server.log.read_text())
    prompt = server.queue(long_run(path.name))
    for _ in server.poll(120):
        if f"/{STEPS} [" in server.log.read_text()[logged:]:
            break
    CHANGES[change](path)
    assert not server.get(f"/history/{prompt}")
    assert np.array_equal(read(server, server.wait(prompt), "11"), expected)
    with pytest.raises(
        ServerError, match=rf"{change}\.safetensors: not a readable safetensors file .* download it again"
    ):
        server.run(load(path.name))
    server.run(load(GOOD))


STEPS = 12


def long_run(file: str) -> dict:
    """The shipped graph with all networks of one file, and so many steps that there is time to change it."""
    graph = load(file)
    for node in graph.values():
        if node["class_type"] == "ASUKA_Load":
            node["inputs"]["file"] = file
    graph["8"]["inputs"]["steps"] = STEPS
    return graph


def test_impossible_description_and_nan_are_named(server, folder):
    with safe_open(folder / GOOD, "pt") as file:
        good = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    put_image(server, "small.png", photo(64, 64), ellipse(64, 64))
    described = json.loads(good["asuka"])
    described["parts"]["mae"]["depth"] = 10**9
    save_file(tensors, folder / "deep.safetensors", {"asuka": json.dumps(described)})
    with pytest.raises(ServerError, match=r"deep\.safetensors: its description says depth is for 1000000000 of blocks"):
        server.run(load("deep.safetensors"))
    tensors["decoder.decoder.conv_in.bias"][0] = float("nan")
    save_file(tensors, folder / "nan.safetensors", good)
    with pytest.raises(ServerError, match=r"nan\.safetensors: decoder\.decoder\.conv_in\.bias of \d+ tensors hold NaN"):
        server.run(load("nan.safetensors"))
    server.run(load(GOOD))
