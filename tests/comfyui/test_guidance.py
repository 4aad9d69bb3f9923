"""MAE Prior Guidance inside ComfyUI's own sampling.

With a Gaussian much narrower than a latent cell, and full strength, every estimate in the hole is the target itself, so that
the latent comes out as the target, by whatever way the model and the sampler lead there.
"""

import gc
import sys
import weakref

import pytest
import torch
from test_diffedit import as_flow, as_model, as_v, random_unet, with_latent_format
from torch import Tensor

CELLS, SIDE = 8, 64
NARROW = 0.1
HOLE = (..., slice(2, 6), slice(0, 5))  # in latent cells


@pytest.fixture(scope="module")
def vae(extension):
    """A random one of four channels."""
    import comfy.sd
    from diffusers import AutoencoderTiny

    from training.weights.ldm_names import taesd_to_ldm

    torch.manual_seed(0)
    autoencoder = AutoencoderTiny()
    keys = taesd_to_ldm(autoencoder)
    state = {keys[key]: value for key, value in autoencoder.state_dict().items()}
    return comfy.sd.VAE(sd=state | {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)})


@pytest.fixture(scope="module")
def models(extension) -> dict:
    eps = as_model(random_unet(4))
    return {
        "eps": eps,
        "v": as_v(eps),
        "flow": as_flow(eps),
        "inpainting": as_model(random_unet(9)),
        "shifted and scaled latents": with_latent_format(eps, "SDXL_Playground_2_5"),
    }


@pytest.fixture(scope="module")
def images() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, prior_image = torch.rand(2, 1, SIDE, SIDE, 3, generator=generator)
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 20:41, :33] = 1
    return {"image": image, "mask": mask, "prior_image": prior_image}


def guide(model, vae, images: dict, strength=1.0, detail=NARROW, until=1.0, close_seam=False):
    node = sys.modules["asuka_extension.nodes.guidance"].ASUKA_MAEPriorGuidance
    return node.execute(model, vae, **images, strength=strength, detail=detail, until=until, close_seam=close_seam)[0]


def filled(images: dict) -> Tensor:
    return torch.where(images["mask"][..., None] > 0.5, images["prior_image"], images["image"])


def sample(model, latent: Tensor, sampler="euler", cfg=1.0, steps=4, mask=None, options: dict = {}, seed=5) -> Tensor:
    import comfy.sample
    import comfy.samplers

    conditionings = [[[torch.randn(1, 7, 768, generator=torch.Generator().manual_seed(i)), options]] for i in range(2)]
    noise = comfy.sample.prepare_noise(latent, seed)
    if not isinstance(sampler, str):
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "ddim_uniform", steps)
        return comfy.sample.sample_custom(model, noise, cfg, sampler, sigmas, *conditionings, latent, mask, seed=seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, "normal", *conditionings, latent, noise_mask=mask, seed=seed
    )


@pytest.fixture
def latent(vae, images) -> Tensor:
    return vae.encode(images["image"])


@pytest.mark.parametrize("cfg", [1.0, 7.5])
@pytest.mark.parametrize("kind", ["eps", "v", "flow", "inpainting", "shifted and scaled latents"])
def test_hole_comes_out_as_the_target(models, vae, images, latent, kind, cfg):
    found = sample(guide(models[kind], vae, images), latent, cfg=cfg)
    torch.testing.assert_close(found[HOLE], vae.encode(filled(images))[HOLE], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", ["euler_ancestral", "euler_cfg_pp", "dpmpp_2m", "ddim", "uni_pc", "lcm", "heun"])
def test_with_any_sampler(models, vae, images, latent, sampler):
    found = sample(guide(models["eps"], vae, images), latent, sampler)
    torch.testing.assert_close(found[HOLE], vae.encode(filled(images))[HOLE], atol=0.02, rtol=0)  # uni_pc stops above 0


def test_with_repaint(models, vae, images, latent):
    (sampler,) = sys.modules["asuka_extension.nodes.repaint"].ASUKA_RePaint.execute(2, 2).args
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 16:48, :40] = 1
    found = sample(guide(models["eps"], vae, images), latent, sampler, mask=mask)
    torch.testing.assert_close(found[HOLE], vae.encode(filled(images))[HOLE], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[..., 6:], latent[..., 6:], atol=1e-5, rtol=1e-5)


