"""Noise schedule, loss and one-step estimate against diffusers' schedulers."""

import torch
from diffusers import AutoencoderTiny, DDPMScheduler

from training.base.unet import ConditionedUNet, init_as_noise_copier
from training.latent_augment import augment
from training.sd import LatentDiffusion, add_noise, alphas_cumprod, noise_loss


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


def random_base() -> LatentDiffusion:
    torch.manual_seed(0)
    model = ConditionedUNet()
    base = LatentDiffusion(model.unet, AutoencoderTiny(), model.description.empty_context)
    return base.requires_grad_(False).eval()


def test_schedule_is_stable_diffusions():
    torch.testing.assert_close(alphas_cumprod(), scheduler().alphas_cumprod, atol=1e-6, rtol=1e-5)


def test_adding_noise():
    latent, noise = torch.randn(2, 3, 4, 8, 8)
    timestep = torch.tensor([0, 500, 999])
    expected = scheduler().add_noise(latent, noise, timestep)
    torch.testing.assert_close(add_noise(latent, noise, alphas_cumprod()[timestep]), expected, atol=1e-5, rtol=1e-5)


def test_plain_loss_is_the_mean_squared_error_of_the_noise():
    predicted, noise = torch.randn(2, 3, 4, 8, 8)
    mask = (torch.rand(3, 1, 8, 8) > 0.5).float()
    expected = torch.stack([torch.nn.functional.mse_loss(a, b) for a, b in zip(predicted, noise, strict=True)])
    torch.testing.assert_close(noise_loss(predicted, noise, mask, torch.tensor([0.1, 0.5, 0.9])), expected)


def test_uncapped_loss_is_the_v_prediction_loss():
    latent, noise, predicted = torch.randn(3, 2, 4, 8, 8)
    timestep = torch.tensor([300, 900])
    alpha_cumprod = alphas_cumprod()[timestep]
    noisy = add_noise(latent, noise, alpha_cumprod)
    a, s = (x.sqrt().view(-1, 1, 1, 1) for x in (alpha_cumprod, 1 - alpha_cumprod))
    clean = (noisy - s * predicted) / a
    target = scheduler().get_velocity(latent, noise, timestep)
    expected = (a * predicted - s * clean - target).square().mean((1, 2, 3))
    found = noise_loss(predicted, noise, torch.ones(2, 1, 8, 8), alpha_cumprod, max_snr_weight=1e6)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_hole_weighting():
    predicted, noise = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    noise[:, :, 0, 0] = 3.0  # hole
    noise[:, :, 1, 1] = 1.0  # known
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[None, None]
    found = noise_loss(predicted, noise, mask, torch.tensor([0.5]), unmasked_weight=0.2)
    torch.testing.assert_close(found, torch.tensor([(9.0 + 0.2) / (1 + 3 * 0.2)]))


@torch.no_grad()
def test_latent_augmentation_is_one_step_to_the_clean_estimate():
    base = random_base()
    torch.manual_seed(1)
    image, noise = torch.rand(2, 3, 64, 64), torch.randn(2, 4, 8, 8)
    timestep = torch.tensor([600, 950])
    latent = base.encode(image)
    noisy = scheduler().add_noise(latent, noise, timestep)
    model_input = torch.cat([noisy, torch.zeros(2, 1, 8, 8), latent], 1)
    predicted = base.unet(model_input, timestep, base.empty_context.expand(2, -1, -1)).sample
    steps = [
        scheduler().step(predicted[i : i + 1], int(timestep[i]), noisy[i : i + 1]).pred_original_sample
        for i in range(2)
    ]
    expected = base.decode(torch.cat(steps)).clamp(0, 1)
    torch.testing.assert_close(augment(base, image, timestep, noise), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_noise_copier_returns_the_noisy_latent():
    model = ConditionedUNet()
    init_as_noise_copier(model.unet)
    noisy = torch.randn(2, 4, 8, 8)
    model_input = torch.cat([noisy, torch.ones(2, 1, 8, 8), torch.randn(2, 4, 8, 8)], 1)
    found = model.unet(model_input, torch.tensor([10, 990]), torch.randn(2, 16, 768)).sample
    assert torch.corrcoef(torch.stack([found.flatten(), noisy.flatten()]))[0, 1] > 0.99
