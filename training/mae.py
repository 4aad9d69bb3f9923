"""Recipe: fine-tune (or, for the miniature, train) the masked auto-encoder (ASUKA, sec. 3.1).

python -m training.mae training/configs/miniature/mae.yaml
"""

from .engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("mae", __doc__)

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.mae import MAE, VIT_L, MAEConfig
from asuka_modules.masking import hidden_patches

from .data import DataConfig, Photos, preview_batch
from .engine.config import require_same
from .engine.image_grid import save_rows, sheet_title
from .engine.loop import Objective, RunConfig, fit
from .masks import FAMILIES, Family, MaskConfig, Mixture, top_up
from .weights.mae import random_mae, start_from


@dataclass(frozen=True)
class MAERecipe:
    """Train the MAE: predict the raw pixels of hidden patches from the visible quarter."""

    data: DataConfig
    masks: MaskConfig
    run: RunConfig
    model: MAEConfig | None = None  # none: the shape of `init`, or ViT-L
    init: str | None = None  # weights of a MAE, or of an encoder alone (timm's); none: MAE's random initialization
    holes: bool = True  # False: hide random patches alone, as MAE's pretraining does
    validation: tuple[str, ...] = ()  # folders of held-out photos

    def __post_init__(self):
        require_same("data.size", self.data.size, "masks.size", self.masks.size)
        if self.model:
            require_same("data.size", self.data.size, "model.image_size", self.model.image_size)


class MAEBatch(TypedDict):
    """What MAEObjective is given. N is the number of patches."""

    image: Tensor  # (B, 3, S, S) float32 in [0, 1]
    mask: Tensor  # (B, 1, S, S) float32, 1 in the hole
    hidden: Tensor  # (B, N) bool, the patches that the encoder does not see


class MAEObjective(Objective):
    """MSE on hidden patches only, raw (not per-patch normalized) pixels."""

    def __init__(self, mae: MAE):
        super().__init__()
        self.trained = mae

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the hidden patches' pixels, with ImageNet's normalization (MAE's loss; ASUKA, sec. 3.1):

        L = mean_B( sum_i h_i |x_i - MAE(x)_i|^2 / sum_i h_i ), h_i = 1 for hidden patches (for partial patches: pixels).
        `batch` is a MAEBatch.
        """
        image, mask, hidden = self.trained.normalize(batch["image"]), batch["mask"], batch["hidden"]
        predicted = self.trained(image.masked_fill(mask > 0.5, 0.0), mask, hidden).float()
        error = (predicted - self.trained.patchify(image)).square()
        weight = self.loss_weight(mask, hidden)
        if weight.shape[-1] == 1:
            error = error.mean(-1, keepdim=True)
        total = weight.sum((1, 2)).clamp_min(1)
        return ((error * weight).sum((1, 2)) / total).mean(), {}  # image by image, so that it may be split at will

    def loss_weight(self, mask: Tensor, hidden: Tensor) -> Tensor:
        """(B, N, 1): whole hidden patches; or, for partial patches, (B, N, pixels): what is hidden of them (MAE-FAR)."""
        if not self.trained.config.partial_patches:
            return hidden.unsqueeze(-1).float()
        topped_up = hidden & ~hidden_patches(mask, self.trained.config.grid)
        holes = self.trained.patchify(mask.expand(-1, 3, -1, -1))
        return torch.maximum(holes, topped_up.unsqueeze(-1).float())


class RandomHiddenPatches:
    """Adds the mixture's mask or an empty one, and the hidden patches topped up to exactly 75 %, to a sample."""

    def __init__(self, masks: MaskConfig, grid: int, holes: bool = True):
        self.mixture, self.grid, self.holes = Mixture(masks), grid, holes

    def __call__(self, sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
        mask = torch.from_numpy(self.mixture(rng))[None] * self.holes
        hidden = hidden_patches(mask[None].float(), self.grid)[0].numpy()
        sample["mask"] = mask * 255
        sample["hidden"] = torch.from_numpy(top_up(hidden, rng))


def train(recipe: MAERecipe) -> MAE:
    torch.manual_seed(recipe.run.seed)
    mae = start_from(recipe.init, recipe.model) if recipe.init else random_mae(recipe.model or VIT_L)

    def photos(family: Family | None, data: DataConfig) -> Photos:
        holes = RandomHiddenPatches(replace(recipe.masks, family=family), mae.config.grid, recipe.holes)
        return Photos(data, recipe.run.seed, holes)

    by_family: dict[str, Photos] = {name: photos(name, recipe.data.of(recipe.validation)) for name in FAMILIES}
    batches = [preview_batch(dataset, 3) for dataset in by_family.values()]
    examples = {key: torch.cat([batch[key] for batch in batches]) for key in ("image", "mask")}

    def sample(trained: MAE, path: Path) -> None:
        device = trained.mask_token.device
        image, mask = examples["image"].to(device), examples["mask"].to(device)
        reconstruction = trained.reconstruct(trained.decoder_features(image, mask))
        rows = {
            "hole in gray": image * (1 - mask) + mask / 2,
            "MAE": reconstruction,
            "MAE in the hole": image * (1 - mask) + reconstruction * mask,
            "original": image,
        }
        save_rows(path, sheet_title(recipe.validation), rows)

    def export(trained: MAE, folder: Path) -> None:
        checkpoints.save(folder / "mae.safetensors", {"mae": trained})

    validation = by_family if recipe.validation else {}
    dataset = photos(None, recipe.data)
    return fit(
        recipe.run, MAEObjective(mae), dataset, sample=sample, validation=validation, export=export, recipe=recipe
    )


if __name__ == "__main__":
    main(arguments, MAERecipe, train)
