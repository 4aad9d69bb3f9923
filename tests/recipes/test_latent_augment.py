"""AugmentedImages depend on the seed and their photo alone; whatever happens, finished shards are kept."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from training import latent_augment
from training.base.checkpoint import save_base
from training.base.unet import ConditionedUNet
from training.data import AugmentedImages, decode_photo, find_photos
from training.engine import config
from training.engine.run_folder import locked
from training.latent_augment import LatentAugmentRecipe, Photo, augment, batches
from training.weights.frozen import load_frozen

pytestmark = pytest.mark.trains

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(photos, base, tmp_path) -> LatentAugmentRecipe:
    return LatentAugmentRecipe(str(base), (str(photos),), str(tmp_path / "twins"), max_side=64, workers=0)


@torch.no_grad()
def expected_twin(recipe: LatentAugmentRecipe, photo: np.ndarray, i: int) -> np.ndarray:
    """Made alone."""
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    size = image.shape[-2:]
    cells = [round(side * recipe.max_side / max(size) / 8) for side in size]
    rng = np.random.default_rng([recipe.seed, i])
    noise = torch.from_numpy(rng.standard_normal((1, 4, *cells), "float32"))
    timestep = torch.tensor([rng.integers(500, 1000)])
    reduced = F.interpolate(image, [8 * n for n in cells], mode="bicubic", antialias=True).clamp(0, 1)
    estimate = augment(load_frozen(recipe.base), reduced, timestep, noise)
    estimate = F.interpolate(estimate, size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    picture = (255 * estimate).round().byte().permute(1, 2, 0).numpy()
    return decode_photo(cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


@pytest.mark.parametrize("batch_size, workers", [(1, 0), (3, 2)])
def test_twin_is_the_same_in_any_batch(recipe, batch_size, workers):
    """Three of the four photos differ in size, and are of one when they are reduced."""
    twins = AugmentedImages(latent_augment.run(replace(recipe, batch_size=batch_size, workers=workers)))
    assert len(twins) == 4
    for i, path in enumerate(find_photos(recipe.folders)):
        photo = path.read_bytes()
        expected = expected_twin(recipe, decode_photo(photo), i)
        assert np.abs(decode_photo(twins.of(photo)).astype(int) - expected).mean() < 0.3  # other noise: 2; bf16: 0.1


def test_photos_of_one_size_go_together_and_none_waits_for_ever():
    photos = [Photo(b"", (h, 8), (np.empty((3, h, 8), "float32"), 0, np.empty(0))) for h in [8, 16] * 3 + [*range(99)]]
    taken = 0

    def count():
        nonlocal taken
        for photo in photos:
            taken += 1
            yield photo

    given = []
    for batch in batches(count(), 2):
        given += batch
        assert len({photo.size for photo in batch}) == 1
        assert len(batch) <= 2
        assert taken - len(given) < 16 * 2
    assert sorted(map(id, given)) == sorted(map(id, photos))
    assert [photo.size[0] for photo in given[:4]] == [8, 8, 16, 16]


def test_killed_run_goes_on_with_more_processes(recipe, tmp_path):
    """Finished shards are left alone, half a shard counts for nothing, and the twins are those of one run."""
    recipe = replace(recipe, max_side=256, batch_size=1)
    whole, out = AugmentedImages(latent_augment.run(recipe)), tmp_path / "killed"
    values = {"base": recipe.base, "folders": f"[{recipe.folders[0]}]", "out": out, "shard": 1, "workers": 0}
    values |= {"batch_size": 1, "max_side": 256}
    file = tmp_path / "recipe.yaml"
    file.write_text("\n".join(f"{key}: {value}" for key, value in values.items()))
    command = ["-m", "training.latent_augment", str(file)]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("twins-*.tar")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("twins-*.tar")}
    assert 1 <= len(finished) < 4
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command]
    result = subprocess.run(launch, check=True, capture_output=True, text=True, cwd=ROOT, timeout=600, env=environment)
    assert f"4 photos, {len(finished)} augmented copies there already; all take up to 0.000" in result.stdout
    for path, (changed, content) in finished.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == (changed, content)
    assert {path.name[:10] for path in out.glob("twins-*.tar")} == {"twins-0000", "twins-0001"}
    names = []
    for path in out.glob("twins-*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert len(names) == len(set(names)) == 4
    for photo in find_photos(recipe.folders):
        found, expected = (decode_photo(twins.of(photo.read_bytes())) for twins in (AugmentedImages(out), whole))
        assert np.abs(found.astype(int) - expected).mean() < 0.3


def test_second_run_in_a_folder_is_refused(recipe, monkeypatch):
    monkeypatch.setattr("training.engine.run_folder.PATIENCE", 0)
    with locked(Path(recipe.out)), pytest.raises(config.ConfigError, match="twins is in use by another run"):
        latent_augment.run(recipe)
    assert not list(Path(recipe.out).glob("*.tar"))


def test_twins_of_another_base_are_refused(recipe, photos, tmp_path, caplog):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    recipe = replace(recipe, folders=(str(tmp_path / "broken"), str(photos)), count=2, timesteps=(900, 999))
    latent_augment.run(recipe)
    assert f"{tmp_path / 'broken' / 'a.jpg'}: not a readable image, skipped (1 so far)" in caplog.text
    assert len(AugmentedImages(recipe.out)) == 1
    other = tmp_path / "other.safetensors"
    save_base(other, AutoencoderTiny(), ConditionedUNet())
    for changed in (replace(recipe, base=str(other)), replace(recipe, timesteps=(100, 200))):
        with pytest.raises(config.ConfigError, match="was made with other settings"):
            latent_augment.run(changed)


def test_shards_of_no_twins_are_refused(recipe):
    with pytest.raises(config.ConfigError, match="shard is 0, expected 1 or more"):
        replace(recipe, shard=0)
