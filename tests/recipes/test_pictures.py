"""Sample sheets say what they show."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_MAE, run_config

from training import mae
from training.data import DataConfig
from training.engine.image_grid import LINE, save_rows
from training.masks import MaskConfig


def test_every_row_stands_below_its_name(tmp_path):
    rows = {name: torch.rand(3, 3, 32, 24).mul(255).round() / 255 for name in ("a", "another")}

    def saved(title: str, names: dict[str, str] = {}) -> np.ndarray:
        save_rows(tmp_path / "sheet.png", title, {names.get(name, name): row for name, row in rows.items()})
        return np.asarray(Image.open(tmp_path / "sheet.png"))

    sheet = saved("title")
    assert sheet.shape == (LINE + 2 * (LINE + 32), 3 * 24 + 2 * 4, 3)
    for i, row in enumerate(rows.values()):
        top = 2 * LINE + i * (LINE + 32)
        assert (sheet[top - LINE : top] < 128).any()  # its name
        for j, image in enumerate(row):
            assert np.array_equal(
                sheet[top : top + 32, 28 * j : 28 * j + 24], (image * 255).round().byte().permute(1, 2, 0)
            )
    renamed = saved("title", {"another": "other"})
    assert set(np.nonzero((sheet != renamed).any((1, 2)))[0]) <= set(range(LINE + LINE + 32, 3 * LINE + 32))
    wide = saved("which images these are, in a long title")
    assert wide.shape[1] > sheet.shape[1]
    assert (wide[:, -1] == 255).all()


@pytest.mark.trains
@pytest.mark.parametrize("validated", [False, True])
def test_sheets_tell_which_images_they_show(validated, photos, masks, tmp_path, monkeypatch):
    """The only photo for validation is red all over."""
    sheets, save_rows = [], mae.save_rows

    def watched(path, title, rows):
        sheets.append((title, rows))
        save_rows(path, title, rows)

    monkeypatch.setattr(mae, "save_rows", watched)
    (tmp_path / "red").mkdir()
    Image.new("RGB", (80, 80), (255, 0, 0)).save(tmp_path / "red" / "red.png")
    size = TINY_MAE.image_size
    data, holes = DataConfig(folders=(str(photos),), size=size), MaskConfig(objects=str(masks), size=size)
    validation = (str(tmp_path / "red"),) if validated else ()
    mae.train(mae.MAERecipe(data, holes, run_config(tmp_path / "out"), TINY_MAE, validation=validation))
    title, rows = sheets[-1]
    assert title.startswith("validation images" if validated else "training images")
    assert next(iter(rows)) == "hole in gray"
    red = torch.tensor([1.0, 0, 0])[:, None, None].to(rows["original"])
    assert bool((rows["original"] == red).all()) == validated
