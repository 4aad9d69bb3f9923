"""The command that copies the demo model into ComfyUI."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.comfy_server import ROOT, WEIGHTS

FILES = [(folder, name) for folder, names in WEIGHTS.items() for name in names]


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    """From another folder, as a user may."""
    command = [sys.executable, str(ROOT / "scripts" / "install_miniature.py"), *map(str, arguments)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_files_are_where_their_workflows_look_for_them(tmp_path):
    assert len(FILES) == 3
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    assert run(tmp_path).stdout.count(": copied\n") == 3
    for folder, name in FILES:
        assert (tmp_path / "models" / folder / name).read_bytes() == (ROOT / "demo" / name).read_bytes()
    damaged = tmp_path / "models" / FILES[0][0] / FILES[0][1]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    again = run(tmp_path).stdout
    assert (again.count(": copied\n"), again.count(": already there\n")) == (1, 2)
    assert damaged.read_bytes() == (ROOT / "demo" / FILES[0][1]).read_bytes()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize("comfyui", ["nowhere", "."])
def test_folder_that_is_no_comfyui_is_named(tmp_path, comfyui):
    result = run(tmp_path / comfyui)
    assert result.returncode == 2
    assert "models: no such folder; give ComfyUI's folder, which contains models/" in result.stderr
    assert "Traceback" not in result.stderr


def test_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "asuka").write_text("not a folder")
    result = run(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