def test_strength_0_is_the_model_itself(models, vae, images):
    assert guide(models["eps"], vae, images, strength=0.0) is models["eps"]


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_until_0_is_the_plain_model_to_the_bit(models, vae, images, latent, kind):
    assert torch.equal(sample(guide(models[kind], vae, images, until=0.0), latent), sample(models[kind], latent))


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
@pytest.mark.parametrize("until", [0.3, 0.7, 1.0])
def test_until_holds_as_far_as_a_conditioning_with_that_end(models, vae, images, latent, kind, until):
    """Of ComfyUI's own Conditioning Set Timestep Range: of the model's timesteps, not of the steps."""
    model, guided, shown = models[kind], [], []
    target = model.model.process_latent_in(vae.encode(filled(images)))
    watched = guide(model, vae, images, until=until)
    watched.set_model_sampler_post_cfg_function(
        lambda args: guided.append(torch.allclose(args["denoised"][HOLE], target[HOLE], atol=1e-3)) or args["denoised"]
    )
    sample(watched, latent, steps=10)
    marked = model.clone()

    def see(apply, arguments: dict) -> Tensor:
        shown.append(bool(arguments["c"]["c_crossattn"].any()))
        return apply(arguments["input"], arguments["timestep"], **arguments["c"])

    import comfy.sample

    marked.set_model_unet_function_wrapper(see)
    ranged = [[torch.ones(1, 7, 768), {"start_percent": 0.0, "end_percent": until}]]
    rest = [[torch.zeros(1, 7, 768), {"start_percent": until, "end_percent": 1.0}]]
    noise = comfy.sample.prepare_noise(latent, 5)
    comfy.sample.sample(marked, noise, 10, 1.0, "euler", "normal", ranged + rest, rest, latent, seed=5)
    assert guided == shown[: len(guided)]
    assert sum(guided) == pytest.approx(10 * until, abs=1)


def test_known_cells_of_the_estimate_stay_to_the_bit(models, vae, images, latent):
    """After the one step that there is, so that the hole has had no time to influence them."""
    plain, found = (sample(m, latent, steps=1) for m in (models["eps"], guide(models["eps"], vae, images, detail=1.0)))
    changed = (plain != found).any(1)[0]
    expected = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    expected[HOLE[1:]] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("close_seam", [False, True])
def test_content_under_the_hole_changes_no_bit(models, vae, images, latent, close_seam):
    """Nor what the prior image holds outside of it, be it not a number."""
    hole = images["mask"][..., None] > 0.5
    found = sample(guide(models["eps"], vae, images, detail=1.0, close_seam=close_seam), latent)
    other = images | {
        "image": images["image"].masked_fill(hole, torch.nan),
        "prior_image": images["prior_image"].masked_fill(~hole, torch.nan),
    }
    assert torch.equal(found, sample(guide(models["eps"], vae, other, detail=1.0, close_seam=close_seam), latent))


def test_images_of_a_batch_are_independent(models, vae, images, latent):
    """Each with a prior of its own, or one for all, or as often as Repeat Latent Batch has repeated them."""
    same_noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3)) * 10
    priors = torch.cat([images["prior_image"], images["prior_image"].flip(1)])

    def estimate(prior_image: Tensor, count: int) -> Tensor:

        model = guide(models["eps"], vae, images | {"prior_image": prior_image}, detail=1.0)
        (hook,) = model.model_options["sampler_post_cfg_function"]
        x0 = same_noise.repeat(count, 1, 1, 1)
        return hook({"denoised": x0, "model": model.model, "sigma": torch.ones(count)})

    single = [estimate(prior[None], 1) for prior in priors]
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(estimate(priors, 2), torch.cat(single), **close)
    torch.testing.assert_close(estimate(priors, 4), torch.cat(single * 2), **close)
    torch.testing.assert_close(estimate(priors[:1], 3), single[0].repeat(3, 1, 1, 1), **close)
    assert not torch.allclose(*single)


def test_costs_one_encode_of_the_vae(models, vae, images, latent):
    """And none while sampling."""
    encodes = []
    handle = vae.first_stage_model.taesd_encoder.register_forward_hook(lambda *_: encodes.append(1))
    guided = guide(models["eps"], vae, images, detail=1.0)
    sample(guided, latent)
    handle.remove()
    assert len(encodes) == 1


def test_nothing_stays_with_the_plain_model(models, vae, images, latent):
    """Neither a hook nor, after the guided model, the target."""
    model, before = models["eps"], sample(models["eps"], latent)
    guided = guide(model, vae, images, detail=1.0)
    (hook,) = guided.model_options["sampler_post_cfg_function"]
    kept = [cell.cell_contents for cell in hook.__closure__ if isinstance(cell.cell_contents, Tensor)]
    assert {x.device.type for x in kept} == {"cpu"}
    targets = [weakref.ref(x) for x in kept]
    sample(guided, latent)
    del guided, hook, kept
    gc.collect()
    assert [target() for target in targets] == [None, None]
    assert torch.equal(sample(model, latent), before)


