"""Previews of intermediate results at the progress bar, if previews are enabled in ComfyUI."""

from comfy.cli_args import LatentPreviewMethod, args
from comfy.utils import ProgressBar
from PIL import Image
from torch import Tensor


def advance(progress: ProgressBar, image: Tensor) -> None:
    """Advance `progress` by one step and show `image` (3, H, W) in [0, 1]."""
    preview = None
    if args.preview_method is not LatentPreviewMethod.NoPreviews:
        pixels = (image.detach().clamp(0, 1) * 255).byte().movedim(0, -1).cpu().numpy()
        preview = "JPEG", Image.fromarray(pixels), args.preview_size
    progress.update_absolute(progress.current + 1, preview=preview)
