"""DiffEdit on real ComfyUI models against diffusers' own pipeline with the same random weights."""

import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMInverseScheduler,
    DDIMScheduler,
    StableDiffusionDiffEditPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from training.base.unet import ConditionedUNet
from training.sd import SCALING_FACTOR
from training.weights.ldm_names import unet_to_ldm

STEPS, RATIO, CELLS = 5, 0.8, 8
T481 = 481 / 999  # the strength at which ComfyUI's noise level is that of diffusers' timestep 481
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def random_unet(in_channels: int) -> UNet2DConditionModel:
    torch.manual_seed(0)
    config = {key: value for key, value in ConditionedUNet().unet.config.items() if not key.startswith("_")}
    return UNet2DConditionModel(**{**config, "in_channels": in_channels, "sample_size": 64}).eval()


def as_model(unet: UNet2DConditionModel):
    """The same weights as ComfyUI loads them."""
    import comfy.sd

    state = unet.state_dict()
    return comfy.sd.load_diffusion_model_state_dict(
        {f"model.diffusion_model.{name}": state[key] for key, name in unet_to_ldm(unet).items()}
    )


def as_flow(model):
    import comfy_extras.nodes_model_advanced

    return comfy_extras.nodes_model_advanced.ModelSamplingSD3().patch(model, shift=3.0)[0]


def as_v(model):
    import comfy_extras.nodes_model_advanced

    return comfy_extras.nodes_model_advanced.ModelSamplingDiscrete().patch(model, "v_prediction", False)[0]


def with_latent_format(model, name: str):
    """The model with latents of another scale and shift."""
    import comfy.latent_formats

    model = model.clone()
    model.add_object_patch("latent_format", getattr(comfy.latent_formats, name)())
    return model


@pytest.fixture(scope="module")
def unet(extension) -> UNet2DConditionModel:
    return random_unet(4)


@pytest.fixture(scope="module")
def models(unet) -> dict:
    eps = as_model(unet)
    return {
        "eps": eps,
        "v": as_v(eps),
        "flow": as_flow(eps),
        "inpainting": as_model(random_unet(9)),
        "playground": with_latent_format(eps, "SDXL_Playground_2_5"),
    }


