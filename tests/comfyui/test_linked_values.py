"""What a link can pass on to a node: anything. Every node takes it or says in one line what it expects."""

import inspect
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.comfy_server import ROOT

DEMO = ROOT / "demo"
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def weights(extension, monkeypatch) -> None:
    """The folder that Load ASUKA lists."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "asuka", ([str(DEMO)], {".safetensors"}))


@pytest.fixture(scope="module")
def given(extension) -> dict[str, object]:
    """Something valid of every kind that is no number, picture or mask."""
    import comfy.sd

    nodes = sys.modules["asuka_extension.nodes"]
    checkpoints = sys.modules["asuka_extension.asuka_modules.checkpoints"]
    cpu = torch.device("cpu")
    parts = checkpoints.load(DEMO / "asuka-miniature.safetensors") | checkpoints.load(
        DEMO / "asuka-miniature-spl.safetensors"
    )
    networks = {f"ASUKA_{n.upper()}": nodes.networks.Network(part, cpu, cpu) for n, part in parts.items()}
    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(
        str(DEMO / "asuka-miniature-base.safetensors"), output_clip=False
    )
    conditioning = [[torch.zeros(1, 77, model.model.model_config.unet_config["context_dim"]), {}]]
    hole = torch.zeros(1, 64, 64)
    hole[:, 20:40, 10:30] = 1
    stitch = nodes.prepare.ASUKA_InpaintPrepare.execute(torch.rand(1, 64, 64, 3), hole, 64, 2.5).args[3]
    latent = {"samples": torch.randn(1, 4, 8, 8)}
    trajectory = nodes.ddim_invert.ASUKA_DDIMInvert.execute(model, conditioning, latent, 4, 0.5, "next level").args[1]
    prior = torch.randn(1, 256, 512)
    kinds = {
        "MODEL": model,
        "VAE": vae,
        "CONDITIONING": conditioning,
        "ASUKA_STITCH": stitch,
        "ASUKA_TRAJECTORY": trajectory,
    }
    return kinds | {"LATENT": latent, "ASUKA_PRIOR": prior} | networks


def some_hole(rng: np.random.Generator) -> torch.Tensor:
    batch, h, w = rng.choice([1, 1, 2]), *rng.choice([64, 64, 40], 2)
    mask = torch.zeros(batch, h, w)
    top, left = int(rng.integers(0, h - 12)), int(rng.integers(0, w - 12))
    mask[:, top : top + 12, left : left + 12] = float(rng.choice([1.0, 0.9]))
    return mask


def taken(socket, rng: np.random.Generator, given: dict) -> object:
    """A value that a link may pass on."""
    kind = socket.get_io_type()
    if kind in ("INT", "FLOAT"):
        low, high = socket.min, min(socket.max, 4 * max(socket.default, 1))
        if socket.id in ("steps", "maps"):
            high = min(high, 3)
        return int(rng.integers(low, high + 1)) if kind == "INT" else float(rng.uniform(low, high))
    if kind == "BOOLEAN":
        return bool(rng.integers(2))
    if kind == "COMBO":
        return str(rng.choice(socket.options))
    if kind == "IMAGE":
        return torch.rand(
            int(rng.choice([1, 1, 2])), *map(int, rng.choice([64, 64, 40], 2)), int(rng.choice([3, 3, 1, 4]))
        )
    if kind == "MASK":
        mask = some_hole(rng)
        return [mask, mask[0], mask[:, None], mask[..., None], mask > 0.5, mask.double()][rng.integers(6)]
    if kind == "LATENT":
        batch, *cells = (int(n) for n in (rng.choice([1, 2]), *rng.choice([8, 8, 5], 2)))
        return {"samples": torch.randn(batch, 4, *cells)}
    return given[kind]


def refused(socket, rng: np.random.Generator, given: dict) -> object:
    """A value that no node can do anything with."""
    kind = socket.get_io_type()
    values = [] if socket.optional and socket.id in ("prior_image", "image", "base") else [None]
    if kind in ("INT", "FLOAT"):
        values += [socket.min - 1, -5, -INF, INF, NAN, socket.max + 1, "3", torch.ones(1), 10**400, [1]]
        values += [socket.min + 0.5] if kind == "INT" else []
        values = [value for value in values if not (value == -5 and socket.min <= -5)]
    elif kind == "BOOLEAN":
        values += ["yes", 2, NAN, torch.ones(2), []]
    elif kind == "COMBO":
        values += ["nothing of the kind", 7, [], {}]
    elif kind == "IMAGE":
        image = torch.rand(1, 64, 64, 3)
        values += [image[0], image[:0], image[:, :0], image[..., :0], (image * 255).to(torch.uint8), image.numpy(), "a"]
        values += [image > 0.5, image[None], {"samples": image}]
    elif kind == "MASK":
        mask = some_hole(rng)
        values += [
            mask[:0],
            mask[:, :0],
            mask * NAN,
            mask.numpy(),
            mask[..., None].expand(-1, -1, -1, 3),
            mask[0, 0],
            1.0,
        ]
    elif kind == "LATENT":
        values += [{}, {"samples": None}, {"samples": torch.zeros(0, 4, 8, 8)}, {"samples": torch.zeros(4, 8, 8)}]
        values += [
            torch.zeros(1, 4, 8, 8),
            {"samples": torch.full((1, 4, 8, 8), NAN)},
            {"samples": torch.zeros(1, 16, 8, 8)},
        ]
    elif kind == "CONDITIONING":
        values += [[], [[]], [None], "prompt", [["prompt", {}]], torch.zeros(1, 77, 768)]
    elif kind == "ASUKA_PRIOR":
        prior = given[kind]
        values += [prior[:0], prior[0], prior[..., :7], prior * NAN, prior.numpy()]
    else:
        values += [7, "model", torch.zeros(1), {}, []]
    return values[rng.integers(len(values))]


def said_by_the_node(error: Exception) -> bool:
    """Whether a node raised it itself, in one line, rather than something that it called."""
    where = Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent
    return (
        isinstance(error, ValueError) and where in (ROOT / "nodes", ROOT / "asuka_modules") and "\n" not in str(error)
    )


def fuzz(node, rng: np.random.Generator, given: dict, spoil: bool) -> None:
    sockets = {socket.id: socket for socket in node.define_schema().inputs}
    arguments = {name: taken(socket, rng, given) for name, socket in sockets.items()}
    spoilt = rng.choice(list(sockets)) if spoil else None
    if spoil:
        arguments[spoilt] = refused(sockets[spoilt], rng, given)
    described = {name: getattr(value, "shape", value) for name, value in arguments.items()}
    try:
        outputs = node.execute(**arguments).args
    except Exception as error:
        if not said_by_the_node(error):
            raise AssertionError(f"{node.__name__} with {spoilt} spoilt, given {described}"[:2000]) from error
        return
    assert not spoil, f"{node.__name__} took {spoilt} = {described[spoilt]}"
    for output in outputs:
        if isinstance(output, torch.Tensor):
            assert torch.isfinite(output).all()


NODES = ["Load", "InpaintConditioning", "MAEPriorGuidance", "InpaintPrepare", "InpaintStitch", "MAEPriorEncode", "AlignConditioning", "HarmonizingVAEDecode", "CleanMask", "DiffEditMask", "DDIMInvert", "DiffEditDecode", "InpaintSPL", "RePaint"]  # fmt: skip


def every_node(extension) -> dict[str, type]:
    nodes = sys.modules["asuka_extension.nodes"]
    return {name.removeprefix("ASUKA_"): node for name, node in vars(nodes).items() if name.startswith("ASUKA_") and inspect.isclass(node)}  # fmt: skip


def test_every_node_checks_what_it_is_given(extension):
    for name, node in every_node(extension).items():
        assert hasattr(node.execute, "__wrapped__"), f"{name}.execute is not @checked"


@pytest.mark.parametrize("name", ["InpaintConditioning", "MAEPriorGuidance"])
def test_something_else_than_a_vae(extension, given, name):
    node, rng = every_node(extension)[name], np.random.default_rng(0)
    arguments = {socket.id: taken(socket, rng, given) for socket in node.define_schema().inputs}
    for other in ({}, [], "model", torch.zeros(1)):
        with pytest.raises(ValueError, match=r"vae is .*, expected VAE"):
            node.execute(**arguments | {"vae": other})


@pytest.mark.parametrize("name", ["InpaintConditioning", "MAEPriorGuidance"])
@pytest.mark.parametrize("size", [(1, 1), (7, 64), (64, 7)])
def test_image_smaller_than_a_latent_pixel(extension, given, name, size):
    node, rng = every_node(extension)[name], np.random.default_rng(0)
    arguments = {socket.id: taken(socket, rng, given) for socket in node.define_schema().inputs}
    image = torch.rand(1, *size, 3)
    arguments |= {"image": image, "prior_image": image, "mask": torch.ones(1, *size), "strength": 1.0}
    arguments = {socket.id: arguments[socket.id] for socket in node.define_schema().inputs}
    with pytest.raises(ValueError, match=f"the image is {size[1]}x{size[0]} but the VAE encodes no fewer than 8x8"):
        node.execute(**arguments)


ODD = {
    "sparse": torch.Tensor.to_sparse,
    "meta": lambda x: x.to("meta"),
    "complex": lambda x: x.to(torch.complex64),
    "fp8": lambda x: x.to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_cannot_be_computed_with(extension, given, weights, name, kind):
    node, rng = every_node(extension)[name], np.random.default_rng(0)
    sockets = node.define_schema().inputs
    arguments = {socket.id: taken(socket, rng, given) for socket in sockets}
    for socket in sockets:
        value = arguments[socket.id]
        if socket.get_io_type() in ("IMAGE", "MASK", "LATENT", "ASUKA_PRIOR"):
            odd = {"samples": ODD[kind](value["samples"])} if isinstance(value, dict) else ODD[kind](value.float())
            with pytest.raises(ValueError, match=r"is not a dense tensor|has dtype") as raised:
                node.execute(**arguments | {socket.id: odd})
            assert said_by_the_node(raised.value)


@pytest.mark.parametrize("name", NODES)
@torch.inference_mode()
def test_fuzzed_calls(extension, given, weights, name):
    """Whatever comes, it is taken or told of by the node itself: no internal message, and no number that is none."""
    node, rng = every_node(extension)[name], np.random.default_rng(20)
    for i in range(16):
        fuzz(node, rng, given, spoil=bool(i % 4))
