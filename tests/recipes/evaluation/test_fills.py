"""Simple fills: each against an independent computation, and as methods of a benchmark."""

import json
import sys

import cv2
import numpy as np
import pytest
from finished import COUNT, command
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from skimage.data import coffee, grass

from training.engine.config import ConfigError
from training.evaluation.fills import FILLS
from training.evaluation.inpaint_input import InpaintInput, prepare_input
from training.evaluation.methods import MethodConfig, make_method
from training.evaluation.pixels import texture


def fill(name: str, image: np.ndarray, hole: np.ndarray, seed: int = 7) -> np.ndarray:
    return make_method(MethodConfig("any name", fill=name))(prepare_input("0", image, hole * np.uint8(255), seed))


@pytest.fixture
def photo() -> np.ndarray:
    return cv2.resize(coffee()[:400, :400], (96, 96), interpolation=cv2.INTER_AREA)


@pytest.fixture
def hole() -> np.ndarray:
    y, x = np.mgrid[:96, :96]
    return ((x - 40) / 24) ** 2 + ((y - 55) / 17) ** 2 < 1


@pytest.mark.parametrize("name", FILLS)
def test_known_pixels_stay_and_what_is_under_the_hole_does_not_matter(name, photo, hole):
    filled = fill(name, photo, hole)
    other = np.where(hole[..., None], 255 - photo, photo)
    assert (filled.shape, filled.dtype) == (photo.shape, np.uint8)
    assert np.array_equal(filled[~hole], photo[~hole])
    assert np.array_equal(filled, fill(name, other, hole))
    assert np.abs(filled[hole].astype(int) - 127).mean() > 5


def harmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Laplace's equation in the hole, with the known pixels around it, solved exactly. (H, W, 3)."""
    numbers = {tuple(at): i for i, at in enumerate(np.argwhere(hole))}
    matrix, right = lil_matrix((len(numbers), len(numbers))), np.zeros((len(numbers), 3))
    for (y, x), i in numbers.items():
        matrix[i, i] = 4
        for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if at in numbers:
                matrix[i, numbers[at]] = -1
            else:
                right[i] += image[at]
    solved = image.astype(float)
    solved[hole] = spsolve(matrix.tocsr(), right)
    return solved


def test_flat_grey_with_its_seam_closed_is_nearly_harmonic(photo, hole):
    smooth = cv2.GaussianBlur(photo, (0, 0), 4)  # the seam is closed to means over 3x3 pixels
    error = np.abs(fill("flat", smooth, hole) - harmonic(smooth, hole))[hole]
    assert error.mean() < 3
    assert np.abs(127 - harmonic(smooth, hole))[hole].mean() > 20


@pytest.mark.parametrize("name, algorithm", [("telea", cv2.INPAINT_TELEA), ("navier-stokes", cv2.INPAINT_NS)])
def test_opencvs_fills_look_at_five_pixels_around(name, algorithm, photo, hole):
    expected = [
        cv2.inpaint(
            np.where(hole[..., None], np.uint8(0), photo)[..., ::-1], hole.astype(np.uint8) * 9, radius, algorithm
        )
        for radius in (5, 3)
    ]
    assert np.array_equal(fill(name, photo, hole), expected[0][..., ::-1])
    assert not np.array_equal(*expected)


def test_patchmatch_copies_texture_where_the_others_have_none(hole):
    lawn = np.repeat(grass()[:192:2, :192:2, None], 3, axis=2)
    mask = hole * np.uint8(255)
    shares = {name: texture(fill(name, lawn, hole), lawn, mask) for name in FILLS}
    assert shares["patchmatch"] > 0.7
    assert all(share < 0.5 for name, share in shares.items() if name != "patchmatch")


def test_patchmatchs_search_comes_from_the_seed(photo, hole):
    filled = fill("patchmatch", photo, hole, 7)
    assert not np.array_equal(filled, fill("patchmatch", photo, hole, 8))
    assert np.array_equal(filled, fill("patchmatch", photo, hole, 7))


@pytest.mark.parametrize("name", FILLS)
def test_a_hole_that_is_all_of_the_photo_is_filled_with_something(name):
    question = InpaintInput("0", np.full((32, 40, 3), 127, np.uint8), np.ones((32, 40), bool), 0)
    assert FILLS[name]()(question).shape == (32, 40, 3)


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    with pytest.raises(ConfigError, match=r"PatchMatch needs a package; pip install pypatchmatch"):
        make_method(MethodConfig("PatchMatch", fill="patchmatch"))


def test_fills_are_methods_of_a_benchmark(bench, monkeypatch, capsys):
    bench.config["methods"] = [{"name": f"the {name} one", "fill": name} for name in FILLS]
    bench.config["seeds"] = 2
    command(bench, monkeypatch)
    found = json.loads((bench.out / "results.json").read_text())["methods"]
    assert [method["seeds"] for method in found.values()] == [1, 1, 1, 2]
    assert found["the telea one"]["weights"] == {"opencv": cv2.__version__}
    assert found["the patchmatch one"]["weights"].keys() == {"pypatchmatch"}
    assert len(list((bench.out / "pictures").rglob("*.png"))) == 5 * COUNT
    assert "| texture (more is better) |" in (bench.out / "results.md").read_text()
    assert "the patchmatch one" in (bench.out / "index.html").read_text()
    command(bench, monkeypatch, "--compare", "the patchmatch one", "the flat one", "the telea one")
    text = capsys.readouterr().out
    assert text.count("| texture (") == 2
    assert "| the patchmatch one - the telea one |" in text
    with pytest.raises(SystemExit):
        command(bench, monkeypatch, "--compare", "the flat one")
    assert "--compare takes two methods or more" in capsys.readouterr().err


def test_a_fill_that_is_none_is_told(bench, monkeypatch, capsys):
    bench.config["methods"] = [{"name": "x", "fill": "biharmonic"}]
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "fill is 'biharmonic', expected 'flat' or 'telea' or" in capsys.readouterr().err
