"""Inpaint Prepare and Inpaint Stitch with a crop for every group of holes."""

import json
import sys

import graphs
import numpy as np
import pytest
import torch
from graphs import put_image, read
from scipy import ndimage
from test_prepare import mask_of, photo

from scripts.comfy_server import ROOT


@pytest.fixture
def nodes(extension):
    nodes = sys.modules["asuka_extension.nodes"]
    return nodes.prepare.ASUKA_InpaintPrepare, nodes.stitch.ASUKA_InpaintStitch


def lanterns() -> np.ndarray:
    """Five small holes all over a photo of 800x533."""
    hole = np.zeros((533, 800), bool)
    for y, x in ((20, 30), (60, 700), (250, 400), (480, 40), (450, 740)):
        hole[y : y + 40, x : x + 30] = True
    return hole


def boxes(stitch) -> list[tuple[int, int, int, int]]:
    return [part.box for part in (stitch, *stitch.others)]


def test_small_holes_are_worked_on_at_their_own_size(nodes):
    prepare, stitch = nodes
    image, hole = photo(800, 533), lanterns()
    together = prepare.execute(image, mask_of(hole), 256, 2.5).args
    assert together[0].shape[:3] == (1, 176, 256)  # everything three times smaller
    image_, mask, sampling_mask, put_back = prepare.execute(image, mask_of(hole), 256, 2.5, separate_crops=True).args
    assert image_.shape == (5, 256, 256, 3)
    assert mask.shape == sampling_mask.shape == (5, 256, 256)
    assert {box[2:] for box in boxes(put_back)} == {(256, 256)}  # nothing is resized
    result = stitch.execute(put_back, image_).args[0]  # grey in the hole, to the bit the photo elsewhere
    expected = torch.where(torch.from_numpy(hole)[None, ..., None], torch.tensor(0.5), image)
    assert torch.equal(result, expected)


def test_each_crop_goes_to_its_own_hole(nodes):
    prepare, stitch = nodes
    image, hole = photo(800, 533), lanterns()
    crops, *_, put_back = prepare.execute(image, mask_of(hole), 256, 2.5, separate_crops=True).args
    for feather in (0, 9):
        values = 0.6 + torch.arange(5.0).view(5, 1, 1, 1) / 20
        result = stitch.execute(put_back, torch.ones_like(crops) * values, feather=feather).args[0][0].numpy()
        for (top, left, h, w), value in zip(boxes(put_back), values.flatten().tolist(), strict=True):
            middle = hole[top : top + h, left : left + w]
            assert np.allclose(result[top : top + h, left : left + w][middle], value)


def test_holes_that_fit_one_crop_share_it(nodes):
    prepare, _ = nodes
    hole = np.zeros((400, 900), bool)
    hole[100:120, 100:120] = hole[150:170, 160:180] = hole[300:340, 800:840] = True
    put_back = prepare.execute(photo(900, 400), mask_of(hole), 256, 2.5, separate_crops=True).args[3]
    assert len(boxes(put_back)) == 2
    one = np.zeros((400, 900), bool)
    one[100:200, 100:300] = True
    a, b = (prepare.execute(photo(900, 400), mask_of(one), 256, 2.5, separate_crops=on).args for on in (False, True))
    assert a[3].box == b[3].box
    assert not b[3].others
    assert all(torch.equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))


def test_what_is_under_any_hole_reaches_no_crop(nodes):
    """Two holes so near that each lies in the other's crop, grown."""
    prepare, stitch = nodes
    hole = np.zeros((400, 900), bool)
    hole[100:300, 100:300] = hole[150:180, 340:370] = True
    results = []
    for under in (0.0, 1.0, float("nan")):
        image = photo(900, 400)
        image[0][torch.from_numpy(hole)] = under
        outputs = prepare.execute(image, mask_of(hole), 128, 1.5, grow=5, separate_crops=True).args
        assert len(boxes(outputs[3])) == 2
        results.append([*outputs[:3], stitch.execute(outputs[3], outputs[0], feather=30).args[0]])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("other", [(20, 20), (10, 600), (300, 10)], ids=["small", "as long", "long the other way"])
