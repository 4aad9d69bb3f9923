"""Recipe: train the harmonizing decoder on colors that do not match (ASUKA, sec. 3.3).

python -m training.decoder training/configs/miniature/decoder.yaml
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("decoder", __doc__)

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms
from typing_extensions import NotRequired

from asuka_modules import checkpoints
from asuka_modules.decoder import BASE, DecoderConfig, HarmonizingDecoder
from asuka_modules.masking import fill_hole, reduce_mask

from .adversary import (
    ASYMMETRIC_VQGAN,
    AdversaryConfig,
    PatchDiscriminator,
    adaptive_weight,
    gradient_penalty,
    hinge_loss,
    judge_fixed,
    patch_mean,
)
from .data import DataConfig, Photos, preview_batch, to_float
from .engine.config import ConfigError, require_same
from .engine.image_grid import save_rows, sheet_title
from .engine.loop import Objective, RunConfig, fit
from .engine.precision import has_bf16, run_device
from .latent_sample import Sampled, SampledCrops
from .latents import VAE_SCALE_FACTOR
from .masks import MaskConfig, Mixture
from .perceptual import LitePerceptual
from .sd import SCALING_FACTOR, LatentDiffusion
from .texture import random_directions, texture_distance
from .weights.frozen import load_frozen, load_vae
from .weights.ldm_names import vae_to_ldm

VGG = "https://download.pytorch.org/models/vgg16-397923af.pth"


@dataclass(frozen=True)
class Jitter:
    """Color augmentation of the encoder's input, as torchvision's ColorJitter, and an offset that varies over it."""

    brightness: float = 0.15
    contrast: float = 0.2
    saturation: float = 0.1
    hue: float = 0.03
    offset: float = 0.0  # added color, of this standard deviation at the four corners and bilinear in between


@dataclass(frozen=True)
class DecoderRecipe:
    """Train the harmonizing decoder: corrupted latents in, clean known pixels beside them, the clean image out."""

    base: str  # checkpoint with the autoencoder
    data: DataConfig
    masks: MaskConfig
    run: RunConfig
    model: DecoderConfig | None = None  # none: the shape of `init`, or the base width
    init: str | None = None  # a decoder of this kind or a VAE to start from; "base": the base's own VAE
    jitter: Jitter = Jitter()
    augmented_share: float = 0.5  # of photos replaced by their latent-augmented copy (data.augmented)
    hole_share: float = 0.0  # of images corrupted in the hole alone, as where the sampler keeps what is known
    predicted_x0_share: float = 0.0  # of images whose latent is the U-Net's estimate from noise, as wrong as a sample
    timesteps: tuple[int, int] = (500, 950)  # of that noise, uniform, ends included
    sampled: Sampled | None = None  # latents whose hole the U-Net has filled, beside the photos' own
    unconditional_share: float = 0.1  # of images decoded without any known pixel; 0.5 would keep text-to-image
    perceptual_weight: float = 1.0  # of LPIPS; 0: not loaded
    perceptual_network: Literal["vgg16", "efficientnet-lite1"] = "vgg16"  # the latter's weights come as a package
    adversarial_weight: float = 0.8  # of the patch-GAN, times the adaptive weight; 0: none
    adversarial_start: int = 0  # step; the published config's 50,001 would never come
    adversary: AdversaryConfig = ASYMMETRIC_VQGAN
    texture_weight: float = 0.0  # of the distance between the hole's patches and the photo's (training.texture)
    texture_strength: float = 1.0  # that the hole's texture shall have, as a share of the photo's
    validation: tuple[str, ...] = ()  # folders of held-out photos

    def __post_init__(self):
        require_same("data.size", self.data.size, "masks.size", self.masks.size)


class DecoderBatch(TypedDict):
    """What DecoderObjective is given, of images S pixels square; h = S / 8. Settings of the recipe that are off leave out their keys."""

    image: Tensor  # (B, 3, S, S) float32 in [0, 1], the clean image, which the decoder sees outside the hole
    mask: Tensor  # (B, 1, S, S) float32, 1 in the hole; all 1 for an unconditional sample
    corrupted: Tensor  # (B, 3, S, S) float32 in [0, 1], the image whose latent is decoded
    posterior: Tensor  # (B, 4, h, h) float32, standard normal: the noise of the VAE's posterior
    adversarial: Tensor  # (B,) bool, whether the discriminator's terms have begun
    estimated: NotRequired[
        Tensor
    ]  # (B,) bool, whether the latent is the U-Net's one-step estimate (predicted_x0_share)
    timestep: NotRequired[Tensor]  # (B,) int64 in 0..999, of that estimate
    noise: NotRequired[Tensor]  # (B, 4, h, h) float32, standard normal, of that estimate
    sampled: NotRequired[Tensor]  # (B,) bool, whether the latent is `latent` (sampled)
    latent: NotRequired[Tensor]  # (B, 4, h, h) float32, its hole filled by the U-Net, times the VAE's scaling factor
    directions: NotRequired[
        Tensor
    ]  # (B, levels, K, 3, k, k) float32 of length 1 (texture_weight); see training.texture


class DecoderObjective(Objective):
    """L1, LPIPS and a hinge patch-GAN between the decoded and the clean image, all on values in [-1, 1]."""

    def __init__(self, decoder: HarmonizingDecoder, base: LatentDiffusion, recipe: DecoderRecipe):
        super().__init__()
        self.trained, self.base, self.recipe = nn.ModuleDict({"decoder": decoder}), base, recipe
        if recipe.adversarial_weight:
            self.trained["discriminator"] = PatchDiscriminator(norm=recipe.adversary.norm)
        if recipe.perceptual_weight:
            self.perceptual = load_perceptual(recipe.perceptual_network).requires_grad_(False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the harmonizing decoder (ASUKA, sec. 3.3; Asymmetric VQGAN's), for image x, hole m, latent z of the
        corrupted image, y = decoder(z, x (1 - m), m) and discriminator D:

        L = |y - x| + perceptual_weight LPIPS(y, x) + adversarial_weight w (-D(y)) + max(0, 1 - D(x)) / 2 + max(0, 1 + D(y)) / 2,
        means over all pixels or patches, values in [-1, 1], w being VQGAN's adaptive weight (`training.adversary`). The last
        two terms train D alone. With `texture_weight`, `training.texture`'s distance is added. `batch` is a DecoderBatch.
        """
        image = batch["image"]
        with torch.no_grad():
            latent = self.base.encode(batch["corrupted"], batch["posterior"])
            if self.recipe.predicted_x0_share and (chosen := batch["estimated"]).any():
                latent = latent.float()
                latent[chosen] = self.predict_x0(latent[chosen], {key: value[chosen] for key, value in batch.items()})
            if self.recipe.sampled:
                latent = torch.where(batch["sampled"][:, None, None, None], batch["latent"], latent)
            latent = latent / SCALING_FACTOR
        decoded = self.trained["decoder"](latent, image, batch["mask"]).float()
        fake, real = decoded * 2 - 1, image * 2 - 1
        loss = (fake - real).abs().mean()
        values = {"l1": loss, "psnr": -10 * (decoded - image).square().mean((1, 2, 3)).log10().mean()}
        if self.recipe.perceptual_weight:
            values["lpips"] = self.perceptual(fake, real).mean()
            loss = loss + self.recipe.perceptual_weight * values["lpips"]
        if self.recipe.texture_weight:
            pasted = torch.where(batch["mask"] > 0.5, fake, real)
            strength = self.recipe.texture_strength
            values["texture"] = texture_distance(pasted, real, batch["mask"], batch["directions"], strength).mean()
            loss = loss + self.recipe.texture_weight * values["texture"]
        if self.recipe.adversarial_weight and torch.is_grad_enabled():  # its weight is a ratio of gradients
            loss = loss + self.adversarial(loss, fake, real, batch, values)
        return loss, {key: value.detach() for key, value in values.items()}

    def predict_x0(self, latent: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The U-Net's one-step estimate of a latent, without any prompt, from its noisy self and the known pixels."""
        reduced = reduce_mask(batch["mask"], latent.shape[-2:], "area")
        masked_latent = self.base.encode(
            fill_hole(batch["image"], F.interpolate(reduced, scale_factor=VAE_SCALE_FACTOR), 0.5)
        )
        context = self.base.empty_context.expand(len(latent), -1, -1)
        return self.base.predict_x0(latent, batch["noise"], batch["timestep"], reduced, masked_latent, context)

    def adversarial(
        self, loss: Tensor, fake: Tensor, real: Tensor, batch: dict[str, Tensor], values: dict[str, Tensor]
    ) -> Tensor:
        """The decoder's and the discriminator's terms; all zero before `adversarial_start`."""
        discriminator, adversary, share = self.trained["discriminator"], self.recipe.adversary, 1.0
        if adversary.hole:
            fake = torch.where(batch["mask"] > 0.5, fake, real)
        judged = judge_fixed(discriminator, fake)
        if adversary.hole:
            share = F.interpolate(batch["mask"], judged.shape[-2:], mode="area")
        generator_loss = -patch_mean(judged, share)
        weight = adaptive_weight(loss, generator_loss, self.trained["decoder"].decoder.conv_out.weight, fake[0].numel())
        values["discriminator"] = hinge_loss(discriminator(real), discriminator(fake.detach()), share)
        terms = self.recipe.adversarial_weight * weight * generator_loss + values["discriminator"]
        if adversary.r1_weight:
            terms = terms + adversary.r1_weight * gradient_penalty(discriminator, real)
        return batch["adversarial"].float().mean() * terms


def load_perceptual(network: str) -> nn.Module:
    """LPIPS's distance of images in [-1, 1], over VGG-16 as published or over what can be had as a package. Raises OSError
    for weights that are missing."""
    if network == "efficientnet-lite1":
        return LitePerceptual()
    from lpips import LPIPS  # needs VGG weights, which the miniature does without

    try:
        return LPIPS(net="vgg", verbose=False)
    except OSError as error:
        raise OSError(
            f"LPIPS's VGG-16 is missing and could not be downloaded ({error}); put {VGG} into {torch.hub.get_dir()}/checkpoints, or set perceptual_weight to 0"
        ) from error


def start_from(init: str, model: DecoderConfig | None, base: LatentDiffusion) -> HarmonizingDecoder:
    """A decoder with the weights of a file; of a VAE's it takes the trunk, and a condition encoder that is new.

    Raises CheckpointError or BaseModelError for a file that is neither, ConfigError where it is not of the shape of `model`.
    """
    if vae := base.autoencoder if init == "base" else load_vae(init):
        decoder = HarmonizingDecoder(model or BASE)
        try:
            init_trunk(decoder, vae)
        except (AttributeError, KeyError, RuntimeError) as error:  # the miniature is no KL autoencoder
            raise ConfigError(f"init: {init} is a VAE of another shape than model, {decoder.config}") from error
        return decoder
    part = checkpoints.load_part(init, "decoder")
    if model not in (None, part.config):
        raise ConfigError(f"init: {init} has the shape {part.config}, but model is {model}")
    return part.build(dtype=torch.float32)


@torch.no_grad()
def init_trunk(decoder: HarmonizingDecoder, vae: AutoencoderKL) -> None:
    """Gives the trunk a VAE decoder's weights: on a mask of ones both then decode alike.

    Raises KeyError or RuntimeError where the two differ in shape.
    """
    published = {name: vae.state_dict()[key] for key, name in vae_to_ldm(vae).items()}
    for key, value in decoder.state_dict().items():
        if not key.startswith("decoder.encoder."):
            value.copy_(published[key].view(value.shape))


class RandomCorruption:
    """Adds the mask and the encoder's corrupted input to a sample."""

    def __init__(self, recipe: DecoderRecipe):
        self.recipe, self.mixture = recipe, Mixture(recipe.masks)
        self.sampled = SampledCrops(recipe.sampled, recipe.data.size) if recipe.sampled else None

    def __call__(self, sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
        mask = torch.from_numpy(self.mixture(rng))[None]
        if rng.random() < self.recipe.unconditional_share:
            mask = torch.ones_like(mask)
        floats = to_float(sample)
        sample.pop("augmented", None)
        augmented = floats.get("augmented", floats["image"])
        source = augmented if rng.random() < self.recipe.augmented_share else floats["image"]
        corrupted = jitter(source, self.recipe.jitter, rng)
        if rng.random() < self.recipe.hole_share:
            corrupted = torch.where(mask > 0, corrupted, floats["image"])
        sample["mask"], sample["corrupted"] = mask * 255, corrupted
        size = [side // VAE_SCALE_FACTOR for side in mask.shape[-2:]]
        sample["posterior"] = torch.from_numpy(rng.standard_normal((4, *size), "float32"))
        if self.recipe.predicted_x0_share:
            sample["estimated"] = torch.tensor(rng.random() < self.recipe.predicted_x0_share)
            sample["timestep"] = torch.tensor(rng.integers(*self.recipe.timesteps, endpoint=True))
            sample["noise"] = torch.from_numpy(rng.standard_normal((4, *size), "float32"))
        if self.recipe.texture_weight:
            sample["directions"] = random_directions(rng)
        if self.sampled and self.recipe.sampled:
            crop = self.sampled(rng)
            sample["sampled"] = torch.tensor(rng.random() < self.recipe.sampled.share)
            if sample["sampled"]:
                sample.update(crop, corrupted=crop["image"])
            sample["latent"] = crop["latent"]
        step = index // self.recipe.run.batch_size
        sample["adversarial"] = torch.tensor(step >= self.recipe.adversarial_start)


def jitter(image: Tensor, strength: Jitter, rng: np.random.Generator) -> Tensor:
    """ColorJitter of an image (3, H, W) in [0, 1], its four parts in random order, then the offset, from `rng`."""

    def around_one(spread: float) -> float:
        return float(rng.uniform(1 - spread, 1 + spread))

    parts = [
        (transforms.adjust_brightness, around_one(strength.brightness)),
        (transforms.adjust_contrast, around_one(strength.contrast)),
        (transforms.adjust_saturation, around_one(strength.saturation)),
        (transforms.adjust_hue, float(rng.uniform(-strength.hue, strength.hue))),
    ]
    for i in rng.permutation(len(parts)):
        adjust, amount = parts[i]
        image = adjust(image, amount)
    corners = torch.from_numpy(rng.normal(0, strength.offset, (1, 3, 2, 2)).astype("float32"))
    offset = F.interpolate(corners, image.shape[-2:], mode="bilinear", align_corners=True)[0]
    return (image + offset).clamp(0, 1)


def train(recipe: DecoderRecipe) -> HarmonizingDecoder:
    torch.manual_seed(recipe.run.seed)
    base = load_frozen(recipe.base)
    if not recipe.predicted_x0_share:
        base.unet = None  # nobody will ask it, and SD-1.5's takes 3.4 GB
    elif recipe.run.precision == "bf16" and has_bf16(run_device()):
        base.unet.to(torch.bfloat16)  # frozen, so there is nothing to lose in its weights
    decoder = start_from(recipe.init, recipe.model, base) if recipe.init else HarmonizingDecoder(recipe.model or BASE)
    if recipe.init and decoder.config.post_quant_conv:
        decoder.post_quant_conv.requires_grad_(False)  # the VAE's own, like its encoder
    dataset = Photos(recipe.data, recipe.run.seed, RandomCorruption(recipe))
    preview = Photos(recipe.data.of(recipe.validation), recipe.run.seed, RandomCorruption(recipe))
    examples = preview_batch(preview, 8)

    def sample(trained: nn.ModuleDict, path: Path) -> None:
        device = next(trained.parameters()).device
        image, mask, corrupted = (examples[key].to(device) for key in ("image", "mask", "corrupted"))
        latent = base.to(device).encode(corrupted)
        stock, harmonized = base.decode(latent), trained["decoder"](latent / SCALING_FACTOR, image, mask)
        pasted = {
            f"{name} in the hole": image * (1 - mask) + decoded * mask
            for name, decoded in (("stock decode", stock), ("harmonizing decode", harmonized))
        }
        rows = {"to be decoded": corrupted, **pasted, "harmonizing decode": harmonized, "original": image}
        save_rows(path, sheet_title(recipe.validation), rows)

    def export(trained: nn.ModuleDict, folder: Path) -> None:
        checkpoints.save(folder / "decoder.safetensors", {"decoder": trained["decoder"]})

    validation = {"loss": preview} if recipe.validation else {}
    objective = DecoderObjective(decoder, base, recipe)
    return fit(recipe.run, objective, dataset, sample=sample, validation=validation, export=export, recipe=recipe)[
        "decoder"
    ]


if __name__ == "__main__":
    main(arguments, DecoderRecipe, train)
