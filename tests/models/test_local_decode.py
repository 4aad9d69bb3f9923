"""Decoding the hole alone against the decode of the whole image."""

from pathlib import Path

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from asuka_modules import checkpoints, local_decode
from asuka_modules.decoder import BASE, DecoderConfig, HarmonizingDecoder
from asuka_modules.local_decode import Box, decode_hole, make_plan
from asuka_modules.seams import close_seam, grow

DEMO = Path(__file__).parents[2] / "demo"
RIM = 6  # pixels that the node decodes beyond the hole


def photo(name: str, size: int) -> Tensor:
    image = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 255
    side = min(image.shape[-2:])
    return F.interpolate(image[..., :side, :side], (size, size), mode="bilinear", antialias=True)


def square(size: int, share: float, at: float = 0.35) -> Tensor:
    mask, side, start = torch.zeros(1, 1, size, size), round(size * share**0.5), round(size * at)
    mask[..., start : start + side, start : start + side] = 1
    return mask


def disks(size: int, share: float) -> Tensor:
    """Three disks of together that share of the image."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    radius = size * (share / 3 / torch.pi) ** 0.5
    middles = ((0.25, 0.3), (0.5, 0.75), (0.78, 0.35))
    return sum(((y - a * size).hypot(x - b * size) < radius).float() for a, b in middles)[None, None]


@pytest.fixture(scope="module")
def miniature() -> HarmonizingDecoder:
    return checkpoints.load(DEMO / "asuka-miniature.safetensors")["decoder"].build(dtype=torch.float32)


def deviation(network: HarmonizingDecoder, latent: Tensor, image: Tensor, hole: Tensor) -> float:
    """Mean in the hole, in 255ths, once the seam is closed."""
    mask = grow(hole, RIM)
    plan = make_plan(image, hole, mask, network.config)
    fills = network(latent, image, mask), decode_hole(network, latent, image, mask, plan)
    closed = [close_seam(fill, image, hole).clamp(0, 1) for fill in fills]
    return 255 * ((closed[0] - closed[1]).abs() * hole).sum().item() / (3 * hole.sum().item())


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
@torch.no_grad()
def test_hole_is_decoded_as_in_the_whole_image(miniature, name):
    torch.manual_seed(0)
    image, latent = photo(name, 256), 4 * F.interpolate(torch.randn(1, 4, 8, 8), (32, 32), mode="bilinear")
    for hole in (square(256, 0.1), square(256, 0.02, at=0)):
        assert deviation(miniature, latent, image, hole) < 0.7


@torch.no_grad()
def test_windows_alone_are_exact_once_statistics_are(miniature, monkeypatch):
    """With GroupNorm as it is in the whole decode, only the windows' margins are left to differ."""
    statistics = []

    def record(norm, inputs):
        grouped = inputs[0].unflatten(1, (norm.num_groups, -1))
        mean, std = grouped.mean((2, 3, 4)), (grouped.var((2, 3, 4), correction=0) + norm.eps).sqrt()
        statistics.append([x[0].repeat_interleave(grouped.shape[2])[:, None, None] for x in (mean, std)])

    def recorded(norm, crops, weights, groups):
        mean, std = statistics.pop(0)
        return [F.silu((x - mean) / std * norm.weight[:, None, None] + norm.bias[:, None, None]) for x in crops]

    torch.manual_seed(0)
    image, latent, hole = photo("coffee", 256), torch.randn(1, 4, 32, 32), square(256, 0.1)
    mask, norms = grow(hole, RIM), [m for m in miniature.decoder.up.modules() if isinstance(m, torch.nn.GroupNorm)]
    handles = [norm.register_forward_pre_hook(record) for norm in (*norms, miniature.decoder.norm_out)]
    whole = miniature(latent, image, mask)
    for handle in handles:
        handle.remove()
    monkeypatch.setattr(local_decode, "normalize", recorded)
    found = decode_hole(miniature, latent, image, mask, make_plan(image, hole, mask, miniature.config))
    assert ((found - whole).abs() * hole).sum() / (3 * hole.sum()) < 0.5 / 255
    assert not statistics


