"""The networks that metrics look through, from the libraries that the protocols name.

Images are (B, 3, H, W) uint8. Weights lie in a folder of the user's choice and are downloaded into it once; where that
is not possible the message says which file should lie where.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lpips
import torch
import torchvision
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms
from transformers import CLIPVisionModelWithProjection

from ..perceptual import WeightsError, efficientnet_lite
from .hashes import sha256

PYTORCH = "https://download.pytorch.org/models/"
INCEPTION, ALEXNET = PYTORCH + "inception_v3_google-0cc3c7bd.pth", PYTORCH + "alexnet-owt-7be5be79.pth"
INCEPTION_2015 = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
SHA256 = {  # or how it begins, as in the names of PyTorch's files
    INCEPTION: "0cc3c7bd",
    ALEXNET: "7be5be79",
    INCEPTION_2015: "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
}
CLIP = "openai/clip-vit-large-patch14"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_STATISTICS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class FeatureNetwork:
    """What turns images into features (B, D); `name` is what they are cached under."""

    name: str
    extract: Callable[[Tensor], Tensor]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.extract(images).float().cpu()


def fetch(url: str, folder: Path) -> Path:
    """The file of that address in the folder, downloaded if it is not there yet. Raises WeightsError where that is not
    possible, or brings another file than the published one."""
    path = folder / url.rsplit("/", 1)[1]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), SHA256[url], progress=False)
        except (OSError, RuntimeError) as error:  # the latter for another hash
            raise WeightsError(
                f"{path} is missing and could not be downloaded ({error}); put {url} there, or leave out what needs it"
            ) from error
    return path


def resize_and_crop(images: Tensor, resize: int, crop: int, interpolation: InterpolationMode) -> Tensor:
    images = transforms.resize(images, [resize], interpolation, antialias=True)
    return transforms.to_dtype(transforms.center_crop(images, [crop]), torch.float32, scale=True)


def inception(folder: Path, device: torch.device) -> FeatureNetwork:
    """torchvision's Inception v3, 2048 features: what ASUKA's published scripts use."""
    network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True)
    network.load_state_dict(torch.load(fetch(INCEPTION, folder), map_location="cpu", weights_only=True))
    network.fc = torch.nn.Identity()
    network = network.eval().to(device)

    def extract(images: Tensor) -> Tensor:
        images = resize_and_crop(images.to(device), 342, 299, InterpolationMode.BILINEAR)
        return network(transforms.normalize(images, *IMAGENET))

    return FeatureNetwork("inception-torchvision", extract)


def inception_2015(folder: Path, device: torch.device) -> FeatureNetwork:
    """TensorFlow's Inception of 2015, 2048 features, resizing by itself: what Co-Mod, MAT and most FIDs use."""
    path = fetch(INCEPTION_2015, folder)
    if (found := sha256(path)) != SHA256[INCEPTION_2015]:  # TorchScript is a program, so none but this one is run
        raise WeightsError(
            f"{path} has SHA-256 {found}, expected {SHA256[INCEPTION_2015]}; remove it, and put {INCEPTION_2015} there"
        )
    network = torch.jit.load(path, map_location=device).eval()
    return FeatureNetwork("inception-2015-12-05", lambda images: network(images.to(device), return_features=True))


def random_vgg(folder: Path, device: torch.device) -> FeatureNetwork:
    """VGG-16 as torchvision initializes it, mean of its last 512 channels. Needs no weights.

    Random embeddings rank generators much as trained ones do (Naeem et al., ICML 2020), and favor no method here: they
    have seen no photos at all. Their scores compare with nothing but each other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.vgg16(weights=None).features.eval().to(device)

    def extract(images: Tensor) -> Tensor:
        images = transforms.to_dtype(images.to(device), torch.float32, scale=True)
        return network(transforms.normalize(images, *IMAGENET)).mean((2, 3))

    return FeatureNetwork("random-vgg16", extract)


def efficientnet(folder: Path, device: torch.device) -> FeatureNetwork:
    """EfficientNet-Lite0, trained on ImageNet, 1280 features. No decoder has learned from it: that is Lite1's part."""
    network = efficientnet_lite(0)
    network.reset_classifier(0)
    network.to(device)

    def extract(images: Tensor) -> Tensor:
        images = resize_and_crop(images.to(device), 256, 224, InterpolationMode.BICUBIC)
        return network(transforms.normalize(images, [0.5] * 3, [0.5] * 3))

    return FeatureNetwork("efficientnet-lite0", extract)


def clip(folder: Path, device: torch.device) -> FeatureNetwork:
    """OpenAI's CLIP ViT-L/14, 768 features."""
    try:
        network = CLIPVisionModelWithProjection.from_pretrained(CLIP, cache_dir=folder).eval().to(device)
    except OSError as error:
        raise WeightsError(
            f"{CLIP} is not in {folder} and could not be downloaded; run `hf download {CLIP} --cache-dir {folder}` where there is internet, or leave out what needs it"
        ) from error

    def extract(images: Tensor) -> Tensor:
        images = resize_and_crop(images.to(device), 224, 224, InterpolationMode.BICUBIC)
        return network(transforms.normalize(images, *CLIP_STATISTICS)).image_embeds

    return FeatureNetwork("clip-vit-l-14", extract)


NETWORKS = {
    "inception-torchvision": inception,
    "inception-2015-12-05": inception_2015,
    "random-vgg16": random_vgg,
    "efficientnet-lite0": efficientnet,
    "clip-vit-l-14": clip,
}


class Perceptual:
    """LPIPS v0.1 over AlexNet."""

    def __init__(self, folder: Path, device: torch.device):
        self.device = device
        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)  # trunk without weights
        alexnet = torch.load(fetch(ALEXNET, folder), map_location="cpu", weights_only=True)
        layers = self.network.net.state_dict()  # slice1.0.weight here, features.0.weight there
        self.network.net.load_state_dict({key: alexnet["features." + key.split(".", 1)[1]] for key in layers})
        self.network.eval().to(device)

    @torch.inference_mode()
    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Distances (B,) between images."""
        a, b = (x.to(self.device).float() / 127.5 - 1 for x in (images, others))
        return self.network(a, b).flatten().cpu()