@pytest.fixture(scope="module")
def pipeline(unet) -> StableDiffusionDiffEditPipeline:
    vae = AutoencoderKL(block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)  # fmt: skip
    pipeline = StableDiffusionDiffEditPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE, set_alpha_to_one=True, steps_offset=1),
        inverse_scheduler=DDIMInverseScheduler(**SCHEDULE, set_alpha_to_one=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def inputs() -> SimpleNamespace:
    """Two latents as the U-Net sees them, and the contexts of three prompts."""
    generator = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.interpolate(torch.randn(2, 4, 4, 4, generator=generator), CELLS, mode="bicubic")
    latent = smooth + 0.2 * torch.randn(2, 4, CELLS, CELLS, generator=generator)
    return SimpleNamespace(latent=latent, contexts=torch.randn(3, 1, 7, 768, generator=generator))


def conditioning(context: Tensor) -> list:
    return [[context, {}]]


def as_latent(latent: Tensor) -> dict:
    return {"samples": latent / SCALING_FACTOR}


def module(name: str):
    return sys.modules[f"asuka_extension.nodes.{name}"]


def find_mask(model, query, reference, latent, **options) -> tuple[Tensor, Tensor]:
    """Mask and soft map of DiffEdit Mask."""
    defaults = {"threshold": 0.5, "seed": 3, "maps": 4, "strength": T481, "clip": "mean", "clip_ratio": 3.0}
    arguments = conditioning(query), conditioning(reference), as_latent(latent)
    return module("diffedit_mask").ASUKA_DiffEditMask.execute(model, *arguments, **{**defaults, **options}).args


def soft_map(model, query, reference, latent, maps=4) -> Tensor:
    """The map at the latent's resolution."""
    diffedit_mask = module("diffedit_mask")
    arguments = conditioning(query), conditioning(reference), latent / SCALING_FACTOR, T481, maps, 3
    return diffedit_mask.normalize_map(diffedit_mask.difference_map(model, *arguments), "mean", 3.0)


@torch.no_grad()
def reference_map(unet, query, reference, latent, guidance=None, maps=4) -> Tensor:
    """diffusers' soft map, one image: `generate_mask` before its threshold."""
    scheduler = DDIMScheduler(**SCHEDULE)
    noise = torch.randn(maps, 4, CELLS, CELLS, generator=torch.Generator().manual_seed(3))
    noisy = scheduler.add_noise(latent.expand(maps, -1, -1, -1), noise, torch.tensor(481))
    predictions = [unet(noisy, 481, c.expand(maps, -1, -1)).sample for c in (query, reference)]
    if guidance is not None:
        empty, scale = guidance
        negative = unet(noisy, 481, empty.expand(maps, -1, -1)).sample
        predictions = [negative + scale * (p - negative) for p in predictions]
    difference = (predictions[0] - predictions[1]).abs().mean((0, 1))
    return difference.clamp(0, 3 * difference.mean()) / (3 * difference.mean())


def test_soft_map_is_diffusers(models, unet, inputs):
    query, reference, _ = inputs.contexts
    for latent in inputs.latent[:, None]:
        expected = reference_map(unet, query, reference, latent)
        assert expected.std() > 0.05
        torch.testing.assert_close(soft_map(models["eps"], query, reference, latent)[0], expected, atol=1e-3, rtol=0)


def test_guidance_cancels_in_the_map(models, unet, inputs):
    """diffusers guides with 7.5; with one negative for both prompts that changes nothing but the time it takes."""
    query, reference, empty = inputs.contexts
    latent = inputs.latent[:1]
    expected = reference_map(unet, query, reference, latent, guidance=(empty, 7.5))
    torch.testing.assert_close(soft_map(models["eps"], query, reference, latent)[0], expected, atol=1e-3, rtol=0)


def test_mask_is_the_pipelines(models, pipeline, inputs):
    query, reference, empty = inputs.contexts
    latent = inputs.latent[:1]
    mask = pipeline.generate_mask(
        latent,
        target_prompt_embeds=query,
        target_negative_prompt_embeds=empty,
        source_prompt_embeds=reference,
        source_negative_prompt_embeds=empty,
        num_maps_per_mask=4,
        generator=torch.Generator().manual_seed(3),
    )
    ours, _ = find_mask(models["eps"], query, reference, latent)
    cells = module("diffedit_decode").to_latent_mask(ours, (CELLS, CELLS))[:, 0]
    assert 0 < mask.sum() < mask.size
    assert (cells != torch.from_numpy(mask)).sum() <= 1  # a value at the very threshold


def test_deviation_every_image_has_its_own_scale(models, pipeline, inputs):
    """diffusers divides by the mean over the batch, so that a second picture changes the mask of the first."""
    query, reference, empty = inputs.contexts
    latent = torch.cat([inputs.latent[:1], 4 * inputs.latent[1:]])
    prompts = {
        "target_prompt_embeds": query,
        "target_negative_prompt_embeds": empty,
        "source_prompt_embeds": reference,
        "source_negative_prompt_embeds": empty,
    }

    def theirs(latent: Tensor) -> Tensor:
        n = len(latent)
        generators = [torch.Generator().manual_seed(3) for _ in range(n)]
        embeds = {name: value.expand(n, -1, -1) for name, value in prompts.items()}
        return torch.from_numpy(pipeline.generate_mask(latent, **embeds, num_maps_per_mask=1, generator=generators))

    assert not torch.equal(theirs(latent)[:1], theirs(latent[:1]))
    together = find_mask(models["eps"], query, reference, latent)
    for i in range(2):
        alone = find_mask(models["eps"], query, reference, latent[i : i + 1])
        torch.testing.assert_close(together[1][i : i + 1], alone[1], atol=1e-4, rtol=0)


def test_deviation_the_same_prompt_twice_masks_nothing(models, unet, inputs):
    query = inputs.contexts[0]
    assert reference_map(unet, query, query, inputs.latent[:1]).isnan().all()
    for kind, clip in (("eps", "mean"), ("v", "percentile"), ("flow", "none"), ("inpainting", "mean")):
        for found in find_mask(models[kind], query, query, inputs.latent, clip=clip):
            assert found.shape == (2, 8 * CELLS, 8 * CELLS)
            assert not found.any()


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "inpainting"])
def test_mask_follows_the_seed_whatever_the_batch(models, inputs, kind):
    query, reference, _ = inputs.contexts
    mask, soft = find_mask(models[kind], query, reference, inputs.latent, clip="percentile")
    assert mask.any()
    assert not mask.all()
    assert soft.amin() >= 0
    assert soft.amax() <= 1
    for i in range(2):
        _, alone = find_mask(models[kind], query, reference, inputs.latent[i : i + 1], clip="percentile")
        torch.testing.assert_close(soft[i : i + 1], alone, atol=1e-3, rtol=0)
    assert torch.equal(soft, find_mask(models[kind], query, reference, inputs.latent, clip="percentile")[1])
    assert not torch.equal(soft, find_mask(models[kind], query, reference, inputs.latent, clip="percentile", seed=4)[1])


