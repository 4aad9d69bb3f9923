"""What the harmonizing decoder is for, on the committed miniature: sampled colours that do not match leave less of a seam."""

from pathlib import Path

import pytest
import skimage.data
import torch

from asuka_modules import checkpoints
from asuka_modules.masking import resize_area
from training import metrics
from training.evaluation.pixels import grad
from training.sd import SCALING_FACTOR
from training.weights.frozen import load_frozen

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture(scope="module")
def decoded() -> dict[str, torch.Tensor]:
    """Photos whose latents, in the hole, are those of other colours: by the VAE's own decoder, and by the harmonizing one."""
    names = ("astronaut", "chelsea", "coffee", "rocket")
    photos = [torch.from_numpy(getattr(skimage.data, name)()[:300, :300, :3].copy()) for name in names]
    image = resize_area(torch.stack(photos).permute(0, 3, 1, 2).float() / 255, (128, 128))
    mask = torch.zeros(len(names), 1, 128, 128)
    mask[..., 40:88, 32:96] = 1
    shift = torch.tensor([[0.1, 0.0, -0.1], [-0.1, 0.1, 0.1], [0.1, 0.1, 0.1], [-0.1, -0.1, 0.0]])[..., None, None]
    base = load_frozen(DEMO / "asuka-miniature-base.safetensors")
    decoder = checkpoints.load_part(DEMO / "asuka-miniature.safetensors", "decoder").build(dtype=torch.float32)
    with torch.no_grad():
        latent = base.encode((image + shift * mask).clamp(0, 1))
        harmonized = decoder(latent / SCALING_FACTOR, image, mask)
        return {"image": image, "mask": mask, "stock": base.decode(latent), "harmonized": harmonized}


def grads(results: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The benchmark's measure of seams, of every image."""
    rows = [(x * 255).round().clamp(0, 255).byte().movedim(1, -1).numpy() for x in (results, images, masks)]
    return torch.tensor([grad(result, image, mask[..., 0]) for result, image, mask in zip(*rows, strict=True)])


@pytest.mark.parametrize("seam", [grads, metrics.color_offset])
def test_seam_is_smaller(decoded, seam):
    stock, harmonized = (seam(decoded[name], decoded["image"], decoded["mask"]) for name in ("stock", "harmonized"))
    assert (harmonized < stock).all()
    assert harmonized.mean() < 0.8 * stock.mean()
