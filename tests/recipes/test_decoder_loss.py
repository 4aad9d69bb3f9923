"""The decoder's loss, as a whole, against the same terms written out."""

from functools import partial
from urllib.request import urlopen

import lpips
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from tiny import run_config
from torch import nn

from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from training import decoder
from training.base.unet import DescribedUNet
from training.data import DataConfig
from training.masks import MaskConfig
from training.sd import LatentDiffusion


@pytest.mark.parametrize("active", [True, False])
def test_loss_is_l1_lpips_and_gan(tmp_path, monkeypatch, active):
    """On values in [-1, 1], for which Asymmetric VQGAN's weights of its terms are."""
    monkeypatch.setattr(lpips, "LPIPS", partial(lpips.LPIPS, pnet_rand=True))  # VGG's weights are a download
    torch.manual_seed(0)
    model = DescribedUNet()
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

    fake, real = network(base.encode(1 - image) / decoder.SCALE, image, mask) * 2 - 1, image * 2 - 1
    reconstruction = F.l1_loss(fake, real) + objective.perceptual(fake, real).mean()
    judge, last = objective.trained["discriminator"], network.decoder.conv_out.weight
    fooled = -judge(fake).mean()
    a, b = (torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (reconstruction, fooled))
    weight = (a / (b + 1e-4)).clamp(max=1e4 / image[0].numel())
    judging = (F.relu(1 - judge(real)).mean() + F.relu(1 + judge(fake)).mean()) / 2
    torch.testing.assert_close(loss, reconstruction + active * (0.8 * weight * fooled + judging))
    torch.testing.assert_close(values["l1"], F.l1_loss(fake, real))


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
