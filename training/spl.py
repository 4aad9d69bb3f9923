"""Recipe: train SPL's generator (Zhang et al., IJCAI 2021).

python -m training.spl training/configs/miniature/spl.yaml
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("spl", __doc__)

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from asuka_modules import checkpoints
from asuka_modules.masking import fill_hole, reduce_mask, resize_area
from asuka_modules.spl import PUBLISHED, SPLConfig, SPLGenerator

from . import metrics, plain_unet
from .adversary import judge_fixed
from .data import DataConfig, Photos, preview_batch
from .engine.config import ConfigError, require_same
from .engine.image_grid import save_rows, sheet_title
from .engine.loop import Objective, RunConfig, fit
from .latents import RandomMask
from .masks import MaskConfig
from .plain_unet import PlainUNet
from .teacher import Teacher, TeacherConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SPLRecipe:
    """Train SPL's generator: fill holes, and guess a classifier's features of the complete photo."""

    data: DataConfig
    masks: MaskConfig
    run: RunConfig
    model: SPLConfig = PUBLISHED
    init: str | None = None  # weights to start from
    teacher: TeacherConfig | None = None  # none: trained without the semantic loss
    l1_weight: float = 10.0
    adversarial_weight: float = 1.0  # 0: no discriminator
    semantic_weight: float = 1.0
    unet_width: int = 0  # above 0: a plain U-Net of this width instead of SPL, with L1 alone, to compare with
    validation: tuple[str, ...] = ()  # folders of held-out photos

    def __post_init__(self):
        require_same("data.size", self.data.size, "masks.size", self.masks.size)


class Discriminator(nn.Sequential):
    """SPL's: judges patches of an image, (B, 3, H, W) in [0, 1] -> logits (B, 1, h, w)."""

    def __init__(self):
        modules: list[nn.Module] = []
        for a, b, stride in ((3, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1), (512, 1, 1)):
            modules += [spectral_norm(nn.Conv2d(a, b, 4, stride, 1, bias=False)), nn.LeakyReLU(0.2)]
        super().__init__(*modules[:-1])


def vanilla_loss(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy; for the generator with `real`, the non-saturating loss."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


class SPLBatch(TypedDict):
    """What SPLObjective is given."""

    image: Tensor  # (B, 3, S, S) float32 in [0, 1]; 2S with a teacher
    mask: Tensor  # (B, 1, S, S) float32, 1 in the hole


class SPLObjective(Objective):
    """L1, twice more in the hole; a patch-GAN; the distance to the teacher's features, three times more in the hole.

    A batch's images are as large as its masks, or twice as large for the teacher, who sees more than the generator.

    deviates: generator and discriminator step together instead of in turn.
    """

    def __init__(self, generator: SPLGenerator | PlainUNet, teacher: Teacher | None, recipe: SPLRecipe):
        super().__init__()
        self.trained, self.teacher, self.recipe = nn.ModuleDict({"generator": generator}), teacher, recipe
        if recipe.adversarial_weight:
            self.trained["discriminator"] = Discriminator()

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """SPL's loss (Zhang et al., IJCAI 2021), for image x, fill y, hole m, generator features f, teacher T:

        L = l1_weight mean((1 + 2m) |y - x|) + adversarial_weight BCE(D(y), 1) + semantic_weight mean((1 + 3m) |f - T(x)|),
        and for the discriminator (BCE(D(x), 1) + BCE(D(y), 0)) / 2. `batch` is an SPLBatch.
        """
        whole, mask = batch["image"], batch["mask"]
        image = shrink(whole, mask)
        filled, features = self.trained["generator"](image, mask)
        filled = filled.float()
        error = (filled - image).abs()
        loss = self.recipe.l1_weight * (error * (1 + 2 * mask)).mean()
        values = {"l1": error.mean(), "hole_psnr": metrics.hole_psnr(filled, image, mask)}
        if self.recipe.adversarial_weight and torch.is_grad_enabled():  # how well it is fooled is no validation
            discriminator = self.trained["discriminator"]
            loss = loss + self.recipe.adversarial_weight * vanilla_loss(judge_fixed(discriminator, filled), True)
            real, fake = discriminator(image), discriminator(filled.detach())
            values["discriminator"] = (vanilla_loss(real, True) + vanilla_loss(fake, False)) / 2
            loss = loss + values["discriminator"]
        if self.teacher:
            weight = 1 + 3 * reduce_mask(mask, features.shape[-2:], "nearest")
            values["semantic"] = ((features.float() - self.teacher(whole)).abs() * weight).mean()
            loss = loss + self.recipe.semantic_weight * values["semantic"]
        return loss, {key: value.detach() for key, value in values.items()}


def shrink(image: Tensor, mask: Tensor) -> Tensor:
    """An image (B, 3, H, W) as large as the mask (B, 1, h, w)."""
    return resize_area(image, mask.shape[-2:])


def build_generator(recipe: SPLRecipe, teacher: Teacher | None) -> SPLGenerator | PlainUNet:
    """The network to train. Raises ConfigError where its features are not as many as the teacher's."""
    if recipe.unet_width:
        return PlainUNet(recipe.unet_width)
    if recipe.init:
        generator = checkpoints.load_part(recipe.init, "spl").build(dtype=torch.float32)
    else:
        generator = SPLGenerator(recipe.model)
    if teacher and recipe.teacher and teacher.channels != generator.config.feature_dim:
        raise ConfigError(
            f"model.feature_dim is {generator.config.feature_dim} but {recipe.teacher.model} has {teacher.channels} features"
        )
    if not teacher:
        generator.feature_mapping.requires_grad_(False)
    return generator


def train(recipe: SPLRecipe) -> SPLGenerator | PlainUNet:
    torch.manual_seed(recipe.run.seed)
    if recipe.unet_width:
        recipe = replace(recipe, teacher=None, adversarial_weight=0.0)
    elif recipe.teacher is None:
        log.warning("no teacher.weights: the semantic weight is 0, the learner guided by the image alone")
    teacher = Teacher(recipe.teacher) if recipe.teacher else None
    generator = build_generator(recipe, teacher)
    holes, data = RandomMask(recipe.masks), replace(recipe.data, size=recipe.data.size * (2 if teacher else 1))
    preview = Photos(data.of(recipe.validation), 1, holes)
    examples = preview_batch(preview, 8)

    def sample(trained: nn.ModuleDict, path: Path) -> None:
        device = next(trained.parameters()).device
        image, mask = (examples[key].to(device) for key in ("image", "mask"))
        image = shrink(image, mask)
        filled, _ = trained["generator"](image, mask)
        rows = {
            "hole in gray": fill_hole(image, mask, 0.5),
            "SPL": filled,
            "SPL in the hole": torch.where(mask > 0.5, filled, image),
            "original": image,
        }
        save_rows(path, sheet_title(recipe.validation), rows)

    def export(trained: nn.ModuleDict, folder: Path) -> None:
        if recipe.unet_width:
            plain_unet.save(folder / "unet.safetensors", trained["generator"])
        else:
            checkpoints.save(folder / "spl.safetensors", {"spl": trained["generator"]})

    validation = {"loss": preview} if recipe.validation else {}
    objective = SPLObjective(generator, teacher, recipe)
    dataset = Photos(data, recipe.run.seed, holes)
    return fit(recipe.run, objective, dataset, sample=sample, validation=validation, export=export, recipe=recipe)[
        "generator"
    ]


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    main(arguments, SPLRecipe, train)
