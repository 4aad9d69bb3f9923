"""Writes the shipped workflows: `bash scripts/workflows.sh`, after a node or one of the descriptions below has changed."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from comfy_server import ROOT, Server, make_base
from workflow_graph import Graph, Node

QUICK_START = """# Remove an object

1. Load a photo and paint over what should go (right-click the picture, **Open in Mask Editor**).
2. Run.

**Inpaint Prepare** crops around the hole and empties it. **MAE Prior Encode** reads from the rest what belongs there. \
**ASUKA Align Conditioning** tells it to the U-Net in place of a prompt. **Harmonizing VAE Decode** makes the colours \
meet. **Inpaint Stitch** puts the result back: everything outside of the hole stays exactly as it was.

The weights here are the *miniature*, for trying things out at `resolution` 256. With an SD-1.5 inpainting checkpoint \
and weights trained for it (see `training/README.md`), set `resolution` to 512."""


PRIOR_FROM_SPL = """# A prior from SPL

As *Remove an object*, but **Inpaint (SPL)** first fills the hole in one pass, guided by its guess of what the scene holds. \
**MAE Prior Encode** reads the prior from that picture instead of predicting it itself, and ASUKA paints after it.

Compare with the quick start: SPL sees textures and edges that the MAE blurs; where SPL goes wrong, so does the prior.

SPL's weights are a file of their own: here the miniature's, otherwise a converted Places2, CelebA or Paris checkpoint."""

REMOVE_BY_TEXT = """# Remove by text

1. Load a photo and write in **What goes** what should go, e.g. "a dog".
2. Run.

**DiffEdit Mask** noises the photo and compares what the model makes of it with the two prompts: where they disagree \
is what the prompt is about. **Clean Mask** drops specks, fills holes and grows the mask over shadows and soft edges. \
The rest is as in *Remove an object*.

Too much in the mask: raise `threshold`; too little: lower it. More words help when both prompts share them: "a dog on a \
beach" against "a beach".

The miniature has no text encoder: choose an SD-1.5 inpainting checkpoint, and weights trained for it."""

EDIT_BY_TEXT = """# Edit by text (DiffEdit)

1. Load a photo; write in **What is there** and in **What should be there**, e.g. "a dog" and "a cat".
2. Run.

**DiffEdit Mask** finds where the prompts disagree. **DDIM Invert** follows the picture back to noise with the empty \
prompt. **DiffEdit Decode** comes back with the new prompt under the mask, and the same way everywhere else, where \
nothing changes.

`ratio` of DDIM Invert: more lets the edit change more.

