"""Formats of published checkpoints: how to recognize each, convert its names, and read its sizes. A new one is an entry."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .alignment import AlignmentConfig
from .decoder import DecoderConfig
from .mae import MAEConfig
from .spl import SPLConfig

Config = MAEConfig | AlignmentConfig | DecoderConfig | SPLConfig
State = Mapping[str, Tensor]

GRID = 16  # patches along each side of the prior
HEADS = {512: 16, 768: 12, 1024: 16, 1280: 16}  # of the published MAEs, by width: no tensor's shape gives them
CLIP_WIDTH = 768  # of FLUX's pooled vector


INCOMPLETE = "download it again, or, if it is one of several files of a network, convert their folder"


class FormatError(ValueError):
    """Unusable tensors; the message says what they look like and what was expected."""


@dataclass(frozen=True)
class CheckpointFormat:
    """One format in which a network was published."""

    name: str
    part: str  # the network in our terms, a key of checkpoints.PARTS
    keys: tuple[str, ...]  # tensors that identify the format
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]  # to our names and shapes
    config: Callable[[State], Config]  # read from the converted tensors
    prefixes: tuple[str, ...] = ("",)  # of the network's tensors; a file may contain other networks
    ignore: tuple[str, ...] = ()  # parts of the names of tensors that the network never uses
    extra_check: Callable[[State], bool] = lambda tensors: (
        True
    )  # identifies the format further if `keys` do not suffice

    def matches(self, tensors: State) -> bool:
        """Return whether a state dict has this format."""
        return all(key in tensors for key in self.keys) and self.extra_check(tensors)

    def owns(self, key: str) -> bool:
        """Return whether the tensor of this name belongs to the network and is used."""
        return key.startswith(self.prefixes) and not any(name in key for name in self.ignore)

    def read(self, tensors: State) -> tuple[Config, dict[str, Tensor]]:
        """Return the config and the tensors with our names and shapes. Raises FormatError if tensors are missing or wrong."""
        try:
            state = self.convert({key: value for key, value in tensors.items() if self.owns(key)})
            return self.config(state), state
        except KeyError as error:
            raise FormatError(f"looks like {self.name}, but {error.args[0]} is missing; {INCOMPLETE}") from error
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(f"looks like {self.name}, but {error}") from error


def recognize(tensors: State) -> CheckpointFormat:
    """Return the format of a state dict. Raises FormatError if it is not in `CHECKPOINT_FORMATS`."""
    for checkpoint_format in CHECKPOINT_FORMATS:
        if checkpoint_format.matches(tensors):
            return checkpoint_format
    for key, description in UNUSABLE.items():
        if key in tensors:
            raise FormatError(description)
    known = "; ".join(dict.fromkeys(checkpoint_format.name for checkpoint_format in CHECKPOINT_FORMATS))
    some = ", ".join(sorted(tensors)[:5])[:200]
    raise FormatError(f"not recognized; it contains {len(tensors)} tensors such as {some}. Known: ASUKA's own; {known}")


def rename(tensors: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Replace parts of the tensors' names, in the order given."""
    renamed = {}
    for key, value in tensors.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def count(tensors: State, prefix: str) -> int:
    """Return how many of `prefix`0., `prefix`1., ... exist."""
    there = {key.removeprefix(prefix).split(".", 1)[0] for key in tensors if key.startswith(prefix)}
    return next(n for n in itertools.count() if str(n) not in there)


# Decoders

DIFFUSERS_DECODER = {
    "condition_encoder.": "encoder.",
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "mid_block.attentions.0.": "mid.attn_1.",
    "group_norm.": "norm.",
    "to_q.": "q.",
    "to_k.": "k.",
    "to_v.": "v.",
    "to_out.0.": "proj_out.",
    ".resnets.": ".block.",
    ".upsamplers.0.": ".upsample.",
    "conv_norm_out.": "norm_out.",
    "conv_shortcut.": "nin_shortcut.",
}


def from_diffusers_decoder(tensors: State) -> dict[str, Tensor]:
    """Convert diffusers' names: it numbers the resolutions from the coarsest, and uses linear layers for 1x1 convolutions."""
    levels = count(tensors, "decoder.up_blocks.")
    flipped = {f"up_blocks.{i}.": f"up.{levels - 1 - i}." for i in range(levels)}
    renamed = rename(tensors, flipped | DIFFUSERS_DECODER)
    return {key: value[..., None, None] if value.ndim == 2 else value for key, value in renamed.items()}


