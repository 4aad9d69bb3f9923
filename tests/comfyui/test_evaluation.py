"""The benchmark's methods on a real ComfyUI server."""

import threading
import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from graphs import ellipse, photo
from PIL import Image

from scripts.comfy_server import ROOT, ServerError
from training.evaluation import benchmark
from training.evaluation.benchmark import Benchmark
from training.evaluation.comfyui import ComfyUI, ComfyUIConfig, ComfyUIError
from training.evaluation.graphs import Diffusion, Guidance, RePaint, inpaint
from training.evaluation.hashes import sha256
from training.evaluation.inpaint_input import prepare_input
from training.evaluation.methods import MethodConfig, make_method
from training.evaluation.pairs import PairsConfig
from training.evaluation.pytorch import PyTorchConfig, Stack, WeightsConfig

BASE, FILE, SIZE = "asuka-miniature-base.safetensors", "asuka-miniature.safetensors", 64
SPL = "asuka-miniature-spl.safetensors"
SD = Diffusion(BASE, asuka=FILE, strength=0.0, steps=3)
METHODS = {
    "ASUKA": replace(SD, strength=1.0, decoder=FILE),
    "decoder stock": replace(SD, strength=1.0),
    "SD": SD,
    "SD-RePaint": replace(SD, repaint=RePaint(1, 2)),
    "SD, guided by the MAE": replace(SD, guidance=Guidance(file=FILE)),
    "SD, guided by SPL": replace(SD, guidance=Guidance("spl", SPL)),
    "SD, guided by gray": replace(SD, guidance=Guidance("flat")),
    "SD-text": Diffusion("sd.safetensors", prompt="background", cfg=7.5),
    "SD-prompt": Diffusion("sd.safetensors", prompt="embedding:asuka_sd_prompt", noise_mask=True, whole_cells=False),
}


@pytest.fixture(scope="module")
def runtime(server) -> ComfyUIConfig:
    return ComfyUIConfig(server.url, str(server.base / "models"))


@pytest.fixture(scope="module")
def question():
    mask = np.where(ellipse(SIZE, SIZE), 255, 0).astype(np.uint8)
    return prepare_input("0", photo(SIZE, SIZE), mask, seed=7)


@pytest.mark.parametrize("name", METHODS)
def test_graphs_fit_the_nodes(server, name):
    info = server.get("/object_info")
    for node in inpaint(METHODS[name], "photo.png", SIZE, 0).values():
        declared = info[node["class_type"]]["input"]
        assert declared.get("required", {}).keys() <= node["inputs"].keys(), node
        assert node["inputs"].keys() <= declared.get("required", {}).keys() | declared.get("optional", {}).keys(), node


@pytest.fixture(scope="module")
def results(runtime, question) -> dict[str, np.ndarray]:
    """Of those methods that do without a text encoder, which the miniature has not."""
    ours = {name: diffusion for name, diffusion in METHODS.items() if diffusion.asuka}
    return {name: make_method(MethodConfig(name, diffusion), runtime)(question) for name, diffusion in ours.items()}


def test_every_method_answers(results, question):
    assert len(results) == 7
    for name, result in results.items():
        assert (result.shape, result.dtype) == (question.image.shape, np.uint8), name
    for a, b in combinations(results, 2):
        assert not np.array_equal(results[a], results[b])


def test_answer_is_that_of_the_seed(runtime, question, results):
    method = make_method(MethodConfig("SD", SD), runtime)
    assert np.array_equal(method(question), results["SD"])
    assert not np.array_equal(method(replace(question, seed=8)), results["SD"])


@pytest.mark.parametrize("name", ["SD", "decoder stock", "ASUKA"])
def test_plain_pytorch_gives_what_comfyui_gives(question, results, name):
    """From the same noise; the two compute in other precisions. Another seed is much further away."""
    stack = Stack(WeightsConfig(str(ROOT / "demo" / BASE), str(ROOT / "demo" / FILE)))
    settings = PyTorchConfig(
        "empty" if name == "SD" else "prior", "harmonizing" if name == "ASUKA" else "stock", steps=3
    )
    method = make_method(MethodConfig(name, pytorch=settings), stack=stack)
    same, other = (method(replace(question, seed=seed))[question.hole].astype(int) for seed in (7, 8))
    expected = results[name][question.hole]
    assert np.abs(same - expected).mean() < 0.5 * np.abs(other - expected).mean()


def make_recipe(runtime: ComfyUIConfig, tmp_path, names: tuple[str, ...]) -> Benchmark:
    """Of two photos."""
    rng = np.random.default_rng(0)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(2):
        Image.fromarray(photo(SIZE, SIZE, i)).save(tmp_path / "photos" / f"{i}.png")
        Image.fromarray(ellipse(SIZE, SIZE, rng.uniform(0.2, 0.3)).astype(np.uint8) * 255).save(
            tmp_path / "masks" / f"{i}.png"
        )
    return Benchmark(
        pairs=PairsConfig(photos=str(tmp_path / "photos"), mask_folder=str(tmp_path / "masks"), size=SIZE),
        methods=tuple(MethodConfig(name, METHODS[name]) for name in names),
        out=str(tmp_path / "out"),
        comfyui=runtime,
        features="none",
        lpips=False,
        clip=False,
        seeds=2,
    )


