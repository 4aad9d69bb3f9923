"""ASUKA Align Conditioning: the MAE prior as the U-Net's conditioning, in place of text."""

import comfy.model_management
import torch
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.alignment import interpolate_context, match_length
from . import sockets
from .checks import checked
from .networks import Missing, Network, require


class ASUKA_AlignConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_AlignConditioning",
            display_name="ASUKA Align Conditioning",
            category="ASUKA",
            description="Turns the MAE prior into conditioning that replaces the text encoders'. Sample with cfg 1.",
            search_aliases=["asuka", "inpaint conditioning", "object removal", "promptless"],
            inputs=[
                sockets.Alignment.Input("alignment", tooltip="From Load ASUKA."),
                sockets.Prior.Input("prior", tooltip="From MAE Prior Encode."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1: the prior alone. 0: the empty prompt. Between: interpolated. FLUX's weights were published for 0.5.",
                ),
                io.Conditioning.Input(
                    "base",
                    optional=True,
                    tooltip="Conditioning that stands for strength 0, usually the empty prompt. Without it the empty prompt stored with the weights is used.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="For InpaintModelConditioning or KSampler."),
                io.Conditioning.Output("negative", tooltip="The base, as long as positive; unused at cfg 1."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, alignment: Network | Missing, prior: Tensor, strength: float, base: list | None = None
    ) -> io.NodeOutput:
        if base and len(base) > 1:
            raise ValueError(
                f"base holds {len(base)} conditionings combined; one was expected, usually the empty prompt"
            )
        empty, options = base[0] if base else (None, {})
        alignment = require(alignment)
        positive, negative = align(alignment, prior, empty, strength)
        positive_options, negative_options = dict(options), dict(options)
        if alignment.pooled:
            vector = options.get("pooled_output")
            pooled = align(alignment.pooled, prior, None if vector is None else vector[:, None], strength, pool=True)
            positive_options["pooled_output"], negative_options["pooled_output"] = (x[:, 0] for x in pooled)
        return io.NodeOutput([[positive, positive_options]], [[negative, negative_options]])


def align(
    alignment: Network, prior: Tensor, base: Tensor | None, strength: float, pool: bool = False
) -> tuple[Tensor, Tensor]:
    """The aligned prior (B, N, C), or with `pool` its mean (B, 1, C), mixed with `base` (1 or B, T, C), which stands for the
    empty prompt; and this, as long, which at strength 0 is `base` as it is. Without `base` the empty prompt stored with the
    weights is used."""
    mm, config = comfy.model_management, alignment.config
    if prior.shape[-1] != config.prior_dim:
        raise ValueError(
            f"the prior is {prior.shape[-1]} wide but {alignment.file} takes {config.prior_dim}; load MAE and alignment from the same file"
        )
    network = alignment.load(memory_required=prior.numel() // config.prior_dim * config.context_dim * 4 * 32)
    context = network(prior.to(alignment.device, torch.float32)).to(mm.intermediate_device())
    if pool:
        context = context.mean(dim=1, keepdim=True)
    if base is not None:
        empty = base
    elif config.empty_tokens:
        empty = network.empty_context
    elif strength == 1:
        empty = torch.zeros_like(context[:1])
    else:
        what = "pooled vector" if pool else "prompt"
        raise ValueError(
            f"strength is {strength:g}, but {alignment.file} stores no empty {what} to mix with; connect as `base` the empty prompt from the model's own text encoders"
        )
    if empty.shape[-1] != context.shape[-1]:
        raise ValueError(
            f"base is {empty.shape[-1]} wide but the context of {alignment.file} is {context.shape[-1]}; they belong to different models"
        )
    if len(empty) not in (1, len(context)):
        raise ValueError(
            f"there are {len(empty)} of base but {len(context)} of prior; give one for each, or one for all"
        )
    empty = empty.to(context)
    if not strength:
        return empty, empty  # as they are, so that this is the plain model to the bit
    empty = match_length(empty, context.shape[1])
    return interpolate_context(context, empty, strength), empty
