"""Conversion of published files: what the release looks like goes in, what the nodes load comes out, nothing runs."""

import argparse
import os
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AsymmetricAutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from asuka_modules.weight_file import CheckpointError
from training.weights.convert import convert

MAE_CONFIG = MAEConfig(embed_dim=768, depth=1, num_heads=12, decoder_depth=1, partial_patches=True)
DECODER_CONFIG = DecoderConfig(32, (1, 2), 1, 16, False, True, "area")


def random_network(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def released_alignment(network: Alignment) -> dict[str, Tensor]:
    """The weights under the release's names, with the modulation that it never uses."""
    last = str(network.config.depth + 1)
    renamed = {}
    for key, value in network.state_dict().items():
        match key.split("."):
            case ["proj_in", parameter]:
                renamed[f"0.{parameter}"] = value
            case ["norm", parameter]:
                renamed[f"{last}.{parameter}"] = value
            case ["blocks", i, ("query_norm" | "key_norm") as norm, "weight"]:
                renamed[f"{int(i) + 1}.norm.{norm}.scale"] = value
            case ["blocks", i, *rest]:
                renamed[f"{int(i) + 1}.{'.'.join(rest)}"] = value
    dim = network.config.context_dim
    return renamed | {
        "1.modulation.lin.weight": torch.zeros(3 * dim, dim),
        "1.modulation.lin.bias": torch.zeros(3 * dim),
    }


@pytest.fixture
def release(tmp_path, monkeypatch) -> tuple[Path, dict[str, nn.Module]]:
    """A folder like ASUKA-FLUX's, with what training leaves in checkpoints, and the networks that are in it."""
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"):
        lightning = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, lightning)
    lightning.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": lightning.__name__})
    networks = {
        "mae": random_network(MAE(MAE_CONFIG)),
        "alignment": random_network(Alignment(AlignmentConfig(context_dim=128, depth=1))),
        "alignment_pooled": random_network(Alignment(AlignmentConfig(depth=1))),
        "decoder": random_network(HarmonizingDecoder(DECODER_CONFIG)),
    }
    folder = tmp_path / "ckpt"
    folder.mkdir()
    options = argparse.Namespace(lr=1e-3, resume="")
    mae = {"model": networks["mae"].state_dict(), "epoch": 300, "args": options, "scaler": {"scale": np.float64(2.0)}}
    torch.save(mae, folder / "mae_300.pth")
    for name, key in (("clip", "alignment_pooled"), ("t5", "alignment")):
        torch.save(released_alignment(networks[key]), folder / f"asuka_alignment_{name}.pt")
    decoder = networks["decoder"].state_dict() | {
        "encoder.conv_in.weight": torch.zeros(32, 3, 3, 3),
        "loss.logvar": torch.zeros(()),
        "decoder.up_layers.0.deconv.weight": torch.zeros(32, 32, 4, 4),
    }
    callbacks = {lightning.ModelCheckpoint: {"best_model_path": "x"}}
    torch.save({"state_dict": decoder, "epoch": 1, "callbacks": callbacks}, folder / "asuka_decoder.ckpt")
    return folder, networks


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_release_becomes_one_file(release, tmp_path):
    folder, networks = release
    report = "\n".join(convert([folder], tmp_path / "models" / "asuka-flux.safetensors"))
    parts = checkpoints.load(tmp_path / "models" / "asuka-flux.safetensors")
    assert parts.keys() == networks.keys()
    for name, network in networks.items():
        assert parts[name].config == network.config
        assert_same(parts[name].build().state_dict(), network.state_dict())
    assert "asuka_decoder.ckpt: a conditional decoder of Asymmetric VQGAN or ASUKA-FLUX" in report
    assert "left out: encoder (1 tensors), loss (1 tensors), decoder (1 tensors)" in report
    assert "left out: modulation (2 tensors)" in report


def test_stored_empty_prompt_goes_into_the_alignment(release, tmp_path):
    folder, _ = release
    empty, pooled = torch.randn(1, 256, 128), torch.randn(1, 768)
    for name, tensor in {
        "txt_256": empty,
        "txt": torch.randn(1, 512, 128),
        "vec": pooled,
        "img_ids_512": torch.zeros(1, 1024, 3),
    }.items():
        torch.save(tensor, folder / f"{name}.pt")
    report = convert([folder], tmp_path / "flux.safetensors")
    networks = {name: part.build() for name, part in checkpoints.load(tmp_path / "flux.safetensors").items()}
    assert torch.equal(networks["alignment"].empty_context, empty)
    assert torch.equal(networks["alignment_pooled"].empty_context, pooled[:, None])
    assert "txt_256.pt: the empty prompt, (1, 256, 128) -> alignment" in report
    assert [line for line in report if "left out, a tensor" in line] == [
        "img_ids_512.pt: left out, a tensor (1, 1024, 3) is no network",
        "txt.pt: left out, a tensor (1, 512, 128) is no network",
    ]


def test_converted_file_converts_to_itself(release, tmp_path):
    folder, _ = release
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    convert([folder], first)
    convert([first], second)
    assert_same(load_file(first), load_file(second))