def test_mask_is_the_object_that_an_ideal_model_would_change(models):
    """The model is told two scenes by number and knows the best estimate of each; the scenes differ by one object of two."""
    scenes = torch.zeros(2, 4, 32, 32)
    scenes[:, 1, 18:26, 20:28] = 2.0  # in both
    scenes[1, 0, 5:14, 4:12] = 1.5

    def best_estimate(_, arguments: dict) -> Tensor:
        scene = scenes[arguments["c"]["c_crossattn"][:, 0, 0].long()]
        noise = arguments["timestep"].view(-1, 1, 1, 1) ** 2
        return (arguments["input"] * 0.2 + scene * noise) / (0.2 + noise)

    model = models["eps"].clone()
    model.set_model_unet_function_wrapper(best_estimate)
    prompts = [torch.full((1, 1, 768), float(number)) for number in (0, 1)]
    for clip in ("mean", "percentile", "none"):
        mask, _ = find_mask(model, *prompts, scenes[1:], clip=clip, strength=0.5)
        cells = module("diffedit_decode").to_latent_mask(mask, (32, 32))
        assert torch.equal(cells[0, 0], scenes[1, 0] > 0)


def test_mask_comes_at_the_size_of_the_photo(models, inputs):
    query, reference, _ = inputs.contexts
    found = find_mask(models["eps"], query, reference, inputs.latent[:1], image=torch.rand(1, 301, 203, 3))
    assert all(x.shape == (1, 301, 203) for x in found)
    assert set(found[0].unique().tolist()) == {0.0, 1.0}


def invert(model, context, latent, predict_at="next level", steps=STEPS, ratio=RATIO):
    """(LATENT, trajectory, sigmas) of DDIM Invert."""
    node = module("ddim_invert").ASUKA_DDIMInvert
    return node.execute(model, conditioning(context), as_latent(latent), steps, ratio, predict_at).args


def test_inversion_is_the_pipelines(models, pipeline, inputs):
    empty = inputs.contexts[2]
    for latent in inputs.latent[:, None]:
        expected = pipeline.invert(
            image=latent, prompt_embeds=empty, guidance_scale=1.0, num_inference_steps=STEPS, inpaint_strength=RATIO
        ).latents[0]
        _, trajectory, sigmas = invert(models["eps"], empty, latent)
        assert len(sigmas) == len(expected) + 1 == 5
        scale = (1 + sigmas**2).sqrt().view(-1, 1, 1, 1)
        found = trajectory.latents[:, 0] / scale
        torch.testing.assert_close(found[:-1], expected, atol=2e-4, rtol=0)
        torch.testing.assert_close(found[-1:], latent, atol=1e-6, rtol=0)