def test_whole_benchmark_runs_and_continues(server, runtime, tmp_path):
    recipe = make_recipe(runtime, tmp_path, ("SD", "ASUKA"))
    results = benchmark.run(recipe)
    assert results["methods"]["ASUKA"]["means"].keys() >= {"psnr", "ssim", "grad", "seed_spread"}
    assert set(results["methods"]["ASUKA"]["weights"]) == {BASE, FILE}
    version = server.get("/system_stats")["system"]["comfyui_version"]
    assert results["versions"]["comfyui"] == version
    assert results["methods"]["SD"]["made_by"] == {"commit": [results["commit"]], "comfyui": [version]}
    assert "2 seeds, 3 steps, no features" in (tmp_path / "out" / "results.md").read_text()
    pictures = sorted((tmp_path / "out" / "pictures").rglob("*.png"))
    assert [path.name for path in pictures] == ["0-0.png", "0-1.png", "1-0.png", "1-1.png"] * 2
    lost, before = pictures[3], pictures[3].read_bytes()
    lost.unlink()
    assert benchmark.run(recipe) == results
    assert lost.read_bytes() == before


def test_methods_that_differ_in_the_decoder_share_the_latent(server, runtime, tmp_path):
    before = server.get("/history")
    benchmark.run(make_recipe(runtime, tmp_path, ("SD", "ASUKA", "decoder stock")))
    asked = [entry for prompt_id, entry in server.get("/history").items() if prompt_id not in before]
    kept = [
        {
            node
            for kind, message in entry["status"]["messages"]
            if kind == "execution_cached"
            for node in message["nodes"]
        }
        for entry in sorted(asked, key=lambda entry: entry["prompt"][0])
    ]
    assert ["sampled" in nodes for nodes in kept] == [False] * 4 + [False, True] * 4
    assert not any("decoded" in nodes for nodes in kept)


def test_another_alignment_can_be_tried(runtime, question, results):
    method = make_method(MethodConfig("same", replace(METHODS["ASUKA"], alignment=FILE)), runtime)
    assert np.array_equal(method(question), results["ASUKA"])


def test_weights_are_named_by_their_hashes(runtime):
    method = make_method(MethodConfig("ASUKA", METHODS["ASUKA"]), runtime)
    assert method.weights == {name: sha256(ROOT / "demo" / name) for name in (BASE, FILE)}
    assert set(ComfyUI(ComfyUIConfig(runtime.url)).weights({"x": "asuka"}).values()) == {"not hashed"}


def test_what_goes_wrong_is_told(runtime, question):
    with pytest.raises(ComfyUIError, match=r"no ComfyUI answers at http://127\.0\.0\.1:9; start it"):
        ComfyUI(ComfyUIConfig("http://127.0.0.1:9"))
    with pytest.raises(ComfyUIError, match=r"ComfyUI refused /prompt: .*not in"):
        make_method(MethodConfig("x", replace(SD, checkpoint="none.safetensors")), ComfyUIConfig(runtime.url))(question)
    with pytest.raises(ComfyUIError, match=r"ComfyUI, CLIPTextEncode: .*clip"):
        make_method(MethodConfig("x", Diffusion(BASE)), runtime)(question)


def test_missing_weights_are_told(runtime):
    ablation = replace(METHODS["ASUKA"], alignment="align-attn.safetensors")
    with pytest.raises(
        FileNotFoundError, match=r"models/asuka has no align-attn\.safetensors; put it there, or .*training\.ablations"
    ):
        make_method(MethodConfig("x", ablation), runtime)


def test_graph_taken_off_the_queue_is_told(server, runtime, question):
    """Instead of waiting for it for ever."""
    comfyui, told = ComfyUI(runtime), []
    graph = inpaint(replace(SD, steps=1000), comfyui.upload(question.image, question.hole), SIZE, 0)

    def ask_and_wait():
        with pytest.raises(ComfyUIError, match="lost the graph: stopped, or taken off the queue"):
            comfyui.image(graph, "result")
        told.append(True)

    first = server.queue(graph)  # keeps the server busy
    waiting = threading.Thread(target=ask_and_wait, daemon=True)
    waiting.start()
    while not server.get("/queue")["queue_pending"]:
        time.sleep(0.05)
    comfyui.request("POST", "/queue", json={"clear": True})
    waiting.join(timeout=20)
    comfyui.request("POST", "/interrupt")
    with pytest.raises(ServerError, match="interrupted"):
        server.wait(first)
    assert told
