"""DiffEdit on the miniature: descriptions of pictures play the prompts, a picture of two objects is edited."""

import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from scripts.comfy_server import ROOT
from training.base.checkpoint import ASUKA, UNET
from training.base.description import ConditioningEmbedder

SIZE, RADIUS = 256, 44
BASE = ROOT / "demo" / "asuka-miniature-base.safetensors"


def disc(x: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((columns - x) ** 2 + (rows - 140) ** 2 < RADIUS**2).unsqueeze(-1)


LEFT, RIGHT = disc(72), disc(184)


def scene(*objects: tuple[Tensor, tuple[float, float, float]]) -> Tensor:
    """Sky over sand, with discs on it, (1, H, W, 3)."""
    height = torch.linspace(0, 1, SIZE).view(-1, 1, 1)
    picture = torch.lerp(torch.tensor([0.55, 0.68, 0.8]), torch.tensor([0.72, 0.64, 0.5]), height)
    picture = picture.expand(SIZE, SIZE, 3)
    for where, colour in objects:
        picture = torch.where(where, torch.tensor(colour), picture)
    return picture.unsqueeze(0)


RED, BLUE = (0.7, 0.15, 0.12), (0.12, 0.2, 0.55)
BOTH, BLUE_ONLY = scene((LEFT, RED), (RIGHT, BLUE)), scene((RIGHT, BLUE))


class Miniature:
    def __init__(self):
        import comfy.sd

        loaded = comfy.sd.load_checkpoint_guess_config(str(BASE), output_vae=True, output_clip=False)
        self.model, self.vae = loaded[0], loaded[2]
        tensors = load_file(BASE)
        self.description = ConditioningEmbedder()
        self.description.load_state_dict({k: tensors[ASUKA + k].float() for k in self.description.state_dict()})

    def describe(self, picture: Tensor | None) -> list:
        """Conditioning that describes a picture, or nothing; everything is hole, so that the picture is not shown."""
        colours = F.avg_pool2d((BOTH if picture is None else picture).movedim(-1, 1), 8)
        with torch.no_grad():
            context = self.description(colours, torch.tensor([picture is None]))
        grey = self.vae.encode(torch.full((1, SIZE, SIZE, 3), 0.5))
        return [[context, {"concat_latent_image": grey, "concat_mask": torch.ones(1, 1, SIZE, SIZE)}]]


@pytest.fixture(scope="module")
def miniature(extension) -> Miniature:
    if not load_file(BASE)[f"{UNET}middle_block.1.proj_out.weight"].float().any():
        pytest.skip(f"{BASE.name} is untrained: its attention is still zero")
    return Miniature()


def run(node: str, *arguments) -> tuple:
    module = {"ASUKA_DiffEditMask": "diffedit_mask", "ASUKA_DDIMInvert": "ddim_invert"}.get(node, "diffedit_decode")
    return getattr(sys.modules[f"asuka_extension.nodes.{module}"], node).execute(*arguments).args


def test_the_mask_is_the_object_that_the_descriptions_disagree_about(miniature):
    query, reference = miniature.describe(BLUE_ONLY), miniature.describe(BOTH)
    latent = {"samples": miniature.vae.encode(BOTH)}
    mask, _ = run("ASUKA_DiffEditMask", miniature.model, query, reference, latent, 0.5, 0, 10, 0.5, "mean", 3.0)
    found, left, right = mask[0] > 0.5, LEFT[..., 0], RIGHT[..., 0]
    assert (found & left).sum() / (found | left).sum() > 0.5
    assert (found & right).sum() / right.sum() < 0.1

    _, trajectory, _ = run("ASUKA_DDIMInvert", miniature.model, miniature.describe(None), latent, 20, 0.8, "next level")
    (edited,) = run("ASUKA_DiffEditDecode", miniature.model, query, miniature.describe(None), trajectory, mask, 1.0)
    cells = F.interpolate(mask.unsqueeze(1), scale_factor=1 / 8, mode="area")
    outside = (cells <= 0.5).expand_as(latent["samples"])
    assert torch.equal(edited["samples"][outside], latent["samples"][outside])
    picture = miniature.vae.decode(edited["samples"])
    inside = found & left
    assert (picture - BLUE_ONLY)[0][inside].abs().mean() < (BOTH - BLUE_ONLY)[0][inside].abs().mean() / 2
