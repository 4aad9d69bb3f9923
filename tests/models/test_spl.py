"""SPL's generator against direct computations of its special layers and a second writing of the whole network."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from asuka_modules import checkpoints
from asuka_modules.spl import (
    SPADE,
    HoleNorm,
    LearnedNorm,
    SPLConfig,
    SPLGenerator,
    normalize_region,
)
from asuka_modules.weight_file import CheckpointError
from training.weights.convert import convert

TINY = SPLConfig(ch=8, feature_dim=5, dense_blocks=2, dense_layers=2, growth=4, recon_blocks=1, middle_blocks=2)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def random_generator(config: SPLConfig = TINY) -> SPLGenerator:
    """A generator in double precision whose every weight matters."""
    torch.manual_seed(0)
    generator = SPLGenerator(config).double().eval()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if "ground_" in name:  # start at zero
                parameter.normal_(std=0.5)
            if "sa.conv1" in name:  # or the learned regions stay empty
                parameter.uniform_(-0.3, 0.36)
    return generator


def random_inputs(h: int = 32, w: int = 48, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, 3, h, w, generator=generator).double()
    mask = torch.zeros(batch, 1, h, w).double()
    mask[:, :, 5 : h // 2 + 3, 3 : w // 2] = 1
    mask[0, :, :, -7:] = 1
    return image, mask


def direct_region_norm(x: Tensor, region: Tensor) -> Tensor:
    """Mean and variance over the pixels of each region, one image and channel at a time."""
    result = torch.zeros_like(x)
    pixels = x.shape[-2] * x.shape[-1]
    for image, where, out in zip(x, region[:, 0] > 0.5, result, strict=True):
        for inside in (where, ~where):
            if not inside.any():
                continue
            for channel, target in zip(image, out, strict=True):
                values = channel[inside]
                eps = 1e-5 * pixels / len(values)
                target[inside] = (values - values.mean()) / (values.var(correction=0) + eps).sqrt()
    return result


@pytest.mark.parametrize("covered", ["some", "none", "all"])
def test_region_norm(covered):
    x = torch.randn(2, 3, 8, 12).double() * 3 + 1
    region = {"some": (torch.rand(2, 1, 8, 12) > 0.7).double(), "none": torch.zeros(2, 1, 8, 12).double()}
    region["all"] = 1 - region["none"]
    found = normalize_region(x, region[covered]) + normalize_region(x, 1 - region[covered])
    torch.testing.assert_close(found, direct_region_norm(x, region[covered]))


def test_hole_norm():
    """Scales count in their region only, shifts everywhere (as published)."""
    norm = HoleNorm(3).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    x, (_, mask) = torch.randn(2, 3, 16, 24).double(), random_inputs()
    small = mask[:, :, ::2, ::2]
    gamma, beta, known_gamma, known_beta = (p[:, None, None] for p in norm.parameters())
    scale = torch.where(small > 0.5, 1 + gamma, 1 + known_gamma)
    torch.testing.assert_close(norm(x, mask), direct_region_norm(x, small) * scale + beta + known_beta)


def test_learned_norm():
    norm = LearnedNorm().double()
    torch.nn.init.uniform_(norm.sa.conv1.weight, -0.3, 0.4)
    x = torch.randn(2, 6, 16, 16).double()
    found = torch.stack([x.mean(1), x.max(1).values], dim=1)
    attention = F.conv2d(found, norm.sa.conv1.weight, padding=3).sigmoid()
    region = (attention >= 0.8).double()
    assert 0.05 < region.mean() < 0.95
    gamma, beta = (F.conv2d(attention, c.weight, c.bias, padding=3) for c in (norm.sa.gamma_conv, norm.sa.beta_conv))
    torch.testing.assert_close(norm(x), direct_region_norm(x, region) * (1 + gamma) + beta)


def test_spade():
    spade = SPADE(6, 10, 7).double()
    x, layout = torch.randn(2, 6, 16, 16).double(), torch.randn(2, 10, 8, 8).double()
    enlarged = layout.repeat_interleave(2, 2).repeat_interleave(2, 3)
    hidden = spade.mlp_shared[0](enlarged).clamp_min(0)
    expected = torch.nn.InstanceNorm2d(6)(x) * (1 + spade.mlp_gamma(hidden)) + spade.mlp_beta(hidden)
    torch.testing.assert_close(spade(x, layout), expected)


def reference(state: dict[str, Tensor], config: SPLConfig, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The whole generator, from its weights by name."""

    def conv(x: Tensor, name: str, reflect: int = 0, **options) -> Tensor:
        x = F.pad(x, (reflect,) * 4, mode="reflect") if reflect else x
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def hole_norm(x: Tensor, name: str) -> Tensor:
        step = mask.shape[-1] // x.shape[-1]
        hole = mask[:, :, ::step, ::step]
        vectors = {
            kind: state[f"{name}.{kind}"][:, None, None]
            for kind in ("foreground_gamma", "foreground_beta", "background_gamma", "background_beta")
        }
        x = direct_region_norm(x, hole)
        scale = torch.where(hole > 0.5, 1 + vectors["foreground_gamma"], 1 + vectors["background_gamma"])
        return x * scale + vectors["foreground_beta"] + vectors["background_beta"]

    def learned_norm(x: Tensor, name: str) -> Tensor:
        attention = conv(torch.stack([x.mean(1), x.max(1).values], 1), f"{name}.sa.conv1", padding=3).sigmoid()
        scale, shift = (conv(attention, f"{name}.sa.{kind}_conv", padding=3) for kind in ("gamma", "beta"))
        region = (attention >= 0.8).double()
        assert 0.02 < region.mean() < 0.98
        return direct_region_norm(x, region) * (1 + scale) + shift

    def spade(x: Tensor, layout: Tensor, name: str) -> Tensor:
        hidden = conv(layout, f"{name}.mlp_shared.0", padding=1).relu()
        scale, shift = (conv(hidden, f"{name}.mlp_{kind}", padding=1) for kind in ("gamma", "beta"))
        return torch.nn.InstanceNorm2d(x.shape[1])(x) * (1 + scale) + shift

    white = image * (1 - mask) + mask
    x = white
    for i, options in enumerate([{"reflect": 3}, {"stride": 2, "padding": 1}, {"stride": 2, "padding": 1}], 1):
        x = hole_norm(conv(x, f"encoder_conv{i}", **options), f"encoder_in{i}").relu()

    h = torch.cat([white, mask], 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    for i in range(1, 5):
        options = {"stride": 2, "padding": 1} if i > 1 else {"reflect": 3}
        h = F.leaky_relu(conv(h, f"encoder_conv{i}_sm", **options), 0.1)
    start, h, dense = h, conv(h, "encoder_sm_out", padding=1), []
    for i in range(config.dense_blocks):
        d = h
        for j in range(config.dense_layers):
            d = torch.cat([d, conv(d, f"rdbs.{i}.layers.{j}.conv", padding=1).relu()], 1)
        h = h + conv(d, f"rdbs.{i}.lff")
        dense.append(h)
    layout = conv(conv(torch.cat(dense, 1), "gff.0"), "gff.1", padding=1) + start
    for i in range(config.recon_blocks):
        name = f"feature_recon.{i}.conv_block"
        layout = layout + conv(conv(layout, f"{name}.1", 1).relu(), f"{name}.4", 1)

    for i in range(config.middle_blocks):
        name = f"middle.{i}.conv_block"
        h = conv(spade(x, layout, f"{name}.0").relu(), f"{name}.3", 2, dilation=2)
        x = x + conv(spade(h, layout, f"{name}.4").relu(), f"{name}.7", 1)
    for i in (0, 4):
        x = F.pixel_shuffle(conv(x, f"decoder.{i}", padding=1), 2)
        x = learned_norm(x, f"decoder.{i + 2}").relu()
    return (conv(x, "decoder.9", 3).tanh() + 1) / 2, conv(layout, "feature_mapping")


@torch.no_grad()
def test_forward():
    generator, inputs = random_generator(), random_inputs()
    for found, expected in zip(generator(*inputs), reference(generator.state_dict(), TINY, *inputs), strict=True):
        assert expected.std() > 0.01
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)


