"""The patch-GAN's terms against direct computations."""

import torch

from training.adversary import PatchDiscriminator, adaptive_weight, hinge_loss, judge_fixed


def test_discriminator_is_pix2pix():
    discriminator = PatchDiscriminator()
    published = 2_768_705 - 3 * 64 * 4 * 4  # pix2pix's own sees six channels, the picture and its condition
    assert sum(p.numel() for p in discriminator.parameters()) == published
    assert discriminator(torch.randn(1, 3, 256, 256)).shape == (1, 1, 30, 30)


def test_hinge_loss():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5])
    torch.testing.assert_close(hinge_loss(real, fake), torch.tensor(0.5 * (0.5 + 0.75)))


def test_the_decoders_step_does_not_teach_the_discriminator():
    discriminator = PatchDiscriminator(width=8)
    image = torch.randn(2, 3, 64, 64, requires_grad=True)
    before = {key: value.clone() for key, value in discriminator.state_dict().items()}
    judged = judge_fixed(discriminator, image)
    judged.mean().backward()
    assert image.grad.any()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(torch.equal(before[key], value) for key, value in discriminator.state_dict().items())
    torch.testing.assert_close(judged, discriminator(image))


def test_adaptive_weight_is_the_ratio_of_gradients():
    weight = torch.randn(3, requires_grad=True)
    found = adaptive_weight((4 * weight).sum(), (weight * 2).sum(), weight, 1)
    torch.testing.assert_close(found, torch.tensor(2.0), atol=1e-3, rtol=1e-3)
    assert adaptive_weight(weight.sum(), (weight * 0).sum(), weight, 1) == 1e4


def test_adaptive_weight_is_limited_as_for_a_summed_loss():
    """The published term, whose reconstruction loss is the sum over an image, divided by how many values it sums."""
    image = torch.randn(2, 3, 16, 16, requires_grad=True)
    n = image[0].numel()
    summed, judged = (image.square().sum((1, 2, 3))).mean(), (0.01 * image).mean()
    a, b = (torch.autograd.grad(loss, image, retain_graph=True)[0].norm() for loss in (summed, judged))
    published = (a / (b + 1e-4)).clamp(0, 1e4)
    assert published == 1e4
    torch.testing.assert_close(adaptive_weight(summed / n, judged, image, n), published / n)
