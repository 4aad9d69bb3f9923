"""The folder of a run: damaged files, a kill at any moment, a second run, a full disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loop import Numbers, Recipe, Regression, config, rows
from torch import nn

from asuka_modules.atomic import atomic_write
from training.engine.checkpoint import DamagedCheckpoint, read_state
from training.engine.config import ConfigError
from training.engine.image_grid import save_rows
from training.engine.loop import fit
from training.engine.run_folder import locked
from training.engine.tables import read_rows

ROOT = Path(__file__).parents[2]


def run(out: Path, steps: int = 12, **changes) -> nn.Module:
    changes = {"save_every": 4, "log_every": 3, "ema": 0.9, **changes}
    validation = {"a": Numbers(), "b": Numbers()}
    settings = config(out, steps=steps, validate_every=5, validation_batches=1, **changes)
    return fit(
        settings, Regression(), Numbers(), sample=sample, validation=validation, recipe=Recipe("mae"), export=export
    )


def sample(trained: nn.Module, path: Path) -> None:
    save_rows(path, "grey", {"grey": trained.weight.new_full((2, 3, 8, 8), 0.5)})


def export(trained: nn.Module, folder: Path) -> None:
    with atomic_write(folder / "weights.txt") as partial:
        partial.write_text(str([value.tolist() for value in trained.state_dict().values()]))


def table(path: Path) -> list[dict[str, str]]:
    """What does not depend on the machine's speed."""
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows(path)]


def outcome(out: Path) -> tuple:
    weights = [path.read_text() for path in (out / "weights.txt", out / "best" / "weights.txt")]
    return weights, table(out / "log.csv"), table(out / "validation.csv"), (out / "best" / "best.json").read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    run(out)
    return out


def flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


DAMAGES = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "its end cut off": lambda data: data[:-20],
    "zeros at the end": lambda data: data[:-1000] + bytes(1000),
    "text": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
    "a flipped bit": lambda data: flip(data, data.index(b"trained") + 1000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_named_and_the_one_before_used(uninterrupted, tmp_path, caplog, damage):
    out = tmp_path / "run"
    run(out)
    newest = out / "step-0000012.pt"
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    run(out)
    assert f"{newest} is damaged" in caplog.text
    assert "going on from the one before" in caplog.text
    assert outcome(out) == outcome(uninterrupted)
    assert (out / "step-0000012.pt.damaged").exists()
    assert read_state(newest)["step"] == 12


def test_every_flipped_bit_of_a_checkpoint_is_noticed_or_harmless(uninterrupted, tmp_path):
    """Torch compares no checksums when it loads; what is neither tensor nor name may change unnoticed."""
    path = uninterrupted / "step-0000012.pt"
    data, expected = path.read_bytes(), comparable(read_state(path))
    noticed, damaged = 0, tmp_path / "flipped"
    for place in range(0, len(data), 7):
        damaged.write_bytes(flip(data, place))
        try:
            assert comparable(read_state(damaged)) == expected
        except DamagedCheckpoint:
            noticed += 1
    assert noticed > len(data) / 7 / 4


def comparable(state: object) -> object:
    if isinstance(state, dict):
        return {key: comparable(value) for key, value in state.items()}
    if isinstance(state, list):
        return [comparable(value) for value in state]
    return (state.dtype, state.tolist()) if isinstance(state, torch.Tensor) else state


def test_nothing_begins_anew_where_all_checkpoints_are_damaged(tmp_path):
    out = tmp_path / "run"
    run(out)
    for path in out.glob("step-*.pt"):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"all 2 checkpoints are damaged; restore one from a backup, or remove them"):
        run(out)
    assert len(list(out.glob("step-*.pt"))) == 2


def test_checkpoint_of_another_network_is_named(tmp_path):
    out = tmp_path / "run"
    run(out)
    (out / "run.json").unlink()
    other = Regression()
    other.trained = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match=r"step-0000012.pt is of another network than this recipe's"):
        fit(config(out, steps=14, ema=0.9), other, Numbers())


@pytest.mark.parametrize("keep", [0, 1, 100, -10])
@pytest.mark.parametrize("name", ["run.json", "log.csv", "validation.csv", "best/best.json"])
def test_cut_bookkeeping_is_made_whole(uninterrupted, tmp_path, name, keep):
    out = tmp_path / "run"
    run(out, steps=12)
    (out / "step-0000012.pt").unlink()
    (out / name).write_bytes((out / name).read_bytes()[:keep])
    run(out)
    if name != "best/best.json":  # the best weights were before step 8
        assert outcome(out) == outcome(uninterrupted)
    noted = [json.loads((folder / "run.json").read_text()) for folder in (out, uninterrupted)]
    assert [note.pop("out").endswith("run") for note in noted] == [True, True]
    assert noted[0] == noted[1]


