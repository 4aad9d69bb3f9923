"""The RePaint sampler inside ComfyUI's own sampling."""

import sys

import pytest
import torch
from test_diffedit import SCALING_FACTOR, as_flow, as_model, random_unet
from torch import Tensor

CELLS = 8


@pytest.fixture(scope="module")
def model(extension):
    return as_model(random_unet(4))


@pytest.fixture(scope="module")
def latent() -> Tensor:
    return torch.randn(1, 4, CELLS, CELLS, generator=torch.Generator().manual_seed(0)) / SCALING_FACTOR


@pytest.fixture(scope="module")
def mask() -> Tensor:
    """Pixels of the hole: the left half."""
    mask = torch.zeros(1, 8 * CELLS, 8 * CELLS)
    mask[..., : 4 * CELLS] = 1
    return mask


HOLE = (..., slice(None, CELLS // 2))


def repaint(
    model, latent: Tensor, mask: Tensor | None, steps: int = 10, jump_length=2, resamples=2, seed=5, first=0
) -> Tensor:
    """What SamplerCustom does with our sampler, cfg 1."""
    import comfy.sample
    import comfy.samplers

    node = sys.modules["asuka_extension.nodes.repaint"].ASUKA_RePaint
    (sampler,) = node.execute(jump_length, resamples).args
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "ddim_uniform", steps)[first:]
    noise = comfy.sample.prepare_noise(latent, seed)
    empty = [[torch.zeros(1, 7, 768), {}]]
    return comfy.sample.sample_custom(
        model, noise, 1.0, sampler, sigmas, empty, empty, latent, noise_mask=mask, seed=seed
    )


@pytest.mark.parametrize("settings, calls", [((250, 10, 10), 2410), ((50, 10, 10), 410), ((50, 5, 5), 230)])
def test_passes_through_the_model(model, latent, mask, settings, calls):
    seen = []
    counted = model.clone()
    counted.set_model_unet_function_wrapper(lambda _, arguments: seen.append(1) or torch.zeros_like(arguments["input"]))
    repaint(counted, latent, mask, *settings)
    assert len(seen) == calls


def test_known_latents_come_out_as_they_went_in(model, latent, mask):
    result = repaint(model, latent, mask)
    assert torch.equal(result[..., CELLS // 2 :], latent[..., CELLS // 2 :])
    assert (result - latent)[HOLE].abs().mean() > 0.1
    assert result.isfinite().all()


def test_known_latents_get_fresh_noise_of_the_level_before_every_step(model, latent, mask):
    def known_noise(seed: int) -> Tensor:
        seen = []
        watched = model.clone()
        watched.set_model_sampler_post_cfg_function(
            lambda args: (
                seen.append((args["input"] - latent * SCALING_FACTOR) / args["sigma"].view(-1, 1, 1, 1))
                or args["denoised"]
            )
        )
        repaint(watched, latent, mask, seed=seed)
        return torch.cat(seen)[..., CELLS // 2 :].flatten(1)

    noise = known_noise(5)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    alike = torch.corrcoef(torch.cat([noise, known_noise(6)])) - torch.eye(2 * len(noise))
    assert alike.abs().max() < 0.5  # no noise is used twice


def test_what_is_under_the_hole_changes_nothing(model, latent, mask):
    other = latent.clone()
    other[HOLE] = 100.0
    assert torch.equal(repaint(model, latent, mask), repaint(model, other, mask))


def test_result_follows_the_seed(model, latent, mask):
    first = repaint(model, latent, mask)
    assert torch.equal(first, repaint(model, latent, mask))
    assert not torch.equal(first, repaint(model, latent, mask, seed=6))


def test_largest_seed(model, latent, mask):
    assert torch.isfinite(repaint(model, latent, mask, seed=2**64 - 1)).all()


def test_hole_comes_to_fit_its_surroundings(model, mask):
    """In the world of this model neighbours tend to be alike, and every picture's best estimate is known; what is known
    is 1 everywhere. Resampling brings the hole closer to it."""
    n = 4 * CELLS * CELLS
    shared = torch.ones(n, n) * 0.99 + torch.eye(n) * 0.01  # covariance of the latents

    def best_estimate(_, arguments: dict) -> Tensor:
        x, noise = arguments["input"], arguments["timestep"].double().square()
        estimate = shared.double() @ torch.linalg.solve(shared.double() + noise * torch.eye(n), x.double().flatten(1).T)
        return estimate.T.view_as(x).float()

    ideal = model.clone()
    ideal.set_model_unet_function_wrapper(best_estimate)
    known = torch.ones(1, 4, CELLS, CELLS) / SCALING_FACTOR

    def distance(resamples: int) -> float:
        holes = [repaint(ideal, known, mask, 20, 5, resamples, seed)[HOLE].mean() * SCALING_FACTOR for seed in range(6)]
        return float((torch.stack(holes) - 1).abs().mean())

    far, near = distance(1), distance(8)
    assert near < 0.1
    assert near < far / 2


def test_what_it_cannot_do(model, latent, mask):
    with pytest.raises(ValueError, match="RePaint needs a mask; put Set Latent Noise Mask"):
        repaint(model, latent, None)
    with pytest.raises(ValueError, match=r"RePaint needs a Stable Diffusion model .*; flow models"):
        repaint(as_flow(model), latent, mask)
    with pytest.raises(
        ValueError, match=r"RePaint starts from pure noise, but the schedule starts at sigma 0\.84 of 14"
    ):
        repaint(model, latent, mask, steps=10, first=6)