def plain_ddim(model, context: Tensor, samples: dict, sigmas: Tensor) -> Tensor:
    """ComfyUI's own deterministic DDIM (Euler), without adding noise: back to a latent."""
    import comfy.sample
    import comfy.samplers

    latent = samples["samples"]
    c = conditioning(context)
    euler = comfy.samplers.sampler_object("euler")
    return (
        comfy.sample.sample_custom(model, torch.zeros_like(latent), 1.0, euler, sigmas, c, c, latent) * SCALING_FACTOR
    )


@torch.no_grad()
def test_there_and_back_is_as_exact_as_diffusers(models, unet, pipeline, inputs):
    empty, latent = inputs.contexts[2], inputs.latent[:1]
    noisy = pipeline.invert(
        image=latent, prompt_embeds=empty, guidance_scale=1.0, num_inference_steps=STEPS, inpaint_strength=RATIO
    ).latents[:, 0]
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps[-4:]:
        noisy = scheduler.step(unet(noisy, t, empty).sample, t, noisy).prev_sample
    theirs = (noisy - latent).square().mean().sqrt()

    samples, _, sigmas = invert(models["eps"], empty, latent)
    ours = (plain_ddim(models["eps"], empty, samples, sigmas) - latent).square().mean().sqrt()
    assert 1e-4 < theirs < 0.5
    assert ours <= 1.01 * theirs


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "inpainting"])
@pytest.mark.parametrize("predict_at", ["next level", "this level"])
def test_there_and_back_gets_exact_with_the_steps(models, inputs, kind, predict_at):
    """Deterministic sampling is an ordinary differential equation: the error falls about as the step does."""
    empty, errors = inputs.contexts[2], []
    for steps in (6, 24):
        samples, _, sigmas = invert(models[kind], empty, inputs.latent[:1], predict_at, steps, 0.5)
        back = plain_ddim(models[kind], empty, samples, sigmas)
        errors.append((back - inputs.latent[:1]).square().mean().sqrt())
    assert errors[1] < 0.5 * errors[0]


def decode(model, query, empty, trajectory, mask, cfg=7.5) -> Tensor:
    node = module("diffedit_decode").ASUKA_DiffEditDecode
    return node.execute(model, conditioning(query), conditioning(empty), trajectory, mask, cfg).args[0]["samples"]


