"""The groups of nodes that several workflows share."""

from __future__ import annotations

from scripts.workflows import notes
from scripts.workflows.graph import Graph, Node
from scripts.workflows.models import DEMO, MINIATURE, MINIATURE_BASE, SD15_INPAINTING, VIT_MAE

TEXTURE = 4.0  # for the demo model's soft fills, in pixels of its working size


def read_me(g: Graph, text: str, sample: str, *models: dict) -> None:
    rows = [f"| {link(m)} | {m['directory']} |" for m in models]
    files = "\n".join(["| file | goes to models/ |", "| --- | --- |", *rows])
    if any(m["url"].startswith(DEMO) for m in models):
        files += "\n\n" + notes.INSTALL
    where = f"Try *{sample}* from custom_nodes/asuka-inpaint/workflows/samples."
    g.note(text.format(files=files, sample=where))


def link(model: dict) -> str:
    """A converted file has a web page, but nothing to download directly."""
    name, url = model["name"], model["url"]
    return f"[{name}]({url})" if url.endswith(name) else name


def miniature(g: Graph, column: int) -> tuple[Node, Node]:
    checkpoint = load_checkpoint(g, column, MINIATURE_BASE, "SD-1.5 inpainting checkpoint")
    return checkpoint, g.node("ASUKA_Load", column, None, [MINIATURE], file=MINIATURE["name"])


def sd15_and_mae(g: Graph, column: int) -> tuple[Node, Node]:
    checkpoint = load_checkpoint(g, column, SD15_INPAINTING, "SD-1.5 inpainting checkpoint")
    return checkpoint, g.node("ASUKA_Load", column, "Load ASUKA: the MAE alone", [VIT_MAE], file=VIT_MAE["name"])


def load_checkpoint(g: Graph, column: int, model: dict, title: str) -> Node:
    return g.node("CheckpointLoaderSimple", column, title, [model], ckpt_name=model["name"])


def encode(g: Graph, column: int, photo: Node, checkpoint: Node) -> Node:
    """The latent of the image at about 512x512 pixels, as SD-1.5 was trained with."""
    size = {"upscale_method": "area", "megapixels": 0.25, "resolution_steps": 8}
    scaled = g.node("ImageScaleToTotalPixels", column, image=photo[0], **size)
    return g.node("VAEEncode", column, pixels=scaled[0], vae=checkpoint[2])


def inpaint(g: Graph, column: int, checkpoint: Node, asuka: Node, prepared: Node, **prior) -> Node:
    """All nodes between Inpaint Prepare and Inpaint Stitch, from `column` on."""
    aligned = align(g, column, asuka, prepared, prior)
    sampled = sample(g, column + 1, checkpoint, condition(g, column + 1, aligned, checkpoint[2], prepared))
    return decode(g, column + 2, asuka, sampled, prepared)


def inpaint_guided(g: Graph, column: int, checkpoint: Node, mae: Node, prepared: Node) -> tuple[Node, Node]:
    """The sampler with MAE Prior Guidance before it, from `column` on."""
    prompt = g.node("CLIPTextEncode", column, "Empty prompt", text="", clip=checkpoint[1])
    prior = g.node("ASUKA_MAEPriorEncode", column, mae=mae[0], image=prepared[0], mask=prepared[1])
    guided = g.node(
        "ASUKA_MAEPriorGuidance",
        column + 1,
        model=checkpoint[0],
        vae=checkpoint[2],
        image=prepared[0],
        mask=prepared[1],
        prior_image=prior[1],
    )
    conditioned = g.node(
        "InpaintModelConditioning",
        column + 1,
        positive=prompt[0],
        negative=prompt[0],
        vae=checkpoint[2],
        pixels=prepared[0],
        mask=prepared[2],
        noise_mask=False,
    )
    return sample(g, column + 2, guided, conditioned), guided


def align(g: Graph, column: int, asuka: Node, prepared: Node, prior: dict = {}, **options) -> Node:
    encoded = g.node("ASUKA_MAEPriorEncode", column, mae=asuka[0], image=prepared[0], mask=prepared[1], **prior)
    return g.node("ASUKA_AlignConditioning", column, alignment=asuka[1], prior=encoded[0], **options)


def condition(g: Graph, column: int, aligned: Node, vae: tuple[Node, int], prepared: Node) -> Node:
    return g.node(
        "InpaintModelConditioning",
        column,
        positive=aligned[0],
        negative=aligned[1],
        vae=vae,
        pixels=prepared[0],
        mask=prepared[2],
        noise_mask=False,
    )


def sample(g: Graph, column: int, checkpoint: Node, conditioned: Node, **options) -> Node:
    settings = {"steps": 25, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    links = {"positive": conditioned[0], "negative": conditioned[1], "latent_image": conditioned[2]}
    return g.node("KSampler", column, model=checkpoint[0], **(links | settings | options))


def decode(g: Graph, column: int, asuka: Node, sampled: Node, prepared: Node) -> Node:
    return g.node(
        "ASUKA_HarmonizingVAEDecode",
        column,
        decoder=asuka[2],
        samples=sampled[0],
        image=prepared[0],
        mask=prepared[1],
    )


def save(g: Graph, column: int, prepared: Node, decoded: Node, **stitch) -> None:
    stitched = g.node("ASUKA_InpaintStitch", column - 1, stitch=prepared[3], image=decoded[0], **stitch)
    g.node("SaveImage", column, images=stitched[0], filename_prefix="asuka")
