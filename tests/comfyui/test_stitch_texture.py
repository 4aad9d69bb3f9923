"""Inpaint Stitch's `texture` inside ComfyUI: at the photo's own size, image by image, from known pixels alone."""

import sys
from types import ModuleType

import pytest
import torch
from scipy import ndimage
from torch import Tensor


@pytest.fixture
def nodes(extension: ModuleType):
    modules = (sys.modules[f"asuka_extension.nodes.{name}"] for name in ("prepare", "stitch"))
    return [module for module in modules]


def noisy(batch: int = 1, size: int = 128) -> Tensor:
    return 0.4 + 0.2 * torch.rand(batch, size, size, 3, generator=torch.Generator().manual_seed(0))


def hole() -> Tensor:
    mask = torch.zeros(1, 128, 128)
    mask[:, 40:80, 48:90] = 1
    return mask


def textured(nodes, image: Tensor, mask: Tensor, texture: float = 8.0, resolution: int = 64, **options) -> Tensor:
    """The hole filled with flat gray at half the photo's size, with texture."""
    prepare, stitch = nodes
    outputs = prepare.ASUKA_InpaintPrepare.execute(image, mask, resolution, 3.0, **options).args
    fill = torch.full_like(outputs[0], 0.5)
    return stitch.ASUKA_InpaintStitch.execute(outputs[3], fill, 0, texture).args[0]


def test_known_pixels_are_bit_identical_and_the_fill_gets_texture(nodes):
    image, mask = noisy(), hole()
    known = mask[0] < 0.5
    plain, result = textured(nodes, image, mask, 0.0), textured(nodes, image, mask)
    assert torch.equal(result[:, known], image[:, known])
    inside = ndimage.binary_erosion(mask[0].numpy() > 0, iterations=4)
    spreads = [float(x[0].numpy()[inside].std()) for x in (plain, result, image)]
    assert spreads[0] < 1e-3
    assert spreads[1] > 0.5 * spreads[2]


def test_content_under_the_hole_changes_no_bit(nodes):
    image, mask = noisy(), hole()
    results = [textured(nodes, torch.where(mask[..., None] > 0, value, image), mask) for value in (0.0, 1.0)]
    assert torch.equal(*results)


def test_a_batch_gives_what_single_images_give(nodes):
    images = noisy(2)
    images[1] = images[1].flip(1)
    both = textured(nodes, images, hole())
    assert torch.equal(both, torch.cat([textured(nodes, image[None], hole()) for image in images]))


def test_one_fill_takes_no_texture_from_another(nodes):
    """Two holes that lie in one another's crops. Only what fills the second one is as bright as what fills the first."""
    prepare, stitch = nodes
    image, mask = noisy() / 20, torch.zeros(1, 128, 128)
    mask[:, 10:30, 10:30], mask[:, 40:80, 40:80] = 1, 1
    outputs = prepare.ASUKA_InpaintPrepare.execute(image, mask, 64, 3.0, separate_crops=True).args
    boxes = [part.box for part in (outputs[3], *outputs[3].others)]
    assert len(boxes) == 2
    noise = torch.rand(outputs[0].shape, generator=torch.Generator().manual_seed(1)).round()
    is_second = torch.tensor([top > 0 for top, *_ in boxes])[:, None, None, None]
    result = stitch.ASUKA_InpaintStitch.execute(outputs[3], torch.where(is_second, noise, 0.5), 0, 4.0).args[0]
    assert result[0, 16:24, 16:24].std() < 0.02
