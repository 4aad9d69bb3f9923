"""Inpaint Prepare and Inpaint Stitch inside ComfyUI: what grows, fills and feathers the hole, and what a large photo costs."""

import sys
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
import torch
from graphs import ellipse
from skimage.measure import label
from skimage.morphology import dilation, disk
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture
def prepare(extension: ModuleType):
    return sys.modules["asuka_extension.nodes.prepare"].ASUKA_InpaintPrepare


@pytest.fixture
def stitch(extension: ModuleType):
    return sys.modules["asuka_extension.nodes.stitch"].ASUKA_InpaintStitch


def photo(width: int, height: int, batch: int = 1) -> Tensor:
    """Nothing in it is brighter than 0.5, so that white tells what was put in."""
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0)) / 2


def mask_of(hole: np.ndarray) -> Tensor:
    return torch.from_numpy(hole).float()[None]


def filled_with(prepare, stitch, image: Tensor, hole: np.ndarray, **options) -> np.ndarray:
    """Where the result is inpainted, (H, W) bool: there the crop, which is white, and everywhere else the photo."""
    outputs = prepare.execute(image, mask_of(hole), 64, 1.0, **options).args
    result = stitch.execute(outputs[3], torch.ones_like(outputs[0])).args[0]
    replaced = (result > 0.75).all(-1)[0].numpy()
    assert torch.equal(result[0][~replaced], image[0][~replaced])
    return replaced


@pytest.mark.parametrize("scale", [0.5, 2])
def test_mask_of_another_size_is_brought_to_the_photos(prepare, scale):
    """Masks that were found are often smaller, those of enlarged photos larger."""
    image, hole = photo(120, 90), np.zeros((90, 120), bool)
    hole[20:40, 30:70] = True
    other = np.zeros((round(90 * scale), round(120 * scale)), bool)
    other[round(20 * scale) : round(40 * scale), round(30 * scale) : round(70 * scale)] = True
    expected, found = (prepare.execute(image, mask_of(mask), 512, 1.5).args for mask in (hole, other))
    for a, b in zip(expected[:3], found[:3], strict=True):
        assert torch.equal(a, b)


def test_threshold_says_where_a_soft_mask_begins(prepare):
    image, mask = photo(64, 64), torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48], mask[:, 24:40, 24:40] = 0.3, 0.9
    areas = [int(prepare.execute(image, mask, 64, 1.0, threshold=t).args[3].hole.sum()) for t in (0.2, 0.5)]
    assert areas == [32 * 32, 16 * 16]


@pytest.mark.parametrize("grow", [1, 7])
@pytest.mark.parametrize("top", [0, 10, 88])
@pytest.mark.parametrize("side", [12, 80], ids=["small", "as large as the crop"])
def test_grow_is_a_dilation_by_a_disk(prepare, stitch, grow, top, side):
    hole = np.zeros((100, 120), bool)
    hole[top : top + side, 20 : 20 + side] = True
    hole[top + 3, 22] = False
    assert np.array_equal(filled_with(prepare, stitch, photo(120, 100), hole, grow=grow), dilation(hole, disk(grow)))


def test_fill_holes_fills_what_is_enclosed_and_nothing_else(prepare, stitch):
    ring = ellipse(120, 100, 0.3) & ~ellipse(120, 100, 0.2)
    open_ring = ring.copy()
    open_ring[:50, 50:56] = False
    at_edge = np.zeros_like(ring)
    at_edge[40:60, :20] = True
    at_edge[45:55, :15] = False  # open towards the edge of the photo
    for hole in (ring, open_ring, at_edge):
        outside = label(~hole, connectivity=1)
        edges = np.unique(np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]]))
        expected = hole | ~np.isin(outside, edges[edges > 0])
        assert np.array_equal(filled_with(prepare, stitch, photo(120, 100), hole, fill_holes=True), expected)
    assert np.array_equal(filled_with(prepare, stitch, photo(120, 100), ring), ring)


def test_feather_fades_around_the_hole(prepare, stitch):
    """In the hole the crop, beyond the feather the photo to the bit, between them less and less of the crop."""
    hole, image = ellipse(120, 100, 0.2), photo(120, 100)
    outputs = prepare.execute(image, mask_of(hole), 64, 2.5).args
    crop = torch.ones_like(outputs[0])
    result = stitch.execute(outputs[3], crop, feather=6).args[0]
    share = ((result - image) / (1 - image)).mean(-1)[0].numpy()
    near = dilation(hole, disk(7))
    assert (share[hole] > 0.999).all()
    assert torch.equal(result[0][~near], image[0][~near])
    rings = [dilation(hole, disk(d)) & ~dilation(hole, disk(d - 1)) for d in range(1, 7)]
    means = [share[ring].mean() for ring in rings]
    assert all(a > b > 0 for a, b in pairwise(means))
    assert means[0] > 0.8
    assert means[-1] < 0.25


def test_feather_ends_with_the_crop(prepare, stitch):
    """A feather longer than the crop's margin reaches the photo's own border in full, and the crop's edge fading to nothing."""
    hole, image = np.zeros((200, 160), bool), photo(160, 200)
    hole[90:106, 0:16] = True
    outputs = prepare.execute(image, mask_of(hole), 64, 2.5).args
    top, left, h, w = outputs[3].box
    assert left == 0
    result = stitch.execute(outputs[3], torch.ones_like(outputs[0]), feather=60).args[0]
    share = ((result - image) / (1 - image)).mean(-1)[0]
    inside = torch.zeros(200, 160, dtype=torch.bool)
    inside[top : top + h, left : left + w] = True
    assert (share[~inside] == 0).all()
    for edge in (share[top, :w], share[top + h - 1, :w], share[top : top + h, w - 1]):
        assert (edge <= 1.01 / 61).all()
    assert share[top + 8, 0] > 8 / 61  # at the photo's border nothing is held back but by the edge above


