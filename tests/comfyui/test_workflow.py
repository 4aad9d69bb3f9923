"""The shipped workflow on a real server: invariants that hold for the whole graph."""

import numpy as np
import pytest
from graphs import ellipse, photo, put_image, read
from PIL import Image

from scripts.comfy_server import ROOT, Server

STEPS = 3


def run(server: Server, workflow: dict, name: str, **sampling) -> np.ndarray:
    workflow["1"]["inputs"]["image"] = name
    workflow["8"]["inputs"] |= {"steps": STEPS, **sampling}
    return read(server, server.run(workflow), "11")


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(131, 133, 0.3), (256, 256, 0.3), (300, 711, 0.4), (3072, 2304, 0.05), (3072, 2304, 0.4), (40, 50, 0.3)],
    ids=["131x133", "square", "portrait", "7MP small hole", "7MP large hole", "tiny"],
)
def test_any_size_comes_back_with_its_known_pixels(server, workflow, width, height, scale):
    pixels, hole = photo(width, height), ellipse(width, height, scale)
    result = run(server, workflow, put_image(server, f"{width}x{height}-{scale}.png", pixels, hole))
    assert result.shape == pixels.shape
    assert np.array_equal(result[~hole], pixels[~hole])
    assert not np.array_equal(result[hole], pixels[hole])


def test_content_under_the_hole_changes_no_bit_of_the_result(server, workflow):
    pixels, hole = photo(200, 168), ellipse(200, 168)
    contents = {
        "original": pixels,
        "black": np.zeros_like(pixels),
        "random": np.random.default_rng(1).integers(0, 256, pixels.shape, dtype=np.uint8),
    }
    results = {}
    for name, content in contents.items():
        under = np.where(hole[..., None], content, pixels)
        results[name] = run(server, workflow, put_image(server, f"under-{name}.png", under, hole))
    assert np.array_equal(results["original"], results["black"])
    assert np.array_equal(results["original"], results["random"])


def test_sample_photo_shows_no_seam(server, workflow):
    """The demo's run. Its hole, a column in a dusk sky, would show a step of few gray levels; the sky's own is 0.7."""
    pixels = np.asarray(Image.open(ROOT / "demo" / "sample.jpg").convert("RGB"))
    hole = np.asarray(Image.open(ROOT / "demo" / "sample_mask.png").convert("L")) > 127
    result = run(server, workflow, put_image(server, "sample.png", pixels, hole), steps=25).astype(float)
    columns, (top, *_) = hole.any(0).nonzero()[0], hole.any(1).nonzero()[0]
    left, right = columns[0], columns[-1] + 1
    sky = result[top + 10 : top + 202].reshape(24, 8, *result.shape[1:]).mean(1)  # eight rows as one, against grain

    def step(column: int) -> float:
        beside = sky[:, column - 4 : column].mean(1), sky[:, column : column + 4].mean(1)
        return float(np.sqrt(np.square(beside[0] - beside[1]).mean()))

    assert max(step(left), step(right)) < 1.5
    assert max(step(left - 50), step(right + 50)) < 1.5


def test_seed_decides(server, workflow):
    pixels, hole = photo(128, 128), ellipse(128, 128)
    name = put_image(server, "seed.png", pixels, hole)
    first, again, other = (
        run(server, workflow, name, seed=seed, steps=steps) for seed, steps in ((1, 3), (1, 3), (2, 3))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nearly_opaque_brush_still_counts(server, workflow):
    """A mask of 0.98 leaves no ghost of the object (frequent with soft brushes)."""
    pixels, hole = photo(128, 128), ellipse(128, 128)
    soft = np.dstack([pixels, np.where(hole, 5, 255).astype(np.uint8)])
    Image.fromarray(soft).save(server.base / "input" / "soft.png")
    hard = run(server, workflow, put_image(server, "hard.png", pixels, hole))
    assert np.array_equal(run(server, workflow, "soft.png"), hard)
