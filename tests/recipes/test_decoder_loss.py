"""The decoder's loss, as a whole, against the same terms written out."""

from functools import partial
from urllib.request import urlopen

import lpips
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from tiny import run_config
from torch import nn

from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from training import decoder
from training.adversary import AdversaryConfig
from training.base.unet import ConditionedUNet
from training.data import DataConfig
from training.masks import MaskConfig
from training.sd import LatentDiffusion
from training.texture import random_directions, texture_distance


@pytest.mark.parametrize("active", [True, False])
def test_loss_is_l1_lpips_and_gan(tmp_path, monkeypatch, active):
    """On values in [-1, 1], for which Asymmetric VQGAN's weights of its terms are."""
    monkeypatch.setattr(lpips, "LPIPS", partial(lpips.LPIPS, pnet_rand=True))  # VGG's weights are a download
    torch.manual_seed(0)
    model = ConditionedUNet()
    base = LatentDiffusion(model.unet, AutoencoderTiny(), model.description.empty_context).requires_grad_(False)
    recipe = decoder.DecoderRecipe("", DataConfig(("",)), MaskConfig(), run_config(tmp_path))
    network = HarmonizingDecoder(DecoderConfig(ch=32, num_res_blocks=1))
    objective = decoder.DecoderObjective(network, base, recipe).train()
    image = torch.rand(2, 3, 64, 64)
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:40, 16:40] = 1
    batch = {
        "image": image,
        "mask": mask,
        "corrupted": 1 - image,
        "posterior": torch.randn(2, 4, 8, 8),
        "adversarial": torch.tensor([active, active]),
    }
    loss, values = objective(batch)

    fake, real = network(base.encode(1 - image) / decoder.SCALING_FACTOR, image, mask) * 2 - 1, image * 2 - 1
    reconstruction = F.l1_loss(fake, real) + objective.perceptual(fake, real).mean()
    judge, last = objective.trained["discriminator"], network.decoder.conv_out.weight
    fooled = -judge(fake).mean()
    a, b = (torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (reconstruction, fooled))
    weight = (a / (b + 1e-4)).clamp(max=1e4 / image[0].numel())
    judging = (F.relu(1 - judge(real)).mean() + F.relu(1 + judge(fake)).mean()) / 2
    torch.testing.assert_close(loss, reconstruction + active * (0.8 * weight * fooled + judging))
    torch.testing.assert_close(values["l1"], F.l1_loss(fake, real))


@pytest.fixture
def objective(tmp_path) -> decoder.DecoderObjective:
    """With all that the paper does not have: texture, and a discriminator that judges the hole."""
    torch.manual_seed(0)
    recipe = decoder.DecoderRecipe(
        "",
        DataConfig(("",)),
        MaskConfig(),
        run_config(tmp_path),
        perceptual_weight=0.0,
        texture_weight=3.0,
        texture_strength=0.7,
        adversary=AdversaryConfig(hole=True, norm="group", r1_weight=2.0),
    )
    base = LatentDiffusion(nn.Identity(), AutoencoderTiny(), torch.zeros(1, 1, 48)).requires_grad_(False)
    return decoder.DecoderObjective(HarmonizingDecoder(DecoderConfig(ch=32, num_res_blocks=1)), base, recipe).train()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    image, mask, rng = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64), np.random.default_rng(0)
    mask[0, :, 16:40, 16:40] = 1
    mask[1, :, :9, 20:] = 1
    return {
        "image": image,
        "mask": mask,
        "corrupted": 1 - image,
        "posterior": torch.zeros(2, 4, 8, 8),
        "adversarial": torch.tensor([True, True]),
        "directions": torch.stack([random_directions(rng), random_directions(rng)]),
    }


def test_loss_of_the_hole_is_of_the_pasted_image(objective, batch):
    loss, values = objective(batch)
    image, mask, network = batch["image"], batch["mask"], objective.trained["decoder"]
    fake, real = network(objective.base.encode(1 - image) / decoder.SCALING_FACTOR, image, mask) * 2 - 1, image * 2 - 1
    pasted = fake * mask + real * (1 - mask)
    reconstruction = F.l1_loss(fake, real) + 3 * texture_distance(pasted, real, mask, batch["directions"], 0.7).mean()
    judge, last = objective.trained["discriminator"], network.decoder.conv_out.weight
    share = F.adaptive_avg_pool2d(mask, judge(real).shape[-2:])

    def mean(patches: torch.Tensor) -> torch.Tensor:
        return (patches * share).sum() / share.sum()

    fooled = -mean(judge(pasted))
    a, b = (torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (reconstruction, fooled))
    weight = (a / (b + 1e-4)).clamp(max=1e4 / image[0].numel())
    judging = (mean(F.relu(1 - judge(real))) + mean(F.relu(1 + judge(pasted)))) / 2
    penalty = torch.stack([torch.func.grad(lambda x: judge(x[None]).sum())(x).square().sum() for x in real]).mean() / 2
    torch.testing.assert_close(loss, reconstruction + 0.8 * weight * fooled + judging + 2 * penalty)
    torch.testing.assert_close(values["discriminator"], judging)


def test_what_is_decoded_of_known_pixels_moves_l1_alone(objective, batch):
    """Terms of the hole leave the decoder's other pixels alone."""
    objective.eval()
    seen = []
    objective.trained["decoder"].register_forward_hook(lambda module, inputs, out: seen.append(out))
    loss, _ = objective(batch)
    (decoded,), mask = seen, batch["mask"].expand_as(batch["image"])
    (gradient,) = torch.autograd.grad(loss, decoded)
    l1 = 2 * (decoded - batch["image"]).sign() / decoded.numel()  # of values in [-1, 1]
    torch.testing.assert_close(gradient[mask == 0], l1[mask == 0])
    assert (gradient != l1)[mask == 1].float().mean() > 0.9


def test_missing_vgg_is_named(tmp_path, monkeypatch):
    """On a machine without internet."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, *_, **__: urlopen("http://127.0.0.1:9/vgg"))
    base = LatentDiffusion(nn.Identity(), AutoencoderTiny(), torch.zeros(1, 1, 48))
    recipe = decoder.DecoderRecipe("", DataConfig(("",)), MaskConfig(), run_config(tmp_path))
    with pytest.raises(
        OSError, match=rf"VGG-16 is missing .* put .*vgg16-397923af.pth into {tmp_path}/checkpoints, or set"
    ):
        decoder.DecoderObjective(HarmonizingDecoder(DecoderConfig(ch=32)), base, recipe)
