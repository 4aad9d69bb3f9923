"""Files are there whole or not at all, and nothing else stays beside them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asuka_modules import checkpoints
from asuka_modules.atomic import PREFIX, atomic_write, remove_leftovers

ROOT = Path(__file__).parents[2]
SAVE = """
import sys, torch
from pathlib import Path
from asuka_modules import checkpoints
checkpoints.write(Path(sys.argv[1]), {"weight": torch.ones(2**27)})
"""
WAIT = """
import sys, time
from asuka_modules.atomic import atomic_write
with atomic_write(sys.argv[1]) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start(code: str, path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def kill(process: subprocess.Popen) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def written(folder: Path) -> int:
    """Bytes of all files, of which some may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Also the hidden file that safetensors itself writes first."""
    path = tmp_path / "weights.safetensors"
    process = start(SAVE, path)
    while written(tmp_path) < 10_000_000:
        assert process.poll() is None
        time.sleep(0.001)
    kill(process)
    assert written(tmp_path) > 10_000_000
    assert not path.exists()
    checkpoints.write(path, {"weight": torch.ones(2)})
    assert list(tmp_path.iterdir()) == [path]
    assert load_file(path)["weight"].tolist() == [1, 1]


def test_what_a_living_process_writes_stays(tmp_path):
    writer = start(WAIT, tmp_path / "a.txt")
    assert writer.stdout.readline() == "writing\n"
    killed = start(WAIT, tmp_path / "b.txt")
    assert killed.stdout.readline() == "writing\n"
    kill(killed)
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(tmp_path / "c.txt") as partial:
        partial.write_text("another")
    writer.communicate("")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "half", "c.txt": "another"}


def write_half(path: Path, error: BaseException) -> None:
    with atomic_write(path) as partial:
        partial.write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("disk full"), KeyboardInterrupt(), TypeError()])
def test_after_an_error_the_file_is_as_it_was_and_alone(tmp_path, error):
    path = tmp_path / "note.txt"
    path.write_text("before")
    expected = OSError if "disk full" in str(error) else type(error)
    with pytest.raises(expected) as raised:
        write_half(path, error)
    if expected is OSError:
        assert str(raised.value) == f"{path}: not written (disk full); what was there before is intact"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "before"


def test_error_of_safetensors_is_one_of_the_system(tmp_path):
    path = tmp_path / "weights.safetensors"
    with (
        pytest.raises(OSError, match=r"weights.safetensors: not written \(.*No such file or directory"),
        atomic_write(path) as partial,
    ):
        save_file({"weight": torch.ones(2)}, partial.parent / "missing" / "content")
    assert not list(tmp_path.iterdir())


def test_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(OSError, match=r"missing/a\.txt: not written \(.*No such file or directory[^;]*$"):
        write_half(tmp_path / "missing" / "a.txt", TypeError())


def test_weights_may_be_read_like_any_other_file(tmp_path):
    checkpoints.write(tmp_path / "weights.safetensors", {"weight": torch.ones(2)})
    (tmp_path / "note.txt").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_what_is_being_written_is_no_weight_file_yet(tmp_path):
    """Load ASUKA lists what ends in .safetensors, in any folder below."""
    with atomic_write(tmp_path / "weights.safetensors") as partial:
        save_file({"weight": torch.ones(2)}, partial)
        assert partial.relative_to(tmp_path).parts[0].startswith(PREFIX)
        assert not list(tmp_path.rglob("*.safetensors"))


def test_files_are_replaced_in_one_place_only():
    sources = [path for folder in ("asuka_modules", "nodes", "training") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 50
    for path in sources:
        text = path.read_text()
        assert path.name == "atomic.py" or not ("os.replace" in text or "NamedTemporaryFile" in text), path
        assert path.name == "checkpoints.py" or "save_file" not in text, path
