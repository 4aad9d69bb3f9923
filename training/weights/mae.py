"""MAEs to start from: a published one, ours, or the encoder alone, as timm has it."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.layouts import GRID, HEADS, POSITIONS, count, resample_positions
from asuka_modules.mae import MAE, VIT_L, MAEConfig

from ..engine.config import ConfigError
from .pickles import PICKLES, read_pickle


def random_mae(config: MAEConfig) -> MAE:
    mae = MAE(config)
    mae.init_weights()
    return mae


def start_from(init: str, model: MAEConfig | None) -> MAE:
    """A MAE with the weights of a file, and what the file has not, a decoder or partial patches, as it begins. ASUKA's MAE
    has no class token: a file's is dropped, unless `model` keeps it.

    Raises CheckpointError for a file that is no MAE and no encoder of one, ConfigError where it is not of the shape of
    `model`.
    """
    path = Path(init)
    encoder = read_tensors(path)
    if "blocks.0.attn.qkv.weight" in encoder and "decoder_embed.weight" not in encoder:
        shape, state = encoder_config(encoder, model or VIT_L), encoder
        state["pos_embed"] = resample_positions(encoder["pos_embed"], shape.class_token)
    else:
        network = checkpoints.load_part(path, "mae").build(dtype=torch.float32)
        shape, state = network.config, network.state_dict()
    model = model or replace(shape, class_token=False)
    if shape.class_token and not model.class_token:
        shape, state = replace(shape, class_token=False), without_class_token(state)
    if replace(shape, partial_patches=shape.partial_patches or model.partial_patches) != model:
        raise ConfigError(f"init: {init} has the shape {shape}, but model is {model}")
    mae = random_mae(model)
    missing, _ = mae.load_state_dict(state, strict=False)  # a classifier's head is left out
    if lost := [name for name in missing if not name.startswith(("decoder_", "mask_token", "alpha"))]:
        raise checkpoints.CheckpointError(f"{init}: no {', '.join(lost[:5])}; expected a MAE's encoder")
    return mae


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, nothing of one that is none: what is wrong with it is told where a MAE is read."""
    if path.suffix in PICKLES and path.is_file():
        return read_pickle(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return {}


def without_class_token(state: dict[str, Tensor]) -> dict[str, Tensor]:
    positions = {key: state[key][:, 1:] for key in POSITIONS if key in state}
    return {key: value for key, value in state.items() if key != "cls_token"} | positions


def encoder_config(encoder: dict[str, Tensor], decoder: MAEConfig) -> MAEConfig:
    """The shape of an encoder alone, as timm's and facebook's mae_pretrain_* have it, with the decoder of another."""
    dim, _, patch_size, _ = encoder["patch_embed.proj.weight"].shape
    if dim not in HEADS:
        raise checkpoints.CheckpointError(f"the encoder is {dim} wide; expected one of {list(HEADS)}, as MAEs are")
    return replace(
        decoder,
        image_size=GRID * patch_size,
        patch_size=patch_size,
        embed_dim=dim,
        depth=count(encoder, "blocks."),
        num_heads=HEADS[dim],
        mlp_ratio=len(encoder["blocks.0.mlp.fc1.weight"]) / dim,
        class_token="cls_token" in encoder,
    )