@pytest.fixture(scope="module")
def half() -> Tensor:
    mask = torch.zeros(1, 8 * CELLS, 8 * CELLS)
    mask[:, :, : 4 * CELLS] = 1
    return mask


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "inpainting", "playground"])
def test_nothing_changes_outside_of_the_mask(models, inputs, half, kind):
    query, _, empty = inputs.contexts
    _, trajectory, _ = invert(models[kind], empty, inputs.latent)
    edited = decode(models[kind], query, empty, trajectory, half)
    latent = as_latent(inputs.latent)["samples"]
    assert torch.equal(edited[..., CELLS // 2 :], latent[..., CELLS // 2 :])
    assert (edited - latent)[..., : CELLS // 2].abs().mean() > 0.05
    assert edited.isfinite().all()
    alone = decode(models[kind], query, empty, invert(models[kind], empty, inputs.latent[:1])[1], half)
    torch.testing.assert_close(edited[:1], alone, atol=2e-2, rtol=0)


def test_deviation_blending_lands_on_the_level_just_reached(models, pipeline, inputs, half):
    """diffusers blends one level too noisy, so that what should not change comes out noisy."""
    query, _, empty = inputs.contexts
    latent = inputs.latent[:1]
    inverted = pipeline.invert(
        image=latent, prompt_embeds=empty, guidance_scale=1.0, num_inference_steps=STEPS, inpaint_strength=RATIO
    ).latents
    theirs = pipeline(
        mask_image=module("diffedit_decode").to_latent_mask(half, (CELLS, CELLS)).float(),
        image_latents=inverted,
        prompt_embeds=query,
        negative_prompt_embeds=empty,
        num_inference_steps=STEPS,
        inpaint_strength=RATIO,
        output_type="latent",
    ).images
    outside = (..., slice(CELLS // 2, None))
    assert (theirs - latent)[outside].abs().max() > 0.01

    seen = []
    model = models["eps"].clone()
    model.set_model_sampler_post_cfg_function(lambda args: seen.append(args["input"].clone()) or args["denoised"])
    _, trajectory, _ = invert(models["eps"], empty, latent)
    decode(model, query, empty, trajectory, half)
    assert len(seen) == len(trajectory.latents) - 1
    for x, expected in zip(seen, trajectory.latents, strict=False):
        assert torch.equal(x[outside], expected[outside])


def test_decoding_everywhere_with_the_inverted_prompt_is_plain_ddim(models, inputs):
    empty = inputs.contexts[2]
    samples, trajectory, sigmas = invert(models["eps"], empty, inputs.latent)
    everywhere = torch.ones(1, 4, 4)
    expected = plain_ddim(models["eps"], empty, samples, sigmas)
    found = decode(models["eps"], empty, empty, trajectory, everywhere, cfg=1.0) * SCALING_FACTOR
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_inpainting_conditioning_is_warned_of(models, inputs, caplog):
    query, reference, _ = inputs.contexts
    node = module("diffedit_mask").ASUKA_DiffEditMask
    for kind, value, warned in (("eps", 0.0, False), ("inpainting", 0.0, True), ("inpainting", 1.0, False)):
        mask = torch.full((1, CELLS, CELLS), value)
        shown = [[query, {"concat_latent_image": torch.zeros(1, 4, CELLS, CELLS), "concat_mask": mask}]]
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            node.execute(models[kind], shown, conditioning(reference), as_latent(inputs.latent), 0.5, 0, 1, 0.5, "mean", 3.0)  # fmt: skip
        assert ("InpaintModelConditioning" in caplog.text) == warned


def test_mask_lies_where_the_vae_cropped(models, inputs):
    """70x69 pixels, of which the latent holds the central 64x64."""
    query, reference, empty = inputs.contexts
    latent = inputs.latent[:1]
    cropped, soft = find_mask(models["eps"], query, reference, latent)
    whole, soft_whole = find_mask(models["eps"], query, reference, latent, image=torch.zeros(1, 69, 70, 3))
    assert whole.shape == soft_whole.shape == (1, 69, 70)
    assert torch.equal(whole[:, 2:66, 3:67], cropped)
    assert torch.equal(soft_whole[:, 2:66, 3:67], soft)
    _, trajectory, _ = invert(models["eps"], empty, latent)
    edited = [decode(models["eps"], query, empty, trajectory, mask) for mask in (cropped, whole)]
    assert torch.equal(*edited)


def test_latents_and_models_that_do_not_belong_together(models, inputs):
    empty = inputs.contexts[2]
    with pytest.raises(ValueError, match=r"the latent is \(2, 16, 8, 8\) but the model expects \(batch, 4"):
        invert(models["eps"], empty, torch.zeros(2, 16, CELLS, CELLS))
    with pytest.raises(ValueError, match="leads to pure noise"):
        invert(models["flow"], empty, inputs.latent, steps=1000, ratio=1.0)
    _, trajectory, _ = invert(models["eps"], empty, inputs.latent, steps=2)
    with pytest.raises(ValueError, match="the mask is empty, so there is nothing to edit"):
        decode(models["eps"], empty, empty, trajectory, torch.zeros(1, 64, 64))
    line = torch.zeros(1, 64, 64)
    line[:, 30:32] = 1
    with pytest.raises(
        ValueError,
        match="the mask is too small: it covers more than half of no 8x8 latent cell; grow it with Clean Mask",
    ):
        decode(models["eps"], empty, empty, trajectory, line)
    with pytest.raises(ValueError, match="batch sizes differ: 3 masks but 2 images"):
        decode(models["eps"], empty, empty, trajectory, torch.ones(3, 8, 8))
    other = module("ddim_invert").Trajectory(trajectory.sigmas, trajectory.latents, trajectory.samples, "SDXL")
    with pytest.raises(ValueError, match="made with a SDXL model but this one is SD15"):
        decode(models["eps"], empty, empty, other, torch.ones(1, 8, 8))