Any checkpoint that is not for inpainting will do, here SD-1.5: v1-5-pruned-emaonly-fp16.safetensors, in \
models/checkpoints."""

SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}


def remove_object(g: Graph) -> None:
    g.note(0, QUICK_START, 420)
    photo = g.node("LoadImage", 0, "Photo, the hole painted in the mask editor", image="asuka_sample.png")
    checkpoint, asuka = load_models(g)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256)
    prior = g.node("ASUKA_MAEPriorEncode", 2, mae=asuka[0], image=prepared[0], mask=prepared[1])
    inpaint(g, 2, checkpoint, asuka, prepared, prior)


def prior_from_spl(g: Graph) -> None:
    g.note(0, PRIOR_FROM_SPL, 360)
    photo = g.node("LoadImage", 0, "Photo, the hole painted in the mask editor", image="asuka_sample.png")
    checkpoint, asuka = load_models(g)
    spl = g.node("ASUKA_Load", 1, "Load ASUKA: SPL", file="asuka-miniature-spl.safetensors")
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256)
    filled = g.node("ASUKA_InpaintSPL", 2, spl=spl[3], image=prepared[0], mask=prepared[1])
    g.node("PreviewImage", 2, "What SPL makes of it", images=filled[0])
    prior = g.node("ASUKA_MAEPriorEncode", 3, mae=asuka[0], image=prepared[0], mask=prepared[1], prior_image=filled[0])
    inpaint(g, 3, checkpoint, asuka, prepared, prior)


def remove_by_text(g: Graph) -> None:
    g.note(0, REMOVE_BY_TEXT, 420)
    photo = g.node("LoadImage", 0, "Photo", image="asuka_sample.png")
    checkpoint, asuka = load_models(g)
    goes = g.node("CLIPTextEncode", 1, "What goes", text="a dog", clip=checkpoint[1])
    stays = g.node("CLIPTextEncode", 1, "What is there without it", text="", clip=checkpoint[1])
    latent = encode(g, 1, photo, checkpoint)
    found = g.node(
        "ASUKA_DiffEditMask",
        2,
        model=checkpoint[0],
        query=stays[0],
        reference=goes[0],
        samples=latent[0],
        image=photo[0],
    )
    cleaned = g.node("ASUKA_CleanMask", 2, mask=found[0])
    g.node("MaskPreview", 2, "What will go", mask=cleaned[0])
    prepared = g.node("ASUKA_InpaintPrepare", 3, image=photo[0], mask=cleaned[0])
    prior = g.node("ASUKA_MAEPriorEncode", 3, mae=asuka[0], image=prepared[0], mask=prepared[1])
    inpaint(g, 3, checkpoint, asuka, prepared, prior)


def edit_by_text(g: Graph) -> None:
    g.note(0, EDIT_BY_TEXT, 360)
    photo = g.node("LoadImage", 0, "Photo", image="asuka_sample.png")
    checkpoint = g.node("CheckpointLoaderSimple", 1, models=[SD15], ckpt_name=SD15["name"])
    there = g.node("CLIPTextEncode", 1, "What is there", text="a dog", clip=checkpoint[1])
    wanted = g.node("CLIPTextEncode", 1, "What should be there", text="a cat", clip=checkpoint[1])
    empty = g.node("CLIPTextEncode", 1, "Empty prompt", text="", clip=checkpoint[1])
    latent = encode(g, 2, photo, checkpoint)
    found = g.node("ASUKA_DiffEditMask", 2, model=checkpoint[0], query=wanted[0], reference=there[0], samples=latent[0])
    g.node("MaskPreview", 2, "What will change", mask=found[0])
    inverted = g.node("ASUKA_DDIMInvert", 3, model=checkpoint[0], conditioning=empty[0], samples=latent[0])
    edited = g.node(
        "ASUKA_DiffEditDecode",
        3,
        model=checkpoint[0],
        positive=wanted[0],
        negative=empty[0],
        trajectory=inverted[1],
        mask=found[0],
    )
    decoded = g.node("VAEDecode", 3, samples=edited[0], vae=checkpoint[2])
    g.node("SaveImage", 3, images=decoded[0], filename_prefix="asuka_edit")


def load_models(g: Graph) -> tuple[Node, Node]:
    checkpoint = g.node(
        "CheckpointLoaderSimple", 1, "SD-1.5 inpainting checkpoint", ckpt_name="asuka-miniature-base.safetensors"
    )
    return checkpoint, g.node("ASUKA_Load", 1, file="asuka-miniature.safetensors")


def encode(g: Graph, column: int, photo: Node, checkpoint: Node) -> Node:
    """The latent of the photo at about the 512x512 pixels that SD-1.5 knows."""
    scaled = g.node(
        "ImageScaleToTotalPixels",
        column,
        image=photo[0],
        upscale_method="area",
        megapixels=0.25,
        resolution_steps=8,
    )
    return g.node("VAEEncode", column, pixels=scaled[0], vae=checkpoint[2])


def inpaint(g: Graph, column: int, checkpoint: Node, asuka: Node, prepared: Node, prior: Node) -> None:
    """From the prior, in `column`, to the saved photo, two columns on."""
    aligned = g.node("ASUKA_AlignConditioning", column, alignment=asuka[1], prior=prior[0])
    conditioned = condition(g, column + 1, aligned, checkpoint, prepared)
    sampled = sample(g, column + 1, checkpoint, conditioned)
    decoded = g.node(
        "ASUKA_HarmonizingVAEDecode",
        column + 2,
        decoder=asuka[2],
        samples=sampled[0],
        image=prepared[0],
        mask=prepared[1],
    )
    stitched = g.node("ASUKA_InpaintStitch", column + 2, stitch=prepared[3], image=decoded[0])
    g.node("SaveImage", column + 2, images=stitched[0], filename_prefix="asuka")


def condition(g: Graph, column: int, aligned: Node, checkpoint: Node, prepared: Node) -> Node:
    return g.node(
        "InpaintModelConditioning",
        column,
        positive=aligned[0],
        negative=aligned[1],
        vae=checkpoint[2],
        pixels=prepared[0],
        mask=prepared[2],
        noise_mask=False,
    )


def sample(g: Graph, column: int, checkpoint: Node, conditioned: Node) -> Node:
    return g.node(
        "KSampler",
        column,
        model=checkpoint[0],
        positive=conditioned[0],
        negative=conditioned[1],
        latent_image=conditioned[2],
        steps=25,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
    )


WORKFLOWS = [remove_object, prior_from_spl, remove_by_text, edit_by_text]


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        make_base(Path(base))
        with Server(Path(os.environ["COMFYUI_PATH"]), sys.executable, Path(base), ["--cpu"]) as server:
            object_info = server.get("/object_info")
    for describe in WORKFLOWS:
        graph = Graph(describe.__name__, object_info)
        describe(graph)
        graph.write(ROOT / "workflows")


if __name__ == "__main__":
    main()
