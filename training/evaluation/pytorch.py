"""ASUKA and its base model in plain PyTorch, without ComfyUI: the same networks, sampled by diffusers' DDIM."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asuka_modules import checkpoints
from asuka_modules.masking import fill_hole, reduce_mask
from asuka_modules.seams import close_seam

from ..engine.config import ConfigError
from ..engine.precision import bf16_where_fast
from ..latents import VAE_SCALE_FACTOR
from ..sd import SCALING_FACTOR
from ..weights.frozen import load_frozen
from .hashes import sha256
from .inpaint_input import InpaintInput


@dataclass(frozen=True)
class WeightsConfig:
    """The weight files that all `pytorch` methods of a benchmark share."""

    base: str  # checkpoint with U-Net and autoencoder
    bundle: str  # MAE, alignment and decoder
    spl: str | None = None  # for context: spl


@dataclass(frozen=True)
class PyTorchConfig:
    """What the base model is told, and what decodes its latents."""

    context: Literal["empty", "prior", "spl"] = "prior"  # the empty prompt, the aligned prior, or that of SPL's fill
    decoder: Literal["stock", "harmonizing", "mae"] = "harmonizing"  # mae: no diffusion, but what the MAE paints
    close_seam: bool = False
    steps: int = 50


class Stack:
    """The networks, and the latent that was sampled last, which methods that differ in the decoder alone share.

    Raises ConfigError where the bundle lacks a part.
    """

    def __init__(self, config: WeightsConfig):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.base = load_frozen(config.base).to(self.device)
        parts = checkpoints.load(config.bundle)
        if missing := {"mae", "alignment", "decoder"} - parts.keys():
            raise ConfigError(
                f"{config.bundle} holds no {' and no '.join(sorted(missing))}; training.export joins them"
            )
        if config.spl:
            parts["spl"] = checkpoints.load_part(config.spl, "spl")
        self.networks: dict[str, nn.Module] = {
            name: part.build(device=self.device, dtype=torch.float32) for name, part in parts.items()
        }
        files = [Path(file) for file in (config.base, config.bundle, config.spl) if file]
        self.weights = {file.name: sha256(file) for file in files}
        self.sampled: tuple[object, Tensor | None] = (None, None)

    def context(self, kind: str, image: Tensor, mask: Tensor) -> Tensor:
        """What the U-Net is told about an image (1, 3, H, W) and its hole (1, 1, H, W), (1, T, C)."""
        if kind == "empty":
            return self.base.empty_context
        if kind == "spl":
            image = torch.where(mask > 0.5, self.networks["spl"](image, mask)[0], image)
            mask = torch.zeros_like(mask)
        return self.networks["alignment"](self.networks["mae"].prior(image, mask))

    def latent(self, config: PyTorchConfig, inputs: InpaintInput, image: Tensor, mask: Tensor) -> Tensor:
        """The sampled latent (1, 4, H / 8, W / 8)."""
        key = (inputs.digest, config.context, config.steps)
        if self.sampled[0] != key:
            h, w = (side // VAE_SCALE_FACTOR for side in mask.shape[-2:])
            noise = torch.randn(1, 4, h, w, generator=torch.Generator().manual_seed(inputs.seed)).to(self.device)
            latent_mask = reduce_mask(mask, (h, w), "area")
            masked = self.base.encode(fill_hole(image, F.interpolate(latent_mask, scale_factor=VAE_SCALE_FACTOR), 0.5))
            context = self.context(config.context, image, mask)
            with bf16_where_fast(self.device):
                self.sampled = key, self.base.sample(noise, latent_mask, masked, context, config.steps)
        return self.sampled[1]

    def paint(self, config: PyTorchConfig, inputs: InpaintInput, image: Tensor, mask: Tensor) -> Tensor:
        """What the decoder returns, (1, 3, H, W)."""
        if config.decoder == "mae":
            mae = self.networks["mae"]
            painted = mae.reconstruct(mae.decoder_features(image, mask))
            return F.interpolate(painted, image.shape[-2:], mode="bicubic")
        latent = self.latent(config, inputs, image, mask)
        if config.decoder == "stock":
            return self.base.decode(latent)
        return self.networks["decoder"](latent / SCALING_FACTOR, image, mask)


class PlainPyTorch:
    """A method of the stack. Raises ConfigError for SPL's prior without SPL's weights."""

    def __init__(self, config: PyTorchConfig, stack: Stack):
        if config.context == "spl" and "spl" not in stack.networks:
            raise ConfigError("context is spl, which needs weights; give pytorch.spl")
        self.config, self.stack = config, stack
        self.uses_seed = config.decoder != "mae"
        self.weights = stack.weights

    @torch.inference_mode()
    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        """Raises ConfigError for an image whose sides are no multiples of 8."""
        h, w = inputs.hole.shape
        if h % VAE_SCALE_FACTOR or w % VAE_SCALE_FACTOR:
            raise ConfigError(
                f"pairs are {w}x{h}; plain PyTorch needs multiples of {VAE_SCALE_FACTOR}, so change pairs.size"
            )
        image = torch.from_numpy(inputs.image).movedim(-1, 0)[None].to(self.stack.device) / 255
        mask = torch.from_numpy(inputs.hole)[None, None].to(image)
        painted = self.stack.paint(self.config, inputs, image, mask)
        if self.config.close_seam:
            painted = close_seam(painted, image, mask)
        return (painted[0].float().clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()
