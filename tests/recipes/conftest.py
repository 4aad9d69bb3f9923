"""A small folder of real photos (scikit-image's), one of object masks, and a base model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderTiny
from PIL import Image

from training.base.checkpoint import save_base
from training.base.unet import ConditionedUNet


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """Recipes of different precisions run in one process here; accelerate remembers the first one's."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()).convert("RGB").save(folder / f"{name}.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def masks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    y, x = np.mgrid[:100, :100]
    for i, (a, b) in enumerate([(40, 20), (25, 45), (30, 30)]):
        ellipse = ((x - 50) / a) ** 2 + ((y - 50) / b) ** 2 < 1
        Image.fromarray((ellipse * 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A base model with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_base(path, AutoencoderTiny(), ConditionedUNet())
    return path
