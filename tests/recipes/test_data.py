"""Samples depend on seed and index alone; broken files are survived."""

import logging
import shutil

import numpy as np
import pytest
import torch

from training.data import DataConfig, Photos


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_sample_does_not_depend_on_what_was_drawn_before(photos):
    config = DataConfig(folders=(str(photos),), size=32, scale=(0.5, 1.0))
    forward, backward = Photos(config, 7), Photos(config, 7)
    expected = [forward[i] for i in range(12)]
    found = [backward[i] for i in reversed(range(12))][::-1]
    assert all(map(equal, expected, found))
    assert not equal(Photos(config, 8)[0], expected[0])


def test_every_photo_is_seen_once_an_epoch(photos):
    dataset = Photos(DataConfig(folders=(str(photos),), size=8), 0)
    dataset.read = lambda path: np.full((8, 8, 3), dataset.paths.index(path), np.uint8)
    for epoch in range(3):
        seen = sorted(round(float(dataset[4 * epoch + i]["image"][0, 0, 0]) * 255) for i in range(4))
        assert seen == [0, 1, 2, 3]


def test_unreadable_photo_is_named_and_replaced(photos, tmp_path, caplog):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "broken.jpg").write_bytes((folder / "coffee.jpg").read_bytes()[:100])
    dataset = Photos(DataConfig(folders=(str(folder),), size=16), 0)
    with caplog.at_level(logging.WARNING):
        samples = [dataset[i] for i in range(len(dataset.paths))]
    assert all(sample["image"].shape == (3, 16, 16) for sample in samples)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'broken.jpg'}: not a readable picture, skipped"
    ]


def test_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no photos"):
        Photos(DataConfig(folders=(str(tmp_path),)), 0)


def test_augmented_twin_is_cut_like_the_photo(photos, tmp_path):
    """The twin here is the photo itself, so every view of both must be the same."""
    twins = shutil.copytree(photos, tmp_path / "twins")
    config = DataConfig(folders=(str(photos),), size=32, native=True, augmented=str(twins))
    for i in range(8):
        sample = Photos(config, 0)[i]
        assert torch.equal(sample["image"], sample["augmented"])
