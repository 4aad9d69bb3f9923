"""Trained parts become one file with a model card that tells how they were made."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.mae import MAE, MAEConfig
from training.engine.git_revision import git_revision
from training.weights.card import card
from training.weights.export import export, main

LOG = "step,loss,grad_norm,lr,images_per_second\n20,1.5,1,1e-3,40\n40,0.5,1,1e-3,10\n"


def test_export_joins_parts_and_tells_what_they_took(tmp_path):
    mae = MAE(MAEConfig(embed_dim=32, depth=1, num_heads=2, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2))
    alignment = Alignment(AlignmentConfig(prior_dim=16, context_dim=32, depth=1, head_dim=16))
    (tmp_path / "mae").mkdir()
    run = {"batch_size": 90, "lr": 1e-3, "hardware": "1 x abacus", "recipe": {"data": {"folders": ["a", "b.tar"]}}}
    (tmp_path / "mae" / "run.json").write_text(json.dumps(run))
    (tmp_path / "mae" / "log.csv").write_text(LOG)
    parts = {"mae": tmp_path / "mae" / "mae.safetensors", "alignment": tmp_path / "alignment.safetensors"}
    for (name, path), network in zip(parts.items(), (mae, alignment), strict=True):
        checkpoints.save(path, {name: network})
    out = tmp_path / "out" / "both.safetensors"
    export(parts, out, torch.float16, {"license": "CC0"})

    joined = checkpoints.load(out)
    assert joined.keys() == parts.keys()
    weight = mae.state_dict()["patch_embed.proj.weight"]
    assert torch.equal(joined["mae"].state_dict["patch_embed.proj.weight"], weight.half())
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["license"] == "CC0"
        assert json.loads(file.metadata()["mae training"])["batch_size"] == 90
        assert "alignment training" not in file.metadata()
        assert file.metadata()["variants"] == "ViT 1 x 32; attn"
    lines = out.with_suffix(".md").read_text().splitlines()
    size = sum(p.numel() for p in mae.state_dict().values()) / 1e6
    # 20 * 90 images at 40/s and 20 * 90 at 10/s are 225 s
    assert lines[4] == f"| mae | ViT 1 x 32 | {size:.2f} M | 40 | 90 | 0.001 | 0.5 | 0.06 | 1 x abacus |"
    assert lines[5].startswith("| alignment | attn |")
    assert "- photos of mae: a, b.tar" in lines
    assert "- license: CC0" in lines

    best = tmp_path / "mae" / "best" / "mae.safetensors"  # as a run keeps them
    best.parent.mkdir()
    checkpoints.save(best, {"mae": mae})
    export({"mae": best}, out, torch.float16, {})
    assert out.with_suffix(".md").read_text().splitlines()[4] == lines[4]


def test_metadata_without_a_value(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", "--mae", "a", "--out", "b", "--info", "license"])
    with pytest.raises(SystemExit):
        main()
    assert "--info license; expected KEY=VALUE" in capsys.readouterr().err


def test_commit_without_git_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_revision() == "unknown"


def best_of_a_run(folder: Path, note: dict | None) -> Path:
    """A run that was best at its first row, as it keeps those weights."""
    (folder / "best").mkdir(parents=True)
    run = {"batch_size": 90, "lr": 1e-3, "hardware": "1 x abacus", "recipe": {"base": "sd.ckpt"}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "log.csv").write_text(LOG)
    (folder / "validation.csv").write_text("step,a,b\n20,0.5,0.25\n40,0.5,0.75\n")
    if note is not None:
        (folder / "best" / "best.json").write_text(json.dumps(note))
    path = folder / "best" / "alignment.safetensors"
    checkpoints.save(
        path, {"alignment": Alignment(AlignmentConfig(prior_dim=16, context_dim=32, depth=1, head_dim=16))}
    )
    return path


@pytest.mark.parametrize("note", [{"step": 20, "validation": {"a": 0.5, "b": 0.25}}, None])
def test_card_of_the_best_weights_tells_their_step(tmp_path, note):
    """Also of a run by a version that left no note."""
    text = card("best", {"alignment": best_of_a_run(tmp_path / "run", note)}, {})
    assert "| 20 | 90 | 0.001 | 1.5 | 0.01 | 1 x abacus |" in text  # 20 * 90 images at 40/s are 45 s
    assert "- validation of alignment: a 0.5, b 0.25, the lowest of the run's, at step 20" in text
    assert "- base of alignment: sd.ckpt" in text


def test_card_of_best_weights_that_a_run_died_over_tells_no_step(tmp_path):
    assert "|  | 90 | 0.001 |  |  | 1 x abacus |" in card(
        "best", {"alignment": best_of_a_run(tmp_path / "run", {})}, {}
    )


def test_card_names_where_a_part_that_was_not_trained_here_is_from(tmp_path):
    path = tmp_path / "alignment.safetensors"
    alignment = Alignment(AlignmentConfig(prior_dim=16, context_dim=32, depth=1, head_dim=16))
    checkpoints.save(path, {"alignment": alignment}, {"converted from": "alignment: a.pth (ASUKA's release)"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = f"- source of alignment: alignment.safetensors, SHA-256 {digest}: alignment: a.pth (ASUKA's release)"
    assert source in card("c", {"alignment": path}, {})


def test_damaged_note_is_named_before_anything_is_written(tmp_path, monkeypatch, capsys):
    path, out = best_of_a_run(tmp_path / "run", None), tmp_path / "out.safetensors"
    (tmp_path / "run" / "run.json").write_text('{"batch')
    monkeypatch.setattr(sys, "argv", ["export", "--alignment", str(path), "--out", str(out)])
    with pytest.raises(SystemExit):
        main()
    assert "run.json is damaged; start its run's command again" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("log", ["", "step,lo", LOG + "60,0.", "step,loss\n20,0.5\n"])
def test_card_survives_a_cut_log(tmp_path, log):
    path = best_of_a_run(tmp_path / "run", None)
    (tmp_path / "run" / "log.csv").write_text(log)
    assert "| alignment | attn |" in card("c", {"alignment": path}, {})
