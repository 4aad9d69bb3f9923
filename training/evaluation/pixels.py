"""Metrics of one image that need no network. Images are (H, W, 3) uint8, masks (H, W) uint8 with 255 in the hole."""

import cv2
import numpy as np
from skimage.metrics import structural_similarity

LUMINANCE = np.array([0.2989, 0.587, 0.114])
MIN_DIFFERENCE = 1e-6  # gray levels
BLUR = 2.0  # standard deviation in pixels; finer than this is texture
RIM = 3  # pixels inside the hole's edge, whose step would count as texture


def is_hole(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool."""
    return mask > 127


def composite(result: np.ndarray, original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The result in the hole and the original elsewhere: every metric starts from it, or the autoencoder's drift over
    the known pixels would outweigh the hole. Raises ValueError for images of other sizes."""
    if not result.shape == original.shape == (*mask.shape, 3):
        raise ValueError(
            f"the result is {result.shape}, the original {original.shape} and the mask {mask.shape}; all should be of one size, the images RGB"
        )
    return np.where(is_hole(mask)[..., None], result, original)


def psnr(composite: np.ndarray, original: np.ndarray) -> float:
    """Peak signal-to-noise ratio of the whole image in dB, 70 at most."""
    error = np.square((composite.astype(np.float64) - original) / 255)
    return float(-10 * np.log10(error.mean() + 1e-7))


def ssim(composite: np.ndarray, original: np.ndarray) -> float:
    """Structural similarity of the luminance, with scikit-image's own uniform 7x7 window."""
    a, b = ((x / 255) @ LUMINANCE for x in (composite, original))
    return float(structural_similarity(a, b, data_range=1.0))


def grad(result: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """Seams: mean length of the Sobel gradient of (composite - original) on the hole's outline, in gray levels.

    The composite is blended by the mask as it is, soft or hard. NaN for a mask without any outline.
    """
    difference = (result.astype(np.float64) - original) * (mask[..., None] / 255)
    x, y = (cv2.Sobel(difference, cv2.CV_64F, dx, 1 - dx, ksize=3) for dx in (1, 0))
    outline = cv2.Canny(mask, 100, 200) > 0
    return float(np.hypot(x, y)[outline].mean()) if outline.any() else float("nan")


def texture(composite: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """How much texture the fill has, as a share of the original's: 1 is as much, 0 is none at all.

    The root mean square, over colors and the hole's pixels but its rim, of what a Gaussian takes away. NaN for a hole that
    is all rim, and where the original has no texture.
    """
    known = (~is_hole(mask)).astype(np.uint8)
    inside = cv2.dilate(known, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)) == 0
    if not inside.any():
        return float("nan")
    result, real = (np.sqrt(np.square(fine(x)[inside]).mean()) for x in (composite, original))
    return float(result / real) if real > MIN_DIFFERENCE else float("nan")


def fine(image: np.ndarray) -> np.ndarray:
    """What a Gaussian takes away from an image, (H, W, 3) in gray levels."""
    image = image.astype(np.float64)
    return image - cv2.GaussianBlur(image, (0, 0), BLUR, borderType=cv2.BORDER_REFLECT)
