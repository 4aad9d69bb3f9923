"""The frozen base model: SD-1.5 inpainting, from the file that ComfyUI users have or a diffusers folder, or the miniature."""

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from asuka_modules.weight_file import CheckpointError

from ..base.checkpoint import ASUKA, UNET, VAE, load_base
from ..sd import LatentDiffusion
from .ldm_names import unet_to_ldm, vae_to_ldm
from .pickles import PICKLES, read_pickle

CONDITION_ENCODER = "decoder.encoder.layers.0.weight"  # of a decoder that sees the hole
TEXT = "cond_stage_model.transformer.text_model."
BOS, EOS, MAX_LENGTH = 49406, 49407, 77  # CLIP's empty prompt is one begin token and 76 end tokens


class BaseModelError(CheckpointError):
    """A base model that cannot be used; the message names the file, what was found and what was expected."""


def load_frozen(path: str | Path) -> LatentDiffusion:
    """U-Net, autoencoder and empty context in fp32, frozen.

    Raises FileNotFoundError, or BaseModelError for what is neither SD-1.5 inpainting nor the miniature.
    """
    path = Path(path)
    if path.is_dir():
        base = load_folder(path)
    elif not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder")
    else:
        tensors = read_tensors(path)
        base = load_miniature(path) if f"{ASUKA}empty_context" in tensors else load_single_file(tensors, path)
    return base.float().requires_grad_(False).eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from safetensors or (weights only) from a pickle. Raises BaseModelError."""
    try:
        return read_pickle(path) if path.suffix in PICKLES else load_file(path)
    except (CheckpointError, SafetensorError) as error:
        raise BaseModelError(
            f"{path}: not readable ({error}); a checkpoint as ComfyUI loads it was expected"
        ) from error


def load_miniature(path: Path) -> LatentDiffusion:
    autoencoder, model = load_base(path)
    return LatentDiffusion(model.unet, autoencoder, model.description.empty_context)


def load_single_file(tensors: Mapping[str, Tensor], path: Path) -> LatentDiffusion:
    """An SD-1.5 inpainting checkpoint as ComfyUI's Load Checkpoint takes it, with its CLIP text encoder."""
    channels = tensors.get(f"{UNET}input_blocks.0.0.weight", torch.empty(0, 0)).shape[1]
    if channels != 9:
        found = f"a U-Net with {channels} input channels" if channels else "no U-Net"
        raise BaseModelError(f"{path}: holds {found}; SD-1.5 inpainting with 9 was expected")
    with torch.device("meta"):
        unet, vae = sd15_unet(), sd15_vae()
    text = sd15_text_encoder()  # not on meta: its position numbers are not in the file
    fill(unet, {key: UNET + name for key, name in unet_to_ldm(unet).items()}, tensors, path)
    fill(vae, {key: VAE + name for key, name in vae_to_ldm(vae).items()}, tensors, path)
    fill(text, {key: TEXT + key.removeprefix("text_model.") for key in text.state_dict()}, tensors, path)
    return LatentDiffusion(unet, vae, empty_prompt(text))


def load_vae(path: str | Path) -> AutoencoderKL | None:
    """SD-1.5's VAE: a single file as ComfyUI loads it, alone or in a checkpoint, or a diffusers folder; None for anything
    else. Raises BaseModelError."""
    path = Path(path)
    if path.is_dir():
        return AutoencoderKL.from_pretrained(path)
    tensors = read_tensors(path)
    prefix = VAE if any(name.startswith(VAE) for name in tensors) else ""
    if f"{prefix}encoder.mid.block_1.conv1.weight" not in tensors or CONDITION_ENCODER in tensors:
        return None
    with torch.device("meta"):
        vae = sd15_vae()
    fill(vae, {key: prefix + name for key, name in vae_to_ldm(vae).items()}, tensors, path)
    return vae


def fill(network: nn.Module, names: Mapping[str, str], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Gives a network the tensors of these names. Raises BaseModelError for missing or misshapen tensors."""
    missing = [name for name in names.values() if name not in tensors]
    if missing:
        raise BaseModelError(
            f"{path}: {len(missing)} tensors are missing, such as {missing[0]}; a complete SD-1.5 inpainting checkpoint was expected"
        )
    state = {}
    for key, value in network.state_dict().items():
        state[key] = tensors[names[key]].float()
        if state[key].numel() != value.numel():
            raise BaseModelError(
                f"{path}: {names[key]} is {tuple(state[key].shape)}, not {tuple(value.shape)}; SD-1.5 inpainting was expected"
            )
        state[key] = state[key].view(value.shape)  # 1x1 convolutions here, linear layers there
    network.load_state_dict(state, assign=True)


def load_folder(path: Path) -> LatentDiffusion:
    """A diffusers folder with unet/, vae/ and text_encoder/."""
    for part in ("unet", "vae", "text_encoder"):
        if not (path / part / "config.json").is_file():
            raise BaseModelError(f"{path}: no {part}/config.json; a diffusers folder of SD-1.5 inpainting was expected")
    unet = UNet2DConditionModel.from_pretrained(path / "unet")
    if unet.config.in_channels != 9:
        raise BaseModelError(
            f"{path}: its U-Net has {unet.config.in_channels} input channels; SD-1.5 inpainting with 9 was expected"
        )
    text = CLIPTextModel.from_pretrained(path / "text_encoder")
    return LatentDiffusion(unet, AutoencoderKL.from_pretrained(path / "vae"), empty_prompt(text))


@torch.no_grad()
def empty_prompt(text: CLIPTextModel) -> Tensor:
    """CLIP's context of the empty prompt, (1, 77, 768)."""
    text.eval()
    return text(torch.tensor([[BOS] + [EOS] * (MAX_LENGTH - 1)])).last_hidden_state


def sd15_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(sample_size=64, in_channels=9, cross_attention_dim=768)


def sd15_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )


def sd15_text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )
