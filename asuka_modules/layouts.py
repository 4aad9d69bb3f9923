"""Weights that others published: how each is recognised, brought under our names, and measured. A new one is an entry."""

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

GRID = 16  # patches along a side of the prior
HEADS = {512: 16, 768: 12, 1024: 16, 1280: 16}  # of the published MAEs, by width: no tensor's shape tells
CLIP_WIDTH = 768  # of FLUX's pooled vector


class LayoutError(ValueError):
    """Tensors that are no network of ours; the message says what they look like and what was expected."""


@dataclass(frozen=True)
class Layout:
    """One way in which a network was published."""

    name: str
    part: str  # what it becomes, a key of checkpoints.PARTS
    keys: tuple[str, ...]  # tensors that tell
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]  # to our names and shapes
    config: Callable[[State], Config]  # read off the converted tensors
    keep: tuple[str, ...] = ("",)  # how the network's names begin; a file may hold others beside it
    drop: tuple[str, ...] = ()  # in the names of tensors that the network has but never uses
    also: Callable[[State], bool] = lambda tensors: True  # what tells beyond `keys`

    def fits(self, tensors: State) -> bool:
        return all(key in tensors for key in self.keys) and self.also(tensors)

    def uses(self, key: str) -> bool:
        return key.startswith(self.keep) and not any(name in key for name in self.drop)

    def read(self, tensors: State) -> tuple[Config, dict[str, Tensor]]:
        """Config and tensors under our names. Raises LayoutError for an incomplete or unheard-of network."""
        try:
            state = self.convert({key: value for key, value in tensors.items() if self.uses(key)})
            return self.config(state), state
        except KeyError as error:
            raise LayoutError(f"looks like {self.name}, but {error.args[0]} is missing; download it again") from error
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise LayoutError(f"looks like {self.name}, but {error}") from error


def recognise(tensors: State) -> Layout:
    """The layout of a state dict. Raises LayoutError for one that is not in `LAYOUTS`."""
    for layout in LAYOUTS:
        if layout.fits(tensors):
            return layout
    for key, description in UNUSABLE.items():
        if key in tensors:
            raise LayoutError(description)
    known = "; ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
    some = ", ".join(sorted(tensors)[:5])
    raise LayoutError(f"not recognised; it holds {len(tensors)} tensors such as {some}. Known: ASUKA's own; {known}")


