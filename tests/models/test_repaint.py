"""RePaint's path and steps against diffusers' RePaintScheduler."""

from itertools import pairwise

import pytest
import torch
from diffusers import RePaintScheduler

from asuka_modules.repaint import forward_step, resampling_path, reverse_step

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
COUNTS = {  # (steps, jump length, resamples) -> (passes through the model, steps back)
    (250, 10, 10): (2410, 2160),
    (250, 10, 5): (1210, 960),
    (100, 10, 10): (910, 810),
    (50, 10, 10): (410, 360),
    (50, 5, 5): (230, 180),
    (50, 10, 3): (130, 80),
    (50, 10, 1): (50, 0),
    (10, 10, 10): (10, 0),
}


@pytest.mark.parametrize("settings", COUNTS)
def test_path_is_that_of_diffusers(settings):
    steps, jump_length, resamples = settings
    scheduler = RePaintScheduler(**SCHEDULE)
    scheduler.set_timesteps(steps, jump_length, resamples)
    theirs = (steps - 1 - scheduler.timesteps // (1000 // steps)).tolist()
    path = resampling_path(*settings)
    assert path == [*theirs, steps]
    assert all(abs(a - b) == 1 for a, b in pairwise(path))
    assert (sum(b > a for a, b in pairwise(path)), sum(b < a for a, b in pairwise(path))) == COUNTS[settings]


def test_steps_are_those_of_diffusers():
    """In diffusers' scale, where a latent is divided by sqrt(1 + sigma^2)."""
    steps, t = 50, torch.tensor(600)
    scheduler = RePaintScheduler(**SCHEDULE, eta=1.0)
    scheduler.set_timesteps(steps, 10, 10)
    sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
    sigma, after = sigmas[600], sigmas[580]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    z, predicted = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = scheduler.step(
        predicted,
        t,
        (z + sigma * predicted) / (1 + sigma**2).sqrt(),
        torch.zeros_like(z),
        torch.zeros_like(z),
        torch.Generator().manual_seed(3),
    )
    ours = reverse_step(z + sigma * predicted, z, sigma, after, noise)
    torch.testing.assert_close(theirs.pred_original_sample, z, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours / (1 + after**2).sqrt(), theirs.prev_sample, atol=1e-5, rtol=0)


def test_a_step_back_adds_the_noise_between_the_levels():
    scheduler = RePaintScheduler(**SCHEDULE)
    scheduler.set_timesteps(1000, 1, 1)  # undo_step then makes one step of the training's noise schedule
    sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
    x = torch.randn(1, 4, 8, 8)
    theirs = scheduler.undo_step(x, 581, torch.Generator().manual_seed(3))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    sigma, after = sigmas[580], sigmas[581]
    ours = forward_step(x * (1 + sigma**2).sqrt(), sigma, after, noise) / (1 + after**2).sqrt()
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_last_step_is_the_models_estimate():
    x, denoised, noise = torch.randn(3, 1, 4, 8, 8)
    assert torch.equal(reverse_step(x, denoised, torch.tensor(0.03), torch.tensor(0.0), noise), denoised)
