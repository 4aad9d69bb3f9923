"""The base model as one file that ComfyUI's CheckpointLoaderSimple loads as SD-1.5 inpainting."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor

from asuka_modules import checkpoints

from ..sd import SCALING_FACTOR
from ..weights.ldm_names import taesd_to_ldm, unet_to_ldm
from .description import ConditioningEmbedder
from .unet import ConditionedUNet

UNET, VAE, ASUKA = "model.diffusion_model.", "first_stage_model.", "asuka."
LARGE = 100_000  # values from which on a U-Net tensor is stored as fp8


def save_base(path: str | Path, autoencoder: AutoencoderTiny, model: ConditionedUNet) -> None:
    """Writes U-Net, autoencoder, description and empty context into one safetensors file, atomically.

    In fp16, the U-Net's matrices in fp8. What trains against the base loads this file too, so it sees the same rounding.
    """
    tensors: dict[str, Tensor] = {}
    state = model.unet.state_dict()
    for key, name in unet_to_ldm(model.unet).items():
        dtype = torch.float8_e4m3fn if state[key].numel() >= LARGE else torch.float16
        tensors[UNET + name] = state[key].to(dtype)
    state = autoencoder.state_dict()
    for key, name in taesd_to_ldm(autoencoder).items():
        tensors[VAE + name] = state[key].half()
    tensors[VAE + "vae_scale"], tensors[VAE + "vae_shift"] = torch.tensor(SCALING_FACTOR), torch.tensor(0.0)
    for key, value in model.description.state_dict().items():
        tensors[ASUKA + key] = value.half()
    tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
    checkpoints.write(Path(path), tensors, {"modelspec.architecture": "stable-diffusion-v1-inpainting"})


def load_base(path: str | Path) -> tuple[AutoencoderTiny, ConditionedUNet]:
    """What `save_base` wrote, in fp32. Raises KeyError for a file that is no miniature base model."""
    tensors = {key: value.float() for key, value in load_file(path).items()}
    autoencoder, model = AutoencoderTiny(), ConditionedUNet()
    autoencoder.load_state_dict({key: tensors[VAE + name] for key, name in taesd_to_ldm(autoencoder).items()})
    model.unet.load_state_dict({key: tensors[UNET + name] for key, name in unet_to_ldm(model.unet).items()})
    description: ConditioningEmbedder = model.description
    description.load_state_dict({key: tensors[ASUKA + key] for key in description.state_dict()})
    return autoencoder.eval(), model.eval()
