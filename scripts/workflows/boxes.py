"""The shipped subgraph blueprints: the most useful workflows as a single node each."""

from __future__ import annotations

from scripts.workflows.blueprint import Blueprint
from scripts.workflows.steps import TEXTURE, align, condition, decode, inpaint_guided, miniature, sample, sd15_and_mae


def asuka_inpaint(object_info: dict) -> Blueprint:
    """The quick start as a single node."""
    g = Blueprint(
        "ASUKA Inpaint",
        object_info,
        "Replaces the hole with background, without a prompt: prior, alignment, sampling, harmonizing decode, stitch.",
        ["asuka", "inpaint", "object removal", "remove object", "erase"],
    )
    checkpoint, asuka = miniature(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 0, resolution=256, separate_crops=True)
    aligned = align(g, 1, asuka, prepared)
    sampled = sample(g, 2, checkpoint, condition(g, 2, aligned, checkpoint[2], prepared))
    decoded = decode(g, 3, asuka, sampled, prepared)
    stitched = g.node("ASUKA_InpaintStitch", 3, stitch=prepared[3], image=decoded[0], texture=TEXTURE)
    for name in ("image", "mask", "resolution", "context", "grow"):
        g.expose(prepared, name)
    for name in ("seed", "steps"):
        g.expose(sampled, name)
    g.expose(stitched, "texture")
    g.expose(checkpoint, "ckpt_name", "checkpoint")
    g.expose(asuka, "file", "asuka")
    g.result = stitched[0]
    return g


def inpaint_without_training(object_info: dict) -> Blueprint:
    """The same for MAE Prior Guidance."""
    g = Blueprint(
        "Inpaint Without Training",
        object_info,
        "Replaces the hole with background, with any SD-1.5 inpainting checkpoint and a published MAE: MAE Prior Guidance.",
        ["asuka", "inpaint", "object removal", "remove object", "erase", "guidance"],
    )
    checkpoint, mae = sd15_and_mae(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 0, separate_crops=True)
    sampled, guided = inpaint_guided(g, 1, checkpoint, mae, prepared)
    decoded = g.node("VAEDecode", 4, samples=sampled[0], vae=checkpoint[2])
    stitched = g.node("ASUKA_InpaintStitch", 4, stitch=prepared[3], image=decoded[0])
    for name in ("image", "mask", "resolution", "context", "grow"):
        g.expose(prepared, name)
    for name in ("strength", "detail", "until"):
        g.expose(guided, name)
    for name in ("seed", "steps"):
        g.expose(sampled, name)
    g.expose(checkpoint, "ckpt_name", "checkpoint")
    g.expose(mae, "file", "mae")
    g.result = stitched[0]
    return g


BLUEPRINTS = [asuka_inpaint, inpaint_without_training]