def test_half_precision(release, tmp_path):
    folder, networks = release
    convert([folder / "mae_300.pth"], tmp_path / "mae.safetensors", torch.float16)
    built = checkpoints.load(tmp_path / "mae.safetensors")["mae"].build(dtype=torch.float32).state_dict()
    expected = {key: value.half().float() for key, value in networks["mae"].state_dict().items()}
    assert_same(built, expected)


@pytest.mark.parametrize("safe", [True, False])
def test_diffusers_folder(safe, tmp_path):
    channels = (32, 64, 128, 128)
    model = AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=channels,
    )
    model.save_pretrained(tmp_path / "vae", safe_serialization=safe)
    if safe:  # as on Hugging Face, where the pickle stays beside it
        torch.save({}, tmp_path / "vae" / "diffusion_pytorch_model.bin")
    save_file(model.state_dict(), tmp_path / "single.safetensors")
    convert([tmp_path / "vae"], tmp_path / "decoder.safetensors")
    from_folder = checkpoints.load(tmp_path / "decoder.safetensors")["decoder"]
    from_file = checkpoints.load(tmp_path / "single.safetensors")["decoder"]
    assert from_folder.config == from_file.config
    assert_same(from_folder.build().state_dict(), from_file.build().state_dict())


class Hostile:
    """Runs a shell command when unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_pickle_that_runs_code_is_refused_and_does_not_run(kind, tmp_path):
    proof, file = tmp_path / "ran", tmp_path / "mae_300.pth"
    content = {"model": random_network(MAE(MAE_CONFIG)).state_dict(), "args": Hostile(f"touch {proof}")}
    if kind == "plain":
        file.write_bytes(pickle.dumps(content["args"], protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(
        CheckpointError, match=r"mae_300\.pth: refused: it asks to run (posix|nt)\.system, expected were tensors only"
    ):
        convert([file], tmp_path / "out.safetensors")
    assert not proof.exists()
    assert not (tmp_path / "out.safetensors").exists()
    file.rename(file.with_suffix(".safetensors"))  # renamed, it is no better
    with pytest.raises(CheckpointError, match="refused: it asks to run"):
        convert([file.with_suffix(".safetensors")], tmp_path / "out.safetensors")
    assert not proof.exists()


def test_whole_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"refused: it asks to run torch\.nn\.modules\.linear\.Linear"):
        convert([tmp_path / "module.pt"], tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; download it again"),
        (b"<html>Sign in</html>", "a web page, .*; download it again"),
        ("half", "damaged; download it again"),
    ],
)
def test_damaged_file_is_named(release, tmp_path, content, message):
    folder, _ = release
    file = folder / "mae_300.pth"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content == "half" else content)
    with pytest.raises(CheckpointError, match=rf"mae_300\.pth: not readable as PyTorch weights; {message}"):
        convert([folder], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"lora_up.weight": torch.zeros(1)}}, "not recognized; it contains 1 tensors such as lora_up"),
        ({"epoch": 3}, "not recognized; it contains 0 tensors"),
        ([torch.zeros(1)], "holds a list, not weights by name"),
        (torch.zeros(1, 4096), "holds no network, only embeddings"),
    ],
)
def test_unknown_content_is_named(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: " + message):
        convert([tmp_path / "x.pt"], tmp_path / "out.safetensors")


def test_incomplete_network_is_named_and_nothing_written(release, tmp_path):
    folder, _ = release
    content = torch.load(folder / "asuka_decoder.ckpt", weights_only=False)
    del content["state_dict"]["decoder.mid.attn_1.q.bias"]
    torch.save(content, folder / "asuka_decoder.ckpt")
    (tmp_path / "out.safetensors").write_text("before")
    with pytest.raises(CheckpointError, match=r"asuka_decoder\.ckpt: .* missing: decoder\.mid\.attn_1\.q\.bias \(1\)"):
        convert([folder], tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_text() == "before"


def test_pickle_under_another_name_is_converted_as_its_message_says(release, tmp_path):
    folder, networks = release
    file = folder / "mae.safetensors"
    (folder / "mae_300.pth").rename(file)
    with pytest.raises(CheckpointError) as error:
        checkpoints.load(file)
    source, destination = re.search(r"python convert\.py (\S+) (\S+)$", str(error.value)).groups()
    convert([folder / source], folder / destination)
    assert_same(checkpoints.load(folder / destination)["mae"].build().state_dict(), networks["mae"].state_dict())


@pytest.mark.parametrize("length", [0x0280, 0x0480])
def test_safetensors_file_that_begins_like_a_pickle_is_none(tmp_path, length):
    """By its first bytes, which are the length of its header."""
    file = tmp_path / "x.safetensors"
    padding = length - len(
        b'{"__metadata__":{"x":""},"lora_up.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    save_file({"lora_up.weight": torch.zeros(1)}, file, {"x": " " * padding})
    assert file.read_bytes()[:2] == length.to_bytes(2, "little")
    with pytest.raises(CheckpointError, match=r"x\.safetensors: not recognized; it contains 1 tensors such as lora_up"):
        convert([file], tmp_path / "out.safetensors")


def test_other_files_of_a_folder_are_named_and_left_out(release, tmp_path):
    folder, networks = release
    torch.save([1, 2], folder / "schedule.pt")
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.bin")
    torch.save({"lora_up.weight": torch.zeros(1)}, folder / "lora.pth")
    torch.save(argparse.ArgumentParser, folder / "training_args.bin")
    (folder / "words.bin").write_bytes(bytes(range(256)))
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, folder / "flux.safetensors")
    (folder / "index.json").write_text("{}")
    report = convert([folder], tmp_path / "out.safetensors")
    assert checkpoints.load(tmp_path / "out.safetensors").keys() == networks.keys()
    left_out = dict(line.split(": left out, ", 1) for line in report if ": left out, " in line)
    assert left_out.keys() == {
        "schedule.pt", "optimizer.bin", "lora.pth", "training_args.bin", "words.bin", "flux.safetensors"
    }  # fmt: skip
    assert left_out["schedule.pt"] == "holds a list, not weights by name"
    assert left_out["training_args.bin"].startswith("refused: it asks to run argparse.ArgumentParser")
    assert left_out["words.bin"] == "not readable as PyTorch weights, but another kind of file"
    assert left_out["flux.safetensors"].startswith("looks like FLUX's transformer")
    for name in networks:
        next(folder.glob({"mae": "mae*", "decoder": "*decoder*"}.get(name, "asuka_align*"))).unlink()
    with pytest.raises(
        CheckpointError, match=r"ckpt: holds no network, flux\.safetensors: left out, looks like FLUX's"
    ):
        convert([folder], tmp_path / "nothing.safetensors")


def test_file_with_nan_or_infinity_is_refused(tmp_path):
    state = random_network(MAE(MAE_CONFIG)).state_dict()
    state["decoder_embed.bias"][3] = float("inf")
    torch.save({"model": state}, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r"mae\.pth: decoder_embed\.bias of \d+ tensors hold NaN or infinity"):
        convert([tmp_path / "mae.pth"], tmp_path / "out.safetensors")


@pytest.mark.parametrize("safe", [True, False])
def test_shards_are_joined(tmp_path, safe):
    """Whether the folder or one of them is given."""
    network = random_network(MAE(MAE_CONFIG))
    state = list(network.state_dict().items())
    folder, name = tmp_path / "sharded", "model-{:05d}-of-00003." + ("safetensors" if safe else "bin")
    folder.mkdir()
    for i in range(3):
        (save_file if safe else torch.save)(dict(state[i::3]), folder / name.format(i + 1))
    for source in (folder, folder / name.format(2)):
        convert([source], tmp_path / "joined.safetensors")
        assert_same(checkpoints.load(tmp_path / "joined.safetensors")["mae"].build().state_dict(), network.state_dict())
    if safe:
        message = r"model-00002-of-00003\.safetensors: shard 2 of 3, .* python convert\.py FOLDER model\.safetensors"
        with pytest.raises(CheckpointError, match=message):
            checkpoints.load(folder / name.format(2))
    (folder / name.format(3)).unlink()
    with pytest.raises(CheckpointError, match=r"3 shards belong together, but model-00003-of-00003.* is missing; down"):
        convert([folder], tmp_path / "joined.safetensors")


def test_result_in_the_folder_is_no_source_of_the_next_conversion(release):
    folder, networks = release
    for _ in range(2):
        convert([folder], folder / "out.safetensors")
    assert checkpoints.load(folder / "out.safetensors").keys() == networks.keys()
    with pytest.raises(CheckpointError, match=r"out\.safetensors: is to be read and written; give another name"):
        convert([folder / "out.safetensors"], folder / "out.safetensors")


def test_two_files_for_one_part_are_refused(release, tmp_path):
    folder, _ = release
    (folder / "mae_200.pth").write_bytes((folder / "mae_300.pth").read_bytes())
    with pytest.raises(CheckpointError, match=r"mae_300\.pth: a second mae beside .*mae_200\.pth; give one of them"):
        convert([folder], tmp_path / "out.safetensors")


def test_command_line(release, tmp_path):
    """As the Python of ComfyUI's portable version runs it: from anywhere, with no folder of ours on its path."""
    folder, _ = release

    def run(*arguments: str | Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-I", str(Path(__file__).parents[2] / "convert.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    files = [folder / "mae_300.pth", folder / "asuka_decoder.ckpt"]
    done = run(*files, tmp_path / "out.safetensors")
    assert done.returncode == 0, done.stderr
    assert "mae_300.pth: a MAE of facebook's, MAE-FAR or ASUKA-FLUX" in done.stdout
    assert checkpoints.load(tmp_path / "out.safetensors").keys() == {"mae", "decoder"}
    failed = run(tmp_path / "nothing.pth", tmp_path / "out.safetensors")
    assert failed.returncode == 2
    assert failed.stderr.endswith("nothing.pth: no such file or folder\n")
    assert "Traceback" not in failed.stderr
    assert "expected a name that ends in .safetensors" in run(*files, tmp_path / "out.pth").stderr