def test_published_size():
    with torch.device("meta"):
        state = SPLGenerator().state_dict()
    assert sum(value.numel() for value in state.values()) == 45_597_223
    assert len(state) == 418
    assert {
        "encoder_in3.background_beta", "encoder_conv4_sm.weight", "encoder_sm_out.bias", "rdbs.15.layers.5.conv.weight", "rdbs.0.lff.bias",
        "gff.1.weight", "feature_recon.3.conv_block.4.bias", "feature_mapping.weight", "middle.7.conv_block.4.mlp_shared.0.weight",
        "middle.0.conv_block.7.bias", "decoder.6.sa.gamma_conv.bias", "decoder.9.weight",
    } <= state.keys()  # fmt: skip


@torch.no_grad()
def test_any_size_in_multiples_of_four():
    generator = random_generator().float()
    for h, w in ((128, 128), (132, 260), (512, 128), (256, 512), (16, 16)):
        image, features = generator(*(x.float() for x in random_inputs(h, w, batch=1)))
        assert image.shape == (1, 3, h, w)
        assert features.shape == (1, 5, h // 4, w // 4)
        assert image.isfinite().all()


@torch.no_grad()
def test_content_under_the_hole_changes_no_bit():
    generator, (image, mask) = random_generator(), random_inputs()
    expected = generator(image, mask)[0]
    for content in (0.0, 1.0, torch.nan, torch.rand_like(image)):
        assert torch.equal(
            generator(torch.where(mask > 0.5, torch.as_tensor(content).double(), image), mask)[0], expected
        )


@torch.no_grad()
def test_images_of_a_batch_are_independent():
    generator, inputs = random_generator(), random_inputs()
    together = generator(*inputs)[0]
    for i in range(2):
        torch.testing.assert_close(generator(*(x[i : i + 1] for x in inputs))[0], together[i : i + 1])


def test_gradient_reaches_every_parameter():
    generator = random_generator()
    image, features = generator(*random_inputs())
    (image.square().sum() + features.square().sum()).backward()
    assert [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_round_trip(tmp_path):
    generator = random_generator().float()
    checkpoints.save(tmp_path / "spl.safetensors", {"spl": generator})
    again = checkpoints.load(tmp_path / "spl.safetensors")["spl"].build()
    assert again.config == TINY
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in generator.state_dict().items())


@pytest.fixture
def published() -> dict[str, Tensor]:
    """The layout of the published checkpoints: the three networks that were trained side by side, and their loss."""
    state = random_generator().float().state_dict()
    return {f"generator.module.{key}": value for key, value in state.items()} | {
        "discriminator.module.conv1.0.weight_orig": torch.zeros(1),
        "tresnet_xL_hold.body.conv1.0.weight": torch.zeros(1),
        "adversarial_loss.real_label": torch.ones(()),
    }


def test_published_checkpoint(published, tmp_path):
    torch.save(published, tmp_path / "places2.pth")
    report = convert([tmp_path / "places2.pth"], tmp_path / "places2.safetensors")
    assert "SPL's training" in report[0]
    assert "discriminator (1 tensors)" in report[0]
    loaded = checkpoints.load(tmp_path / "places2.safetensors")["spl"].build()
    assert loaded.config == TINY
    inputs = [x.float() for x in random_inputs()]
    torch.testing.assert_close(loaded(*inputs)[0], random_generator().float()(*inputs)[0])


@pytest.mark.parametrize("prefix", ["generator.", "module.generator.", "module.", ""])
def test_generators_saved_in_other_ways(published, prefix):
    state = random_generator().float().state_dict()
    loaded = checkpoints.recognize({prefix + key: value for key, value in state.items()}, "other.safetensors").build()
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.02), (torch.float16, 0.004)])
@torch.no_grad()
def test_half_precision(dtype, tolerance):
    """Single pixels may differ by more, where a learned region begins."""
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 15:40, 20:50] = 1
    exact, found = random_generator().float(), random_generator().to(dtype)
    difference = found(image.to(dtype), mask.to(dtype))[0].float() - exact(image, mask)[0]
    assert difference.abs().mean() < tolerance


def test_region_of_more_pixels_than_float16_can_count():
    x, region = torch.rand(1, 2, 288, 288), torch.ones(1, 1, 288, 288)
    region[..., :9, :] = 0
    found = normalize_region(x.half(), region.half())
    torch.testing.assert_close(found.float(), normalize_region(x, region), atol=2e-3, rtol=0)


def test_sides_that_do_not_fit():
    with pytest.raises(ValueError, match="the image is 30x32; sides that are multiples of 4"):
        random_generator().float()(torch.rand(1, 3, 32, 30), torch.ones(1, 1, 32, 30))


def test_published_checkpoint_with_a_tensor_missing(published, tmp_path):
    del published["generator.module.middle.1.conv_block.3.bias"]
    save_file(published, tmp_path / "places2.safetensors")
    with pytest.raises(CheckpointError, match=r"looks like SPL's training, but missing: middle.1.conv_block.3.bias"):
        checkpoints.load(tmp_path / "places2.safetensors")["spl"].build()
