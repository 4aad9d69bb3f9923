"""What a run shows: its speed without its pauses, a forecast, sample images in TensorBoard, Weights & Biases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_loop import Numbers, Regression, config, rows

from training.engine import log as log_module
from training.engine.config import ConfigError
from training.engine.image_grid import save_rows
from training.engine.log import Log, duration
from training.engine.loop import fit


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_speed_and_forecast_are_of_the_steps_alone(tmp_path, monkeypatch, capsys):
    """A step of 8 images takes 2 s, the first ten of them 10 s; a pause before every fifth takes 1000 s."""
    monkeypatch.setattr(log_module, "time", clock := Clock())
    log = Log(tmp_path, {"steps": 3600, "batch_size": 8}, 0)
    for step in range(1, 121):
        clock.now += 10 if step <= 10 else 2
        log.step(step)
        if step % 20 == 0:
            log.row(step, {"loss": 0.5}, torch.tensor(1.0), 0.1)
        if step % 5 == 0:
            with log.pause("drawing samples"):
                assert log.bar.desc == f"{tmp_path.name}, drawing samples: "
                clock.now += 1000
    log.close()
    assert [float(row["images_per_second"]) for row in rows(tmp_path / "log.csv")][1:] == [4.0] * 5
    assert "4 images/s on this machine; all 3600 steps take about 2.0 h, the 3500 left 1.9 h" in capsys.readouterr().out


@pytest.mark.parametrize(
    "seconds, text", [(0.1, "1 s"), (59, "59 s"), (90, "2 min"), (359, "6 min"), (1800, "0.5 h"), (36000, "10.0 h")]
)
def test_durations_are_never_nothing(seconds, text):
    assert duration(seconds) == text


def test_tensorboard_shows_losses_and_sample_images(tmp_path):
    def sample(trained: torch.nn.Module, path: Path) -> None:
        save_rows(path, "noise", {"noise": torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))})

    validation = {"a": Numbers()}
    fit(
        config(tmp_path, sample_every=3, validation_batches=1),
        Regression(),
        Numbers(),
        sample=sample,
        validation=validation,
    )
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert {"loss", "grad_norm", "validation/a"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Images("samples")] == [3, 6]
    shown = torch.frombuffer(bytearray(board.Images("samples")[-1].encoded_image_string), dtype=torch.uint8).numpy()
    (tmp_path / "shown.png").write_bytes(shown.tobytes())
    with Image.open(tmp_path / "shown.png") as a, Image.open(tmp_path / "samples" / "0000006.png") as b:
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_weights_and_biases_without_its_package_is_told(tmp_path, monkeypatch):
    found = log_module.importlib.util.find_spec
    monkeypatch.setattr(log_module.importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name))
    with pytest.raises(ConfigError, match=r"run\.wandb is asuka but wandb is not installed; pip install wandb"):
        fit(config(tmp_path, wandb="asuka"), Regression(), Numbers())
