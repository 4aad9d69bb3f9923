"""Recipe, for the miniature alone: the alignment learns the words that the miniature's U-Net knows.

python -m training.base.words training/configs/miniature/words.yaml

Which context moves a U-Net, and how, an alignment module finds out by the U-Net's gradient alone (training.align); at full
size that takes most of its GPU hours. The miniature's words are known, because its own base training made them
(description.py): this regression from the MAE prior onto the description of the complete view gives, in minutes on a
CPU, the weights that training.align then starts from.
"""

from ..engine.command_line import main, parse

if __name__ == "__main__":
    arguments = parse("base.words", __doc__)

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.alignment import SELF4, Alignment, AlignmentConfig
from asuka_modules.mae import MAE

from ..data import DataConfig, Photos
from ..engine.loop import Objective, RunConfig, fit
from ..latents import VAE_SCALE_FACTOR, RandomMask
from ..masks import MaskConfig
from .checkpoint import load_base
from .description import ConditioningEmbedder


@dataclass(frozen=True)
class WordsRecipe:
    """Train the miniature's alignment module to say what the description says, from the MAE prior."""

    base: str  # the miniature's checkpoint
    mae: str
    data: DataConfig
    masks: MaskConfig
    run: RunConfig
    model: AlignmentConfig = SELF4
    reconstructed_share: float = 0.3  # of images whose prior is that of the complete view


class WordsBatch(TypedDict):
    """What WordsObjective is given."""

    image: Tensor  # (B, 3, S, S) float32 in [0, 1]
    mask: Tensor  # (B, 1, S, S) float32, 1 in the hole
    reconstructed: Tensor  # (B,) bool, whether the prior is that of the complete image


class WordsObjective(Objective):
    """Squared error between the aligned prior and the description."""

    def __init__(self, alignment: Alignment, mae: MAE, description: ConditioningEmbedder, recipe: WordsRecipe):
        super().__init__()
        self.trained, self.mae, self.description, self.recipe = alignment, mae, description, recipe

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """L = mean |alignment(MAE prior) - layout conditioning of the complete image|^2; not in the paper.

        `batch` is a WordsBatch.
        """
        image = batch["image"]
        complete = batch["reconstructed"]
        with torch.no_grad():
            words = self.description(F.avg_pool2d(image, VAE_SCALE_FACTOR), torch.zeros_like(complete))
            prior = self.mae.prior(image, batch["mask"] * ~complete[:, None, None, None])
        return (self.trained(prior).float() - words).square().mean(), {}


class RandomMaskAndPrior:
    """Adds the mixture's mask to a sample, and whether its prior is that of the reconstruction."""

    def __init__(self, recipe: WordsRecipe):
        self.holes, self.share = RandomMask(recipe.masks), recipe.reconstructed_share
        self.mixture = self.holes.mixture

    def __call__(self, sample: dict[str, Tensor], rng: np.random.Generator, index: int) -> None:
        self.holes(sample, rng, index)
        sample["reconstructed"] = torch.tensor(rng.random() < self.share)


def train(recipe: WordsRecipe) -> Alignment:
    torch.manual_seed(recipe.run.seed)
    description = load_base(recipe.base)[1].description.requires_grad_(False)
    mae = checkpoints.load_part(recipe.mae, "mae").build(dtype=torch.float32).requires_grad_(False)
    alignment = Alignment(recipe.model)
    alignment.init_weights()
    if recipe.model.empty_tokens:
        alignment.empty_context.copy_(description.empty_context.detach())

    def export(trained: Alignment, folder: Path) -> None:
        checkpoints.save(folder / "alignment.safetensors", {"alignment": trained})

    dataset = Photos(recipe.data, recipe.run.seed, RandomMaskAndPrior(recipe))
    return fit(recipe.run, WordsObjective(alignment, mae, description, recipe), dataset, export=export)


if __name__ == "__main__":
    main(arguments, WordsRecipe, train)
