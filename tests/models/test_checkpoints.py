"""Weight files describe themselves, round-trip, and say what is wrong with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asuka_modules import checkpoints
from asuka_modules.alignment import VARIANTS, Alignment
from asuka_modules.checkpoints import CheckpointError
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig

MAE_CONFIG = MAEConfig(64, 8, 32, 2, 4, 16, 2, 2, prior_depth=1, partial_patches=True)
DECODER_CONFIG = DecoderConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, concat_mask=True)


@pytest.fixture
def bundle(tmp_path) -> Path:
    torch.manual_seed(0)
    networks = {
        "mae": MAE(MAE_CONFIG),
        "alignment": Alignment(replace(VARIANTS["cross4"], context_dim=64, num_queries=5, empty_tokens=2)),
        "decoder": HarmonizingDecoder(DECODER_CONFIG),
    }
    checkpoints.save(tmp_path / "bundle.safetensors", networks, {"license": "test"})
    return tmp_path / "bundle.safetensors"


def test_round_trip(bundle, tmp_path):
    parts = checkpoints.load(bundle)
    networks = {name: part.build() for name, part in parts.items()}
    assert networks["mae"].config == MAE_CONFIG
    assert networks["decoder"].config == DECODER_CONFIG
    checkpoints.save(tmp_path / "again.safetensors", networks, {"license": "test"})
    first, again = load_file(bundle), load_file(tmp_path / "again.safetensors")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_half_precision_file_builds_in_its_own_or_a_given_type(bundle, tmp_path):
    networks = {name: part.build() for name, part in checkpoints.load(bundle).items()}
    checkpoints.save(tmp_path / "half.safetensors", networks, dtype=torch.float16)
    part = checkpoints.load(tmp_path / "half.safetensors")["decoder"]
    assert {p.dtype for p in part.build().parameters()} == {torch.float16}
    assert {p.dtype for p in part.build(dtype=torch.float32).parameters()} == {torch.float32}


def test_published_layouts_are_ours():
    """Released weights load by name: the keys are those of the seed repositories."""
    with torch.device("meta"):
        mae = set(MAE(replace(MAE_CONFIG, class_token=True)).state_dict())
        decoder = set(HarmonizingDecoder().state_dict())
    assert {
        "cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.1.norm1.weight", "blocks.1.attn.qkv.bias", "blocks.1.attn.proj.weight",
        "blocks.1.mlp.fc1.weight", "norm.weight", "mask_token", "decoder_embed.weight", "decoder_pos_embed", "decoder_blocks.1.mlp.fc2.bias",
        "decoder_norm.bias", "decoder_pred.weight", "decoder_patch_embed.proj.weight", "alpha",
    } <= mae  # fmt: skip
    assert {
        "post_quant_conv.weight", "decoder.conv_in.weight", "decoder.mid.block_1.norm1.weight", "decoder.mid.attn_1.proj_out.weight",
        "decoder.up.0.block.0.nin_shortcut.weight", "decoder.up.3.block.2.conv2.bias", "decoder.up.1.upsample.conv.weight",
        "decoder.norm_out.weight", "decoder.conv_out.bias", "decoder.encoder.layers.4.weight",
    } <= decoder  # fmt: skip


def test_damaged_file_is_named(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-1000])
    with pytest.raises(
        CheckpointError, match=r"bundle.safetensors: not a readable safetensors file .* download it again"
    ):
        checkpoints.load(bundle)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors: no such file"):
        checkpoints.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lora_up.weight", r"not recognized; it contains 1 tensors such as lora_up.weight. Known: ASUKA's own; a cond"),
        ("blocks.0.attn.qkv.weight", "looks like a vision transformer's encoder only .*without a MAE's decoder there is no prior"),
        ("decoder.conv_in.weight", "looks like a VAE without a condition encoder; use it in Load VAE"),
        ("model.diffusion_model.out.2.weight", "looks like a Stable Diffusion checkpoint; use it in Load Checkpoint"),
        ("double_blocks.0.img_attn.qkv.weight", "looks like FLUX's transformer; use it in Load Diffusion Model"),
    ],
)  # fmt: skip
def test_foreign_file_is_named_with_what_it_looks_like(tmp_path, key, message):
    save_file({key: torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors: " + message):
        checkpoints.load(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_is_refused_unread(tmp_path, zipped):
    torch.save({}, tmp_path / "mae.safetensors", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"mae.safetensors: looks like a PyTorch pickle.*python convert\.py mae"):
        checkpoints.load(tmp_path / "mae.safetensors")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{", "its description is damaged"),
        ('{"format": 1}', "its description is damaged"),
        ('{"format": 1, "parts": {"mae": 5}}', "its description is damaged"),
        ('{"format": 1, "parts": {"mae": {"depth": "many"}}}', "cannot build a mae from"),
        ('{"format": 1, "parts": {"mae": {"num_heads": 7}}}', "cannot build a mae from .*7 heads do not divide"),
        ('{"format": 1, "parts": {"mae": {"num_heads": 0}}}', "cannot build a mae from"),
        ('{"format": 1, "parts": {"mae": {"num_heads": "8"}}}', "cannot build a mae from"),
        ('{"format": 1, "parts": {"alignment": {"head_dim": 0}}}', "cannot build a alignment from"),
        ('{"format": 1, "parts": {"shell": {}}}', "unknown part 'shell'; expected mae, alignment"),
    ],
)
def test_damaged_description_is_named(tmp_path, description, message):
    save_file({"mae.x": torch.zeros(1)}, tmp_path / "odd.safetensors", {"asuka": description})
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: " + message):
        [part.build() for part in checkpoints.load(tmp_path / "odd.safetensors").values()]


def rewrite(path: Path, change) -> None:
    """Changes tensors and description of a file in place."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors, described = load_file(path), json.loads(metadata["asuka"])
    change(tensors, described)
    save_file(tensors, path, {"asuka": json.dumps(described)})


def test_wrong_tensors_are_named(bundle):
    def change(tensors, described):
        del tensors["mae.norm.weight"]
        tensors["mae.extra"] = torch.zeros(1)
        tensors["mae.mask_token"] = torch.zeros(1, 1, 3)

    rewrite(bundle, change)
    with pytest.raises(CheckpointError) as error:
        checkpoints.load(bundle)["mae"].build()
    for part in (
        str(bundle),
        "missing: norm.weight (1)",
        "unexpected: extra (1)",
        "mask_token is (1, 1, 3), not (1, 1, 16)",
    ):
        assert part in str(error.value)


def test_quantized_tensors_are_named(bundle):
    rewrite(bundle, lambda tensors, described: tensors.update({"mae.norm.weight": torch.ones(32, dtype=torch.int8)}))
    with pytest.raises(CheckpointError, match=r"integers, perhaps quantized: norm.weight \(1\)"):
        checkpoints.load(bundle)["mae"].build()


def test_newer_formats_ask_for_an_update(bundle):
    rewrite(bundle, lambda tensors, described: described.update(format=99))
    with pytest.raises(CheckpointError, match="format 99 is newer than 1; update the extension"):
        checkpoints.load(bundle)
    rewrite(bundle, lambda tensors, described: (described.update(format=1), described["parts"]["mae"].update(magic=1)))
    with pytest.raises(CheckpointError, match="MAEConfig has no magic; update the extension"):
        checkpoints.load(bundle)