def test_crop_in_half_precision(prepare, stitch):
    """As --fp16-intermediates makes them; known pixels keep the photo's own precision."""
    hole, image = ellipse(120, 100, 0.2), photo(120, 100)
    outputs = prepare.execute(image, mask_of(hole), 32, 1.5).args
    result = stitch.execute(outputs[3], torch.ones_like(outputs[0]).half()).args[0]
    assert torch.equal(result[0][~hole], image[0][~hole])
    assert (result[0][hole] > 0.99).all()


@pytest.mark.parametrize("feather", [0, 6])
def test_content_under_the_hole_never_reaches_the_result(prepare, stitch, feather):
    hole, image, results = ellipse(120, 100), photo(120, 100), []
    for under in (0.0, 1.0, float("nan")):
        painted = torch.where(torch.from_numpy(hole)[None, ..., None], torch.tensor(under), image)
        outputs = prepare.execute(painted, mask_of(hole), 64, 2.5, grow=0).args
        results.append([*outputs[:3], stitch.execute(outputs[3], outputs[0], feather=feather).args[0]])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_each_mask_of_a_batch_keeps_to_itself(prepare, stitch):
    """One of two masks may be empty: its photo comes back unchanged, whatever the options are."""
    holes = torch.stack([torch.from_numpy(ellipse(120, 100)).float(), torch.zeros(100, 120)])
    image = photo(120, 100, 2)
    outputs = prepare.execute(image, holes, 64, 1.5, grow=3, fill_holes=True).args
    result = stitch.execute(outputs[3], torch.ones_like(outputs[0]), feather=4).args[0]
    assert torch.equal(result[1], image[1])
    assert (result[0] > 0.75).any()


class Allocations(TorchDispatchMode):
    """Bytes of every tensor that an operation makes anew."""

    def __init__(self):
        super().__init__()
        self.sizes, self.known = [], set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.sizes.append(x.untyped_storage().nbytes())
        return result


def test_small_hole_in_a_large_photo_costs_what_the_hole_costs(prepare, stitch):
    """12 megapixels: the photo is never copied but for the result, and beside it only the mask's comparison is of its size."""
    image, mask = photo(4000, 3000), mask_of(ellipse(4000, 3000, 0.02))
    with Allocations() as preparing:
        outputs = prepare.execute(image, mask, 512, 2.5, grow=8, fill_holes=True).args
    pixels, crop = 4000 * 3000, outputs[0].numel() * outputs[0].element_size()
    assert outputs[0].shape[1:3] == (512, 512)
    assert sorted(preparing.sizes)[-1] <= pixels  # one byte per pixel
    assert sum(size > 2 * crop for size in preparing.sizes) <= 2
    with Allocations() as stitching:
        result = stitch.execute(outputs[3], outputs[0], feather=8).args[0]
    assert result.shape == image.shape
    assert [size for size in stitching.sizes if size > 4 * crop] == [image.numel() * image.element_size()]


@pytest.mark.parametrize(
    ("height", "width", "hole", "crop"),
    [
        (427, 640, (300, 50), (427, 427)),  # 2.5 times 300 would be the whole photo
        (427, 640, (100, 50), (256, 256)),
        (427, 640, (50, 500), (427, 625)),  # longer than the photo is high
        (200, 300, (50, 50), (200, 200)),  # smaller than the resolution
    ],
)
def test_crop_is_square_unless_the_hole_is_too_long(prepare, height, width, hole, crop):
    mask = torch.zeros(1, height, width)
    top, left = (height - hole[0]) // 2, (width - hole[1]) // 2
    mask[:, top : top + hole[0], left : left + hole[1]] = 1
    stitch = prepare.execute(torch.rand(1, height, width, 3), mask, 256, 2.5).args[3]
    assert stitch.box[2:] == crop


def test_mask_of_a_256th_all_over_is_empty(prepare):
    """As ComfyUI's Load Image gives it for some opaque pictures."""
    image, faint = photo(64, 64), torch.full((1, 64, 64), 1 / 256)
    for threshold in (0.0, 0.5):
        with pytest.raises(ValueError, match="the mask is empty, so there is nothing to inpaint"):
            prepare.execute(image, faint, 64, 1.0, threshold=threshold)
    faint[:, 20:30, 20:30] = 1
    stitch = prepare.execute(image, faint, 64, 1.0, threshold=0.0).args[3]
    assert int(stitch.hole.sum()) == 10 * 10
    with pytest.raises(ValueError, match="Load Image gives an empty 64x64 mask"):
        prepare.execute(photo(80, 64), torch.full((1, 64, 64), 1 / 256), 64, 1.0)


def test_mask_that_leaves_nothing_known_is_warned_of(prepare, caplog):
    """A frame, as around a padded photo: its inside is enclosed."""
    frame = np.ones((64, 64), bool)
    frame[8:-8, 8:-8] = False
    prepare.execute(photo(64, 64), mask_of(frame), 64, 1.0)
    assert "no known pixel" not in caplog.text
    prepare.execute(photo(64, 64), mask_of(frame), 64, 1.0, fill_holes=True)
    assert "the mask leaves no known pixel" in caplog.text


@pytest.mark.parametrize("shape", [(1, 64, 64, 1), (1, 1, 64, 64), (64, 64)])
def test_masks_of_other_shapes(prepare, shape):
    hole = ellipse(64, 64)
    expected, found = (prepare.execute(photo(64, 64), mask, 64, 1.0).args for mask in (mask_of(hole), mask_of(hole).reshape(shape)))  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(expected[:3], found[:3], strict=True))
