"""The hole of an image in any file format, as ComfyUI's Load Image reads it: exactly the transparent pixels, or none."""

import sys

import graphs
import numpy as np
import pytest
from PIL import Image

PIXELS, HOLE = graphs.photo(96, 96), graphs.ellipse(96, 96)
OPAQUE = {"cmyk.jpg": "CMYK", "rgb.jpg": "RGB", "gray-alpha.png": "LA", "palette.gif": "P", "palette.png": "P", "gray.png": "L", "rgba.webp": "RGBA", "gray16.png": "I;16"}  # fmt: skip


@pytest.fixture
def prepare(extension, tmp_path, monkeypatch):
    """From a file in the input folder to Inpaint Prepare's outputs; the crop is the whole image."""
    import folder_paths

    import nodes  # ComfyUI's

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    node = sys.modules["asuka_extension.nodes.prepare"].ASUKA_InpaintPrepare

    def run(name: str, threshold: float):
        return node.execute(*nodes.LoadImage().load_image(name), 96, 1.0, threshold=threshold).args

    return run


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("name", OPAQUE)
def test_opaque_image_has_no_hole(prepare, tmp_path, name, threshold):
    """Load Image gives some of them a mask of 1/256 everywhere."""
    image = Image.fromarray(PIXELS)
    image = image.convert("L").convert("I;16") if OPAQUE[name] == "I;16" else image.convert(OPAQUE[name])
    image.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"the mask is empty|Load Image gives an empty 64x64 mask"):
        prepare(name, threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("name", ["rgba.png", "rgba.webp", "rgba.tiff", "gray-alpha.png", "palette.gif"])
def test_transparent_pixels_are_the_hole(prepare, tmp_path, name, threshold):
    """A palette of a PNG is left out: Load Image of ComfyUI 0.30 drops its transparency."""
    image, options = Image.fromarray(PIXELS), {}
    if name.startswith("palette"):
        colors = image.quantize(255)
        image = Image.fromarray(np.where(HOLE, 255, np.asarray(colors)).astype(np.uint8))
        image.putpalette(colors.getpalette())
        options = {"transparency": 255}
    else:
        image.putalpha(Image.fromarray(np.where(HOLE, 0, 255).astype(np.uint8)))
        image = image.convert("LA") if name.startswith("gray") else image
        options = {"lossless": True}
    image.save(tmp_path / name, **options)
    assert np.array_equal(prepare(name, threshold)[1][0].numpy() > 0.5, HOLE)
