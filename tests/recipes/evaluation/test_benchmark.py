"""A benchmark goes on where it was stopped, and says at the start what is missing. On finished results."""

import json
import re

import cv2
import numpy as np
import pytest
from finished import COUNT, SIZE, command, make_misato
from PIL import Image

from training.evaluation import benchmark, methods


def test_finished_pictures_are_kept_and_others_made(bench, monkeypatch):
    asked = []
    answer = methods.PrecomputedMethod.__call__
    monkeypatch.setattr(methods.PrecomputedMethod, "__call__", lambda self, q: asked.append(q.name) or answer(self, q))
    command(bench, monkeypatch)
    assert len(asked) == 2 * COUNT
    (bench.out / "pictures" / "off by 2" / "3-0.png").unlink()
    command(bench, monkeypatch)
    assert asked[2 * COUNT :] == ["3"]


def test_kept_pictures_tell_by_what_they_were_made(bench, monkeypatch):
    def found() -> list[list[str]]:
        methods = json.loads((bench.out / "results.json").read_text())["methods"]
        return [method["made_by"]["commit"] for method in methods.values()]

    for made in ("first", "second"):
        monkeypatch.setattr(benchmark, "git_revision", lambda made=made: made)
        command(bench, monkeypatch)
        assert found() == [["first"], ["first"] if made == "first" else ["first", "second"]]
        (bench.out / "pictures" / "off by 2" / "3-0.png").unlink()


def test_more_pairs_can_be_asked_for_later(bench, monkeypatch):
    pictures = bench.out / "pictures" / "off by 2"
    bench.config["pairs"]["count"] = 2
    command(bench, monkeypatch)
    assert len(list(pictures.glob("*.png"))) == 2
    bench.config["pairs"]["count"] = 4
    command(bench, monkeypatch)
    assert len(list(pictures.glob("*.png"))) == 4


def test_more_of_misatos_pairs_can_be_asked_for_later(bench, monkeypatch):
    """Those that are there already keep their noise."""
    asked = []
    answer = methods.PrecomputedMethod.__call__
    monkeypatch.setattr(methods.PrecomputedMethod, "__call__", lambda self, q: asked.append(q.name) or answer(self, q))
    make_misato(bench)
    bench.config["pairs"]["count"] = 3
    command(bench, monkeypatch)
    assert asked == ["0000", "0500", "1000"] * 2
    bench.config["pairs"]["count"] = 9
    command(bench, monkeypatch)
    assert len(asked) == 2 * 9


def test_some_methods_can_be_picked(bench, monkeypatch, capsys):
    command(bench, monkeypatch, "--only", "off by 2")
    assert [path.name for path in (bench.out / "pictures").iterdir()] == ["off by 2"]
    assert list(json.loads((bench.out / "results.json").read_text())["methods"]) == ["off by 2"]
    with pytest.raises(SystemExit):
        command(bench, monkeypatch, "--only", "off by 2", "nothing")
    assert "no method 'nothing', only off by 8, off by 2" in capsys.readouterr().err


def test_what_has_another_question_is_asked_again(bench, monkeypatch):
    """A mask that has changed under the same name."""
    asked = []
    answer = methods.PrecomputedMethod.__call__
    monkeypatch.setattr(methods.PrecomputedMethod, "__call__", lambda self, q: asked.append(q.name) or answer(self, q))
    command(bench, monkeypatch)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:20] = 255
    Image.fromarray(mask).save(bench.folder / "masks" / "3.png")
    command(bench, monkeypatch)
    assert asked[2 * COUNT :] == ["3", "3"]


def test_results_of_other_files_are_not_mixed(bench, monkeypatch, capsys):
    command(bench, monkeypatch)
    Image.new("RGB", (SIZE, SIZE)).save(bench.folder / "off by 2" / "3.png")
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "off by 2 was made with other settings (made_of.json); remove it" in capsys.readouterr().err


def test_missing_results_are_told_before_the_long_part(bench, monkeypatch, capsys):
    for i in (2, 4):
        (bench.folder / "off by 2" / f"{i}.png").unlink()
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert "off by 2: 2 results are missing, such as" in capsys.readouterr().err
    assert not (bench.out / "pictures").exists()


@pytest.mark.parametrize("misato", [False, True])
def test_missing_masks_are_told_before_the_long_part(bench, monkeypatch, capsys, misato):
    if misato:
        make_misato(bench)
    folder = bench.folder / ("misato/64/mask" if misato else "masks")
    lost = sorted(folder.iterdir())[:2]
    for path in lost:
        path.unlink()
    with pytest.raises(SystemExit):
        command(bench, monkeypatch)
    assert re.search(
        rf"{folder}: 2 masks are missing, such as ({lost[0].name}|{lost[1].name}); name", capsys.readouterr().err
    )
    assert not (bench.out / "pictures").exists()


def test_mistakes_of_the_program_keep_their_traceback(bench, monkeypatch):
    """Only what the user can put right is told in one line."""

    def fail(*_):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(cv2, "Canny", fail)
    with pytest.raises(ValueError, match="operands could not be broadcast") as caught:
        command(bench, monkeypatch)
    assert caught.traceback[-1].name == "fail"