def decoder_config(state: State) -> DecoderConfig:
    """Read the size of a harmonizing decoder from its tensors."""
    ch = state["decoder.conv_out.weight"].shape[1]
    widths = [len(state[f"decoder.up.{i}.block.0.conv1.weight"]) for i in range(count(state, "decoder.up."))]
    concat_mask = state["decoder.encoder.layers.0.weight"].shape[1] == 4
    return DecoderConfig(
        ch=ch,
        ch_mult=tuple(width // ch for width in widths),
        num_res_blocks=count(state, "decoder.up.0.block."),
        latent_channels=state["decoder.conv_in.weight"].shape[1],
        post_quant_conv="post_quant_conv.weight" in state,
        concat_mask=concat_mask,
        mask_reduction="area" if concat_mask else "nearest",  # ASUKA-FLUX's training, Asymmetric VQGAN's
    )


# MAEs

HUGGINGFACE_MAE = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "vit.encoder.layer.": "blocks.",
    "vit.layers.": "blocks.",  # transformers 5 in memory
    "vit.layernorm.": "norm.",
    "decoder.decoder_layers.": "decoder_blocks.",
    "decoder.decoder_encoder.layer.": "decoder_blocks.",  # transformers 5 in files
    "decoder.": "",
    "layernorm_before.": "norm1.",
    "layernorm_after.": "norm2.",
    "attention.attention.": "attn.",
    "attention.output.dense.": "attn.proj.",
    "attention.q_proj.": "attn.query.",
    "attention.k_proj.": "attn.key.",
    "attention.v_proj.": "attn.value.",
    "attention.o_proj.": "attn.proj.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}


def from_facebook_mae(tensors: State) -> dict[str, Tensor]:
    """Resample the position embeddings; the names are already ours."""
    positions = {key: resample_positions(tensors[key], "cls_token" in tensors) for key in POSITIONS}
    return {**tensors, **positions}


POSITIONS = ("pos_embed", "decoder_pos_embed")


def resample_positions(embedding: Tensor, class_token: bool) -> Tensor:
    """Resample a position embedding (1, N, C) bicubically to the prior's grid, except for a class token's, which is first."""
    extra, patches = embedding[:, :class_token], embedding[:, class_token:]
    side = math.isqrt(patches.shape[1])
    image = patches.float().unflatten(1, (side, side)).movedim(-1, 1)
    image = F.interpolate(image, (GRID, GRID), mode="bicubic")
    return torch.cat([extra, image.flatten(2).transpose(1, 2).to(embedding)], dim=1)


def from_huggingface_mae(tensors: State) -> dict[str, Tensor]:
    """Convert transformers' names, and join its queries, keys and values."""
    renamed = rename(tensors, HUGGINGFACE_MAE)
    joined = {key: value for key, value in renamed.items() if not any(f".attn.{name}." in key for name in QKV)}
    for key in renamed:
        if ".attn.query." in key:
            parts = [renamed[key.replace(".query.", f".{name}.")] for name in QKV]
            joined[key.replace(".query.", ".qkv.")] = torch.cat(parts)
    return from_facebook_mae(joined)


QKV = ("query", "key", "value")


def mae_config(state: State) -> MAEConfig:
    """Read the size of a MAE from its tensors. Raises ValueError for a width with an unknown number of heads."""
    dim, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    decoder_dim = len(state["decoder_embed.weight"])
    for width in (dim, decoder_dim):
        if width not in HEADS:
            raise ValueError(f"its width is {width}, expected one of {list(HEADS)}; the number of heads is unknown")
    return MAEConfig(
        image_size=GRID * patch_size,
        patch_size=patch_size,
        embed_dim=dim,
        depth=count(state, "blocks."),
        num_heads=HEADS[dim],
        decoder_embed_dim=decoder_dim,
        decoder_depth=count(state, "decoder_blocks."),
        decoder_num_heads=HEADS[decoder_dim],
        mlp_ratio=len(state["blocks.0.mlp.fc1.weight"]) / dim,
        partial_patches="alpha" in state,
        class_token="cls_token" in state,
    )


# Alignment modules


def from_sequential_alignment(tensors: State) -> dict[str, Tensor]:
    """Convert the names of a torch Sequential of a linear layer, blocks and a LayerNorm, as in ASUKA's release."""
    depth = sum(key.endswith(".linear1.weight") for key in tensors)
    names = {"0": "proj_in", str(depth + 1): "norm"} | {str(i + 1): f"blocks.{i}" for i in range(depth)}
    renamed = {}
    for key, value in tensors.items():
        index, _, rest = key.partition(".")
        rest = rest.replace("norm.query_norm.scale", "query_norm.weight").replace(
            "norm.key_norm.scale", "key_norm.weight"
        )
        renamed[f"{names.get(index, index)}.{rest}"] = value
    return renamed


def alignment_config(state: State) -> AlignmentConfig:
    """Read the size of an alignment module from its tensors."""
    dim, prior_dim = state["proj_in.weight"].shape
    return AlignmentConfig(
        prior_dim=prior_dim,
        context_dim=dim,
        depth=count(state, "blocks."),
        head_dim=len(state["blocks.0.query_norm.weight"]),
        mlp_ratio=len(state["blocks.0.linear1.weight"]) / dim - 3,
    )


# SPL


# The release contains all networks of the training, in DistributedDataParallel; other files have the generator alone.
SPL_PREFIXES = ("generator.module.", "module.generator.", "generator.", "module.", "")


def without(prefix: str) -> Callable[[State], dict[str, Tensor]]:
    """Return a function that removes `prefix` from the names of tensors."""
    return lambda tensors: {key.removeprefix(prefix): value for key, value in tensors.items()}


def spl_config(state: State) -> SPLConfig:
    """Read the size of an SPL generator from its tensors."""
    return SPLConfig(
        ch=len(state["encoder_conv1.weight"]),
        feature_dim=len(state["feature_mapping.weight"]),
        dense_blocks=count(state, "rdbs."),
        dense_layers=count(state, "rdbs.0.layers."),
        growth=len(state["rdbs.0.layers.0.conv.weight"]),
        recon_blocks=count(state, "feature_recon."),
        middle_blocks=count(state, "middle."),
    )


SEQUENTIAL_ALIGNMENT = ("0.weight", "1.linear1.weight", "1.norm.query_norm.scale")

CHECKPOINT_FORMATS = (
    CheckpointFormat(
        name="a conditional decoder of Asymmetric VQGAN or ASUKA-FLUX",
        part="decoder",
        keys=("decoder.encoder.layers.0.weight", "decoder.conv_in.weight"),
        convert=dict,
        config=decoder_config,
        prefixes=("decoder.", "post_quant_conv."),
        ignore=("decoder.up_layers.",),
    ),
    CheckpointFormat(
        name="diffusers' AsymmetricAutoencoderKL",
        part="decoder",
        keys=("decoder.condition_encoder.layers.0.weight", "decoder.conv_in.weight"),
        convert=from_diffusers_decoder,
        config=decoder_config,
        prefixes=("decoder.", "post_quant_conv."),
    ),
    CheckpointFormat(
        name="a MAE of facebook's, MAE-FAR or ASUKA-FLUX",
        part="mae",
        keys=("patch_embed.proj.weight", "decoder_embed.weight", "mask_token"),
        convert=from_facebook_mae,
        config=mae_config,
    ),
    CheckpointFormat(
        name="transformers' ViTMAE",
        part="mae",
        keys=("vit.embeddings.patch_embeddings.projection.weight", "decoder.decoder_embed.weight"),
        convert=from_huggingface_mae,
        config=mae_config,
    ),
    CheckpointFormat(
        name="ASUKA-FLUX's alignment module for CLIP's pooled vector",
        part="alignment_pooled",
        keys=SEQUENTIAL_ALIGNMENT,
        convert=from_sequential_alignment,
        config=alignment_config,
        ignore=(".modulation.",),
        extra_check=lambda tensors: len(tensors["0.weight"]) == CLIP_WIDTH,
    ),
    CheckpointFormat(
        name="ASUKA-FLUX's alignment module for T5's tokens",
        part="alignment",
        keys=SEQUENTIAL_ALIGNMENT,
        convert=from_sequential_alignment,
        config=alignment_config,
        ignore=(".modulation.",),
    ),
    *(
        CheckpointFormat(
            name="SPL's training",
            part="spl",
            keys=(prefix + "encoder_sm_out.weight", prefix + "feature_mapping.weight"),
            convert=without(prefix),
            config=spl_config,
            prefixes=(prefix,),
        )
        for prefix in SPL_PREFIXES
    ),
)

ENCODER_ONLY = "looks like a vision transformer's encoder only (timm, facebook's mae_pretrain_*): without a MAE's decoder there is no prior; use mae_visualize_*, or train a decoder (python -m training.mae)"
NO_DESCRIPTION = "looks like ASUKA's own file, but without its description (`asuka` in the metadata), which another program may have dropped; download it again"
UNUSABLE = {  # a tensor that identifies the file -> what it looks like, and where to use it
    "mae.patch_embed.proj.weight": NO_DESCRIPTION,
    "alignment.norm.weight": NO_DESCRIPTION,
    "alignment_pooled.norm.weight": NO_DESCRIPTION,
    "decoder.decoder.conv_in.weight": NO_DESCRIPTION,
    "spl.encoder_sm_out.weight": NO_DESCRIPTION,
    "blocks.0.attn.qkv.weight": ENCODER_ONLY,
    "embeddings.patch_embeddings.projection.weight": ENCODER_ONLY,
    "vit.embeddings.patch_embeddings.projection.weight": ENCODER_ONLY,
    "decoder.conv_in.weight": "looks like a VAE without a condition encoder; use it in Load VAE. A harmonizing decoder was expected",
    "model.diffusion_model.out.2.weight": "looks like a Stable Diffusion checkpoint; use it in Load Checkpoint. ASUKA's weights were expected",
    "double_blocks.0.img_attn.qkv.weight": "looks like FLUX's transformer; use it in Load Diffusion Model. ASUKA's weights were expected",
}