@pytest.mark.parametrize("grow", [0, 3])
def test_a_hole_across_the_photo_and_another(nodes, other, grow):
    """Crops of a batch are of one size, whatever shape the photo leaves to them."""
    prepare, stitch = nodes
    hole = np.zeros((427, 640), bool)
    hole[400:410] = True
    hole[50 : 50 + other[0], 20 : 20 + other[1]] = True
    image = photo(640, 427)
    crops, mask, _, put_back = prepare.execute(image, mask_of(hole), 256, 2.5, grow=grow, separate_crops=True).args
    assert len(crops) == len(mask) == len(boxes(put_back))
    result = stitch.execute(put_back, torch.ones_like(crops)).args[0][0]
    replaced = (result > 0.75).all(-1).numpy()
    assert np.array_equal(result[~replaced], image[0][~replaced])
    assert replaced[hole].all()
    assert replaced.sum() <= 1.7 * hole.sum()


@pytest.mark.parametrize("resolution", [64, 128])
def test_scattered_specks_share_few_crops(nodes, resolution):
    prepare, stitch = nodes
    hole = np.zeros((700, 1000), bool)
    hole[::90, ::90] = True
    image = photo(1000, 700)
    crops, *_, put_back = prepare.execute(image, mask_of(hole), resolution, 2.5, separate_crops=True).args
    assert 1 <= len(crops) <= 8
    result = stitch.execute(put_back, torch.ones_like(crops)).args[0][0]
    assert np.array_equal((result > 0.75).all(-1).numpy(), hole)


def test_batches_of_photos_and_of_masks(nodes):
    prepare, stitch = nodes
    first, second = lanterns(), np.zeros((533, 800), bool)
    second[240:300, 380:440] = True
    masks = torch.cat([mask_of(first), mask_of(second)])
    for image, mask in ((photo(800, 533, 2), mask_of(first)), (photo(800, 533, 2), masks), (photo(800, 533), masks)):
        crops, *_, put_back = prepare.execute(image, mask, 256, 2.5, separate_crops=True).args
        assert len(crops) == 10
        result = stitch.execute(put_back, torch.ones_like(crops)).args[0]
        assert torch.equal((result > 0.75).all(-1), mask.expand(2, -1, -1) > 0)
    with pytest.raises(ValueError, match="there are 3 crops but Inpaint Prepare made 5 for each image"):
        stitch.execute(put_back, torch.ones_like(crops[:3]))


def test_a_sampled_hole_is_filled_as_if_it_were_the_only_one(server):
    """The shipped graph on a real server: a batch of crops through the whole model, and back into one photo.

    The noise of a batch begins with that of its first image, so the first crop has a run of its own to be compared with.
    """
    pixels, holes = graphs.photo(800, 533), lanterns()
    holes[60:110, 690:735] = True  # the largest, and so the first
    alone = np.zeros_like(holes)
    alone[60:110, 690:735] = True
    together, single = (run_removal(server, pixels, hole, True) for hole in (holes, alone))
    for result, hole in ((together, holes), (single, alone)):
        assert np.array_equal(result[~hole], pixels[~hole])
    assert np.abs(together[alone].astype(int) - single[alone]).max() <= 1
    labels, count = ndimage.label(holes)
    assert count == 5
    for i in range(1, count + 1):
        assert not np.array_equal(together[labels == i], pixels[labels == i])
    one_crop = run_removal(server, pixels, holes, False)
    assert np.abs(one_crop[alone].astype(int) - single[alone]).mean() > 2


def run_removal(server, pixels: np.ndarray, hole: np.ndarray, separate_crops: bool) -> np.ndarray:
    graph = json.loads((ROOT / "workflows" / "api" / "remove_object.json").read_text())
    nodes = {node["class_type"]: node["inputs"] for node in graph.values()}
    nodes["LoadImage"]["image"] = put_image(server, "lanterns.png", pixels, hole)
    nodes["ASUKA_InpaintPrepare"]["separate_crops"] = separate_crops
    nodes["KSampler"]["steps"] = 3
    saved = next(key for key, node in graph.items() if node["class_type"] == "SaveImage")
    return read(server, server.run(graph), saved)
