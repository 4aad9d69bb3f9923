"""ASUKA Align Conditioning: the MAE prior as conditioning for the U-Net, in place of text (ASUKA, sec. 3.2)."""

import comfy.model_management
import torch
from comfy_api.latest import io
from torch import Tensor

from ..asuka_modules.alignment import interpolate_context, match_length
from . import sockets
from .checks import checked
from .networks import Missing, Network, require


class ASUKA_AlignConditioning(io.ComfyNode):
    """Maps the MAE prior to conditioning for the U-Net."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_AlignConditioning",
            display_name="ASUKA Align Conditioning",
            category="ASUKA",
            description="Turns the MAE prior into conditioning that replaces the text prompt. Sample with cfg 1.",
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
                    tooltip="1: the prior alone. 0: the empty prompt. Values between interpolate. The published FLUX weights are made for 0.5.",
                ),
                io.Conditioning.Input(
                    "base",
                    optional=True,
                    tooltip="Conditioning to use at strength 0, usually the empty prompt. If not connected, the empty prompt stored with the weights is used.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="For InpaintModelConditioning or KSampler."),
                io.Conditioning.Output(
                    "negative", tooltip="The base, resampled to the length of positive. Unused at cfg 1."
                ),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, alignment: Network | Missing, prior: Tensor, strength: float, base: list | None = None
    ) -> io.NodeOutput:
        if base and len(base) > 1:
            raise ValueError(f"base holds {len(base)} combined conditionings; expected one, usually the empty prompt")
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
    """Align the prior (B, N, prior_dim) and mix it with the empty prompt: c_empty + strength * (c_asuka - c_empty).

    The empty prompt is `base` (1 or B, T, C), by default the one stored with the weights. With `pool` the aligned tokens are
    averaged first, (B, 1, C). Returns the mixed context (B, N, C), and `base` resampled to the same length; at strength 0
    both are `base`, unchanged. Raises ValueError for widths or batch sizes that do not match, and if an empty prompt is
    needed but there is none.
    """
    mm, config = comfy.model_management, alignment.config
    if prior.shape[-1] != config.prior_dim:
        raise ValueError(
            f"the prior has width {prior.shape[-1]} but {alignment.file} expects {config.prior_dim}; load MAE and alignment from the same file"
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
            f"strength is {strength:g}, but {alignment.file} stores no empty {what} to mix with; connect the empty prompt of the model's own text encoders to `base`"
        )
    if empty.shape[-1] != context.shape[-1]:
        raise ValueError(
            f"base has width {empty.shape[-1]} but the context of {alignment.file} has {context.shape[-1]}; they belong to different models"
        )
    if len(empty) not in (1, len(context)):
        raise ValueError(
            f"batch sizes differ: {len(empty)} of base but {len(context)} of prior; use equal counts, or a single one"
        )
    empty = empty.to(context)
    if not strength:
        return empty, empty  # unchanged, so that the result is bit-identical to the model without ASUKA
    empty = match_length(empty, context.shape[1])
    return interpolate_context(context, empty, strength), empty
