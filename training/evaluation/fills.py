"""Simple fills without any learning: what a network has to beat."""

from collections.abc import Callable
from importlib.metadata import version

import cv2
import numpy as np
import torch

from asuka_modules.seams import close_seam

from ..engine.config import ConfigError
from .inpaint_input import InpaintInput, Method

RADIUS = 5  # pixels around each one that OpenCV's inpainting looks at
PATCH_RADIUS = 3  # pixels; PatchMatch compares patches of 7x7, as in its own examples


class FlatFill:
    """Flat gray, shifted in color to meet the known pixels: nothing but `close_seam`."""

    uses_seed = False

    def __init__(self):
        self.weights: dict[str, str] = {}

    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        image = torch.from_numpy(inputs.image).movedim(-1, 0)[None] / 255  # (1, 3, H, W)
        filled = close_seam(image, image, torch.from_numpy(inputs.hole)[None, None])
        return (filled[0].movedim(0, -1).clamp(0, 1) * 255).round().byte().numpy()


class OpenCVFill:
    """OpenCV's inpainting: `cv2.INPAINT_TELEA` (Telea 2004) or `cv2.INPAINT_NS` (Navier-Stokes, Bertalmio et al. 2001)."""

    uses_seed = False

    def __init__(self, algorithm: int):
        self.algorithm = algorithm
        self.weights = {"opencv": cv2.__version__}

    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        return cv2.inpaint(inputs.image, inputs.hole.astype(np.uint8), RADIUS, self.algorithm)


class PatchMatch:
    """PatchMatch (Barnes et al. 2009), which copies patches of the known pixels; its search is random.

    Raises ConfigError where its package is missing.
    """

    uses_seed = True

    def __init__(self):
        try:
            import patchmatch  # PyPatchMatch, for which there is no Python 3.10
        except ImportError as error:
            raise ConfigError("PatchMatch needs a package; pip install pypatchmatch (Python 3.11 or newer)") from error
        if not patchmatch.patchmatch_available:
            raise ConfigError(
                "pypatchmatch is installed without its library; pip install --force-reinstall pypatchmatch"
            )
        self.package = patchmatch
        self.weights = {"pypatchmatch": version("pypatchmatch")}

    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        self.package.set_random_seed(inputs.seed)
        return self.package.inpaint(inputs.image, inputs.hole, patch_size=PATCH_RADIUS)


FILLS: dict[str, Callable[[], Method]] = {
    "flat": FlatFill,
    "telea": lambda: OpenCVFill(cv2.INPAINT_TELEA),
    "navier-stokes": lambda: OpenCVFill(cv2.INPAINT_NS),
    "patchmatch": PatchMatch,
}
