"""What has come out so far, beside the progress bar, where the user has ComfyUI show previews."""

from comfy.cli_args import LatentPreviewMethod, args
from comfy.utils import ProgressBar
from PIL import Image
from torch import Tensor


def advance(progress: ProgressBar, picture: Tensor) -> None:
    """One step on, with a picture (3, H, W) in [0, 1]."""
    preview = None
    if args.preview_method is not LatentPreviewMethod.NoPreviews:
        pixels = (picture.detach().clamp(0, 1) * 255).byte().movedim(0, -1).cpu().numpy()
        preview = "JPEG", Image.fromarray(pixels), args.preview_size
    progress.update_absolute(progress.current + 1, preview=preview)
