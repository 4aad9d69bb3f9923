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


def remove_object(g: Graph) -> None:
    g.note(0, QUICK_START, 420)
    photo = g.node("LoadImage", 0, "Photo, the hole painted in the mask editor", image="asuka_sample.png")
    checkpoint = g.node(
        "CheckpointLoaderSimple", 1, "SD-1.5 inpainting checkpoint", ckpt_name="asuka-miniature-base.safetensors"
    )
    asuka = g.node("ASUKA_Load", 1, file="asuka-miniature.safetensors")
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256)
    prior = g.node("ASUKA_MAEPriorEncode", 2, mae=asuka[0], image=prepared[0], mask=prepared[1])
    aligned = g.node("ASUKA_AlignConditioning", 2, alignment=asuka[1], prior=prior[0])
    conditioned = condition(g, 3, aligned, checkpoint, prepared)
    sampled = sample(g, 3, checkpoint, conditioned)
    decoded = g.node(
        "ASUKA_HarmonizingVAEDecode", 4, decoder=asuka[2], samples=sampled[0], image=prepared[0], mask=prepared[1]
    )
    stitched = g.node("ASUKA_InpaintStitch", 4, stitch=prepared[3], image=decoded[0])
    g.node("SaveImage", 4, images=stitched[0], filename_prefix="asuka")


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


WORKFLOWS = [remove_object]


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