def rename(tensors: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Replaces parts of names, in the order given."""
    renamed = {}
    for key, value in tensors.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def count(tensors: State, prefix: str) -> int:
    """How many of `prefix`0., `prefix`1., ... there are."""
    return next(n for n in itertools.count() if not any(key.startswith(f"{prefix}{n}.") for key in tensors))


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
    """Diffusers numbers the levels from the coarsest, and its attention has linear layers for 1x1 convolutions."""
    levels = count(tensors, "decoder.up_blocks.")
    flipped = {f"up_blocks.{i}.": f"up.{levels - 1 - i}." for i in range(levels)}
    renamed = rename(tensors, flipped | DIFFUSERS_DECODER)
    return {key: value[..., None, None] if value.ndim == 2 else value for key, value in renamed.items()}


def decoder_config(state: State) -> DecoderConfig:
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
    "vit.layers.": "blocks.",  # as transformers 5 has it in memory
    "vit.layernorm.": "norm.",
    "decoder.decoder_layers.": "decoder_blocks.",
    "decoder.decoder_encoder.layer.": "decoder_blocks.",  # as transformers 5 writes it
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
    positions = {key: resample_positions(tensors[key], "cls_token" in tensors) for key in POSITIONS}
    return {**tensors, **positions}


POSITIONS = ("pos_embed", "decoder_pos_embed")


def resample_positions(embedding: Tensor, class_token: bool) -> Tensor:
    """A position embedding (1, N, C) on the prior's grid, bicubically; the class token's, which is first, stays."""
    extra, patches = embedding[:, :class_token], embedding[:, class_token:]
    side = math.isqrt(patches.shape[1])
    image = patches.float().unflatten(1, (side, side)).movedim(-1, 1)
    image = F.interpolate(image, (GRID, GRID), mode="bicubic")
    return torch.cat([extra, image.flatten(2).transpose(1, 2).to(embedding)], dim=1)


def from_huggingface_mae(tensors: State) -> dict[str, Tensor]:
    renamed = rename(tensors, HUGGINGFACE_MAE)
    joined = {key: value for key, value in renamed.items() if not any(f".attn.{name}." in key for name in QKV)}
    for key in renamed:
        if ".attn.query." in key:
            parts = [renamed[key.replace(".query.", f".{name}.")] for name in QKV]
            joined[key.replace(".query.", ".qkv.")] = torch.cat(parts)
    return from_facebook_mae(joined)


QKV = ("query", "key", "value")


def mae_config(state: State) -> MAEConfig:
    dim, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    decoder_dim = len(state["decoder_embed.weight"])
    for width in (dim, decoder_dim):
        if width not in HEADS:
            raise ValueError(f"its width {width} is none of {list(HEADS)}, so its number of heads is unknown")
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
    """The release is a torch Sequential: linear, blocks, LayerNorm."""
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
    dim, prior_dim = state["proj_in.weight"].shape
    return AlignmentConfig(
        prior_dim=prior_dim,
        context_dim=dim,
        depth=count(state, "blocks."),
        head_dim=len(state["blocks.0.query_norm.weight"]),
        mlp_ratio=len(state["blocks.0.linear1.weight"]) / dim - 3,
    )


# SPL


# The release is the whole training, each network in DistributedDataParallel; others saved the generator without it.
SPL_PREFIXES = ("generator.module.", "module.generator.", "generator.", "module.", "")


def without(prefix: str) -> Callable[[State], dict[str, Tensor]]:
    return lambda tensors: {key.removeprefix(prefix): value for key, value in tensors.items()}


def spl_config(state: State) -> SPLConfig:
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

LAYOUTS = (
    Layout(
        name="a conditional decoder of Asymmetric VQGAN or ASUKA-FLUX",
        part="decoder",
        keys=("decoder.encoder.layers.0.weight", "decoder.conv_in.weight"),
        convert=dict,
        config=decoder_config,
        keep=("decoder.", "post_quant_conv."),
        drop=("decoder.up_layers.",),
    ),
    Layout(
        name="diffusers' AsymmetricAutoencoderKL",
        part="decoder",
        keys=("decoder.condition_encoder.layers.0.weight", "decoder.conv_in.weight"),
        convert=from_diffusers_decoder,
        config=decoder_config,
        keep=("decoder.", "post_quant_conv."),
    ),
    Layout(
        name="a MAE of facebook's, MAE-FAR or ASUKA-FLUX",
        part="mae",
        keys=("patch_embed.proj.weight", "decoder_embed.weight", "mask_token"),
        convert=from_facebook_mae,
        config=mae_config,
    ),
    Layout(
        name="transformers' ViTMAE",
        part="mae",
        keys=("vit.embeddings.patch_embeddings.projection.weight", "decoder.decoder_embed.weight"),
        convert=from_huggingface_mae,
        config=mae_config,
    ),
    Layout(
        name="ASUKA-FLUX's alignment module for CLIP's pooled vector",
        part="alignment_pooled",
        keys=SEQUENTIAL_ALIGNMENT,
        convert=from_sequential_alignment,
        config=alignment_config,
        drop=(".modulation.",),
        also=lambda tensors: len(tensors["0.weight"]) == CLIP_WIDTH,
    ),
    Layout(
        name="ASUKA-FLUX's alignment module for T5's tokens",
        part="alignment",
        keys=SEQUENTIAL_ALIGNMENT,
        convert=from_sequential_alignment,
        config=alignment_config,
        drop=(".modulation.",),
    ),
    *(
        Layout(
            name="SPL's training",
            part="spl",
            keys=(prefix + "encoder_sm_out.weight", prefix + "feature_mapping.weight"),
            convert=without(prefix),
            config=spl_config,
            keep=(prefix,),
        )
        for prefix in SPL_PREFIXES
    ),
)

ENCODER_ALONE = "looks like a vision transformer's encoder alone (timm, facebook's mae_pretrain_*): without a MAE's decoder there is no prior; take mae_visualize_*, or train a decoder (python -m training.mae)"
UNUSABLE = {  # a tensor that tells -> what the file looks like, and where it belongs
    "blocks.0.attn.qkv.weight": ENCODER_ALONE,
    "embeddings.patch_embeddings.projection.weight": ENCODER_ALONE,
    "vit.embeddings.patch_embeddings.projection.weight": ENCODER_ALONE,
    "decoder.conv_in.weight": "looks like a VAE without a condition encoder; use it in Load VAE. A harmonizing decoder was expected",
    "model.diffusion_model.out.2.weight": "looks like a Stable Diffusion checkpoint; use it in Load Checkpoint. ASUKA's weights were expected",
    "double_blocks.0.img_attn.qkv.weight": "looks like FLUX's transformer; use it in Load Diffusion Model. ASUKA's weights were expected",
}
