"""What a recipe's command line answers: help without torch, and one line for what its user can put right."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_resume import command

from asuka_modules.checkpoints import PARTS
from training.engine import parsers
from training.miniature import STAGES

ROOT = Path(__file__).parents[2]
RECIPES = [
    "mae",
    "align",
    "decoder",
    "spl",
    "latent_augment",
    "latent_sample",
    "spl_table",
    "base",
    "base.words",
    "evaluation.misato",
]
HELP = """
import runpy, sys
sys.argv = ["recipe", *sys.argv[2:]]
try:
    runpy.run_module({module!r}, run_name="__main__")
finally:
    print("heavy:", *[name for name in ("torch", "diffusers", "cv2", "numpy") if name in sys.modules])
"""


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_imports_nothing_heavy(recipe):
    code = HELP.format(module=f"training.{recipe}")
    result = subprocess.run(
        [sys.executable, "-c", code, "", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"usage: python -m training.{recipe} [-h] [--set KEY=VALUE]" in result.stdout
    assert result.stdout.endswith("heavy:\n")


OTHERS = {  # what they may import, if anything: to look at images takes NumPy, OpenCV and Pillow
    "training.miniature": "",
    "training.ablations": "",
    "training.export": "",
    "training.convert": "",
    "training.evaluate": "",
    "training.data": " cv2 numpy",
    "training.masks": " cv2 numpy",
    "convert": "",
}


@pytest.mark.parametrize("command, imported", OTHERS.items())
def test_help_of_the_other_commands_takes_no_torch(command, imported):
    code = HELP.format(module=command)
    result = subprocess.run(
        [sys.executable, "-c", code, "", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("usage: ")
    assert result.stdout.endswith(f"heavy:{imported}\n")


def test_every_documented_command_is_tested_for_its_help():
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("training/**/*.md"),
        *ROOT.glob("training/**/*.yaml"),
    ]
    documented = {
        name for page in pages for name in re.findall(r"python -m training\.([a-z_.]*[a-z])", page.read_text())
    }
    assert "miniature" in documented
    assert {f"training.{name}" for name in documented} <= {f"training.{name}" for name in RECIPES} | OTHERS.keys()


def test_command_lines_know_all_parts_and_stages():
    assert tuple(PARTS) == parsers.PARTS
    assert tuple(STAGES) == parsers.STAGES


def test_config_that_is_missing_is_named():
    result = subprocess.run(
        [sys.executable, "-m", "training.mae", "lost.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "error: [Errno 2] No such file or directory: 'lost.yaml'" in result.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_is_answered_in_one_line(photos, masks, tmp_path, workers):
    """As a terminal sends it: to the data workers, too."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*command(out, photos, masks, workers), "--set", "run.steps=100000"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("step-*.pt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in text
    assert text.splitlines()[-1] == "interrupted; the same command goes on from what was saved last"