def test_seam_of_the_prior_image_is_closed(models, vae, images, latent):
    """A prior that is the photo in another color holds the model to the photo."""
    smooth = torch.nn.functional.interpolate(images["image"].movedim(-1, 1)[..., ::16, ::16], SIDE, mode="bicubic")
    image = smooth.movedim(1, -1).clamp(0.2, 0.8)
    recolored = images | {"image": image, "prior_image": image + 0.2}
    expected = vae.encode(image)
    closed, not_closed = (
        (sample(guide(models["eps"], vae, recolored, close_seam=close), latent) - expected)[HOLE].abs().mean()
        for close in (True, False)
    )
    assert closed < not_closed / 4


def test_sizes_that_are_no_multiple_of_8(models, vae, images):
    """ComfyUI's VAE crops them at all sides; the mask is cropped alike."""
    odd = {name: x[:, 1 : SIDE - 2, 3:] for name, x in images.items()}
    latent = vae.encode(odd["image"])
    found = sample(guide(models["eps"], vae, odd), latent)
    expected = vae.encode(filled(odd))
    hole = (..., slice(2, 5), slice(0, 3))
    torch.testing.assert_close(found[hole], expected[hole], atol=1e-4, rtol=1e-4)


def lora(model):
    """A random one, of one layer."""
    import comfy.sd

    key = "input_blocks_0_0"
    generator = torch.Generator().manual_seed(1)
    weights = {
        f"lora_unet_{key}.lora_up.weight": torch.randn(320, 4, 1, 1, generator=generator),
        f"lora_unet_{key}.lora_down.weight": torch.randn(4, 4, 3, 3, generator=generator) * 0.05,
    }
    return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0)[0]


def cached(model):
    from comfy_extras.nodes_easycache import EasyCacheNode

    return EasyCacheNode.execute(model, 0.2, 0.0, 1.0, False).args[0]


def differential(model):
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    return DifferentialDiffusion.execute(model).args[0]


@pytest.mark.parametrize("patch", [lora, cached, differential])
def test_together_with_other_patches_in_any_order(models, vae, images, latent, patch):
    model, mask = models["eps"], torch.zeros(1, SIDE, SIDE)
    mask[:, 16:48, :40] = 1

    def run(model) -> Tensor:
        return sample(model, latent, mask=mask, steps=6)

    before, after = run(guide(patch(model), vae, images, detail=1.0)), run(patch(guide(model, vae, images, detail=1.0)))
    assert torch.equal(before, after)
    assert not torch.allclose(before, run(patch(model)))
    assert patch is differential or not torch.allclose(before, run(guide(model, vae, images, detail=1.0)))


def test_with_controlnet(models, vae, images, latent):
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = {k: v for k, v in models["eps"].model.model_config.unet_config.items() if k not in ("out_channels", "disable_unet_model_creation")}  # fmt: skip
    torch.manual_seed(0)
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=comfy.ops.disable_weight_init).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    control.set_cond_hint(images["image"].movedim(-1, 1), 1.0, (0.0, 1.0), vae=None)
    options = {"control": control, "control_apply_to_uncond": True}
    guided = guide(models["eps"], vae, images, detail=1.0)
    with_control = sample(guided, latent, options=options)
    assert with_control.isfinite().all()
    assert not torch.allclose(with_control, sample(guided, latent))
    assert not torch.allclose(with_control, sample(models["eps"], latent, options=options))


def test_what_does_not_fit_is_told(models, vae, images, latent):
    model = models["eps"]
    small = images | {"prior_image": images["prior_image"][:, :32]}
    with pytest.raises(ValueError, match="prior_image is 64x32 but image is 64x64; make it from this image"):
        guide(model, vae, small)
    three = images | {"prior_image": images["prior_image"].repeat(3, 1, 1, 1), "image": images["image"].repeat(2, 1, 1, 1)}  # fmt: skip
    with pytest.raises(
        ValueError, match="batch sizes differ: 3 of prior_image but 2 of image; use equal counts, or a single one"
    ):
        guide(model, vae, three)
    with pytest.raises(ValueError, match="the prior_image holds values that are not numbers"):
        guide(model, vae, images | {"prior_image": images["prior_image"] * torch.inf})
    with pytest.raises(ValueError, match="the mask is empty"):
        guide(model, vae, images | {"mask": images["mask"] * 0})
    with pytest.raises(ValueError, match=r"the latent is \(1, 4, 8, 8\) but the model expects .* 16, height, width"):
        guide(with_latent_format(model, "SD3"), vae, images)
    guided = guide(model, vae, images)
    with pytest.raises(ValueError, match="the sampled latents are 1 of 4x8, MAE Prior Guidance was made for 1 of 8x8"):
        sample(guided, latent[..., :4])
    two = images | {"prior_image": images["prior_image"].repeat(2, 1, 1, 1)}
    with pytest.raises(ValueError, match="the sampled latents are 3 of 8x8, MAE Prior Guidance was made for 2 of"):
        sample(guide(model, vae, two), latent.repeat(3, 1, 1, 1))