@torch.no_grad()
def test_known_pixels_come_back_and_what_the_hole_held_matters_to_no_bit(miniature):
    torch.manual_seed(0)
    image, latent, mask = torch.rand(1, 3, 256, 256), torch.randn(1, 4, 32, 32), grow(square(256, 0.1), RIM)
    hole = square(256, 0.1)
    results = []
    for content in (torch.tensor(0.0), torch.rand_like(image), torch.tensor(torch.nan)):
        given = torch.where(mask > 0, content, image)
        before = given.clone()
        results.append(decode_hole(miniature, latent, given, mask, make_plan(given, hole, mask, miniature.config)))
        assert torch.equal(given.nan_to_num(), before.nan_to_num())
        assert torch.equal(results[-1][mask.expand(-1, 3, -1, -1) == 0], image[mask.expand(-1, 3, -1, -1) == 0])
    assert all(
        torch.equal(result[hole.expand(-1, 3, -1, -1) > 0], results[0][hole.expand(-1, 3, -1, -1) > 0])
        for result in results
    )


def test_holes_are_found_as_disjoint_boxes():
    torch.manual_seed(0)
    for hole in (disks(256, 0.1)[0, 0] > 0, torch.rand(256, 256) > 0.999, square(256, 0.1)[0, 0] > 0):
        boxes = local_decode.find_holes(hole, 8)
        times = torch.zeros(256, 256)
        for box in boxes:
            box.of(times).add_(1)
        assert times.max() == 1
        assert (times[hole] == 1).all()
        assert len(boxes) <= local_decode.MOST_WINDOWS
    assert boxes == [Box(90, 171, 90, 171)]


def test_weights_are_a_mean_that_knows_the_image():
    """They sum to 1, none is negative, and the image's own mean is found although the tiles see little of it."""
    image = torch.linspace(0, 1, 512)[:, None].expand(1, 3, 512, 512) ** 3 * torch.tensor([1, 0.5, 0.2])[:, None, None]
    plan = make_plan(image, square(512, 0.05), square(512, 0.05), BASE)
    for weights in plan.weights:
        assert sum(x.sum() for x in weights).item() == pytest.approx(1, abs=1e-4)
        assert min(x.min() for x in weights) >= 0
    parts = [*(box.of(image) for box in plan.windows[0]), torch.cat([box.of(image) for box in plan.tiles[0]])]
    mean = sum((x * w).sum((0, 2, 3)) for x, w in zip(parts, plan.weights[0], strict=True))
    torch.testing.assert_close(mean, image.mean((0, 2, 3)), atol=0.004, rtol=0)


@pytest.mark.parametrize(
    ("share", "kind", "most"),
    [(0.1, square, 0.45), (0.1, disks, 0.65), (0.02, square, 0.3)],
)
@pytest.mark.parametrize("size", [512, 1024])
def test_cost_follows_the_hole(size, share, kind, most):
    """FLOPs as a share of the stock decode's, which is this decoder without its condition encoder."""
    hole = kind(size, share)
    mask = grow(hole, RIM)
    plan = make_plan(torch.rand(1, 3, size, size), hole, mask, BASE)
    with torch.device("meta"):
        network, image, latent = (
            HarmonizingDecoder(BASE),
            torch.empty(1, 3, size, size),
            torch.empty(1, 4, size // 8, size // 8),
        )
    flops = {}
    for name, call in {
        "local": lambda: decode_hole(network, latent, image, mask.to("meta"), plan),
        "whole": lambda: network(latent, image, mask.to("meta")),
        "condition encoder": lambda: network.decoder.encoder(image),
    }.items():
        with FlopCounterMode(display=False) as counter:
            call()
        flops[name] = counter.get_total_flops()
    assert flops["local"] < most * (flops["whole"] - flops["condition encoder"])


def test_whole_image_where_that_is_as_good():
    image = torch.rand(1, 3, 512, 512)
    dots = (torch.rand(1, 1, 512, 512) > 0.99).float()
    for hole in (square(512, 0.5, at=0.1), torch.zeros(1, 1, 512, 512), dots):
        assert make_plan(image, hole, hole, BASE) is None
    small, hole = square(96, 0.02), square(512, 0.1)
    assert make_plan(image[..., :96, :96], small, small, BASE) is None
    assert make_plan(image, hole, hole, DecoderConfig(ch_mult=(1, 2, 4))) is None