def test_cut_note_lets_no_other_recipe_in(tmp_path):
    out = tmp_path / "run"
    run(out)
    (out / "run.json").write_text('{"ou')
    with pytest.raises(ConfigError, match="another mae"):
        fit(config(out, steps=14, ema=0.9), Regression(), Numbers(), recipe=Recipe("other"))


def test_log_of_an_older_version_is_cut_back(tmp_path, caplog):
    """Its checkpoints hold no rows of the log."""
    out = tmp_path / "run"
    run(out, log_every=1)
    expected = table(out / "log.csv")
    state = read_state(out / "step-0000008.pt")
    del state["tables"], state["measured"], state["noted"]
    torch.save(state, out / "step-0000008.pt")
    (out / "step-0000012.pt").unlink()
    (out / "log.csv").write_bytes((out / "log.csv").read_bytes()[:-3])
    run(out, log_every=1)
    assert table(out / "log.csv") == expected
    assert "log.csv: 1 damaged rows left out" in caplog.text


@pytest.mark.parametrize("damaged", ["5,0.", "5,0.u,1\n", "5,0.5\n", ",0.5,1\n", "5,0.5,1,2\n", "5,\x00,1\n"])
def test_damaged_rows_are_left_out(tmp_path, damaged):
    path = tmp_path / "log.csv"
    path.write_text("step,loss,lr\n4,0.5,\n" + damaged)
    assert read_rows(path) == [{"step": "4", "loss": "0.5", "lr": ""}]


def test_another_validation_set_gets_a_column_of_its_own(tmp_path):
    out = tmp_path / "run"
    for steps, name in ((2, "a"), (4, "b")):
        fit(config(out, steps=steps, validate_every=2), Regression(), Numbers(), validation={name: Numbers()})
    first, second = rows(out / "validation.csv")
    assert first["a"]
    assert second["b"]
    assert (first["b"], second["a"]) == ("", "")


def test_second_run_in_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("training.engine.run_folder.PATIENCE", 0)
    with locked(tmp_path / "run"), pytest.raises(ConfigError, match=r"run is in use by another run; wait until it has"):
        run(tmp_path / "run")
    run(tmp_path / "run")


HOLDER = """
import os, sys, time
from pathlib import Path
from training.engine.run_folder import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    print("locked", flush=True)
    time.sleep(60)
"""


def test_killed_run_leaves_no_lock_behind(tmp_path):
    """Not even while its data workers live on."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(ConfigError, match="in use by another run"), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass


INTERRUPTED = """
import os, resource, signal, sys
from pathlib import Path
import torch
from test_run_folder import run

torch.set_num_threads(1)
OUT, EVENTS = Path(sys.argv[1]), {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
left = None


def interrupt(event, arguments):
    global left
    if left is None or event not in EVENTS or not str(arguments[0]).startswith(str(OUT)):
        return
    left -= 1
    if left < 0 and sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif left < 0:  # no file may grow any more
        left = None
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


sys.addaudithook(interrupt)
for moment in range(3, 10**6, int(sys.argv[3])):
    out = OUT / str(moment)
    child = os.fork()
    if not child:
        left = moment
        try:
            run(out)
        except OSError as error:
            print("error:", *str(error).split(), flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    run(out)
    if status == 0:
        break
"""


def interrupted_runs(out: Path, how: str, stride: int) -> list[str]:
    """Runs that are interrupted at one moment after the other of their bookkeeping, and then go on; their errors."""
    path = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    command = [sys.executable, "-c", INTERRUPTED, str(out), how, str(stride)]
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment, text=True)
    return [line for line in result.stdout.splitlines() if line.startswith("error: ")]


def test_run_killed_at_any_moment_of_its_bookkeeping_continues_identically(uninterrupted, tmp_path):
    """Before every eleventh file that it opens, renames or removes."""
    interrupted_runs(tmp_path, "kill", 11)
    runs = list(tmp_path.iterdir())
    assert len(runs) > 10
    for out in runs:
        assert outcome(out) == outcome(uninterrupted)
        assert {path.name for path in out.iterdir()} == {path.name for path in uninterrupted.iterdir()}


def test_full_disk_is_told_with_the_file_that_did_not_fit(uninterrupted, tmp_path):
    """Whatever file it is."""
    errors = interrupted_runs(tmp_path, "full", 13)
    assert len(errors) > 8
    for error in errors:
        assert f"{tmp_path}/" in error
        assert ": not written (" in error
    assert len({Path(error.split(": not written")[0]).name for error in errors}) > 3
    for out in tmp_path.iterdir():
        assert outcome(out) == outcome(uninterrupted)
