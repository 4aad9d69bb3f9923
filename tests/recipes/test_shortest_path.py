"""training/README.md's shortest path, command by command, with small weights under the published names."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch

from asuka_modules import checkpoints
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig

pytestmark = pytest.mark.trains

ROOT = Path(__file__).parents[2]
SMALL = {
    "run.steps": 1,
    "run.batch_size": 1,
    "run.gradient_accumulation_steps": 1,
    "run.workers": 0,
    **{
        f"{latents}.{key}": value
        for latents in ("latents", "validation")
        for key, value in {
            "count": 1,
            "workers": 0,
            "data.size": 64,
            "masks.size": 64,
            "masks.irregular": "[small-256]",
        }.items()
    },
}


def commands() -> list[str]:
    """The block's lines that run our modules."""
    text = (ROOT / "training" / "README.md").read_text()
    block = re.search(r"## The shortest path.*?```\n(.*?)```", text, re.DOTALL)[1]
    return re.findall(r"python -m (training\..*)", block.replace("\\\n", " "))


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with what the block wants to find in weights/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training").symlink_to(ROOT / "training")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "sd-v1-5-inpainting.safetensors").symlink_to(ROOT / "demo" / "asuka-miniature-base.safetensors")
    mae = MAE(MAEConfig(embed_dim=768, depth=1, num_heads=12, decoder_depth=1, partial_patches=True))
    mae.init_weights()
    torch.save({"model": mae.state_dict()}, weights / "mae_300.pth")
    decoder = HarmonizingDecoder(DecoderConfig(ch=32, num_res_blocks=1))
    torch.save({"state_dict": decoder.state_dict()}, weights / "ASYMMETRIC_VQGAN.ckpt")
    return tmp_path


def test_shortest_path(workplace, photos, masks, monkeypatch, capsys):
    for command in commands():
        command = command.replace("OTHER_PHOTOS", str(photos)).replace("PHOTOS", str(photos))
        module, *arguments = shlex.split(command)
        if module == "training.align":
            small = SMALL | {f"{latents}.masks.objects": masks for latents in ("latents", "validation")}
            arguments += [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        runpy.run_module(module, run_name="__main__")
    assert "TFLOP" in capsys.readouterr().out  # of the dry run
    parts = checkpoints.load(workplace / "asuka-sd15.safetensors")
    assert parts.keys() == {"mae", "alignment", "decoder"}
    assert parts["alignment"].config.prior_dim == parts["mae"].config.decoder_embed_dim
