"""Weight files describe themselves, round-trip, and say what is wrong with them."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asuka_modules import checkpoints
from asuka_modules.alignment import VARIANTS, Alignment
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from asuka_modules.spl import SPLConfig, SPLGenerator
from asuka_modules.weight_file import CheckpointError, WeightFile

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
        ('{"format": 1, "parts": {"shell": {}}}', "unknown part 'shell'; expected mae, alignment"),
        ('{"format": 1, "parts": {}}', "its description names no networks"),
        ('{"format": 1e999, "parts": {}}', "its description is damaged"),
        ('{"format": ' + "9" * 5000 + ', "parts": {}}', "its description is damaged"),
        ("[" * 200_000 + "]" * 200_000, "its description is damaged"),
        ('{"format": 1, "parts": ' + '{"mae":' * 200_000 + "0" + "}" * 200_001, "its description is damaged"),
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


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("mae", {"depth": 10**9}, r"its description says depth is for 1000000000 of blocks\.\*, but it holds 2"),
        ("mae", {"depth": 10**5}, r"its description says depth is for 100000 of blocks\.\*, but it holds 2"),
        ("mae", {"decoder_depth": 10**30}, r"says decoder_depth is for 10+ of decoder_blocks\.\*, but it holds 2"),
        ("mae", {"depth": "many"}, "MAEConfig says depth is 'many', expected an integer of 0 or more; download"),
        ("mae", {"depth": True}, "MAEConfig says depth is True, expected an integer"),
        ("mae", {"depth": 2.0}, "MAEConfig says depth is 2.0, expected an integer"),
        ("mae", {"depth": None}, "MAEConfig says depth is None, expected an integer"),
        ("mae", {"num_heads": -4}, "MAEConfig says num_heads is -4, expected an integer of 0 or more"),
        ("mae", {"num_heads": "4"}, "MAEConfig says num_heads is '4', expected an integer"),
        ("mae", {"num_heads": 0}, "cannot build a mae from"),
        ("mae", {"num_heads": 7}, "cannot build a mae from .*7 heads do not divide"),
        ("mae", {"prior_depth": "6"}, "MAEConfig says prior_depth is '6', expected an integer"),
        ("mae", {"prior_depth": -1}, "MAEConfig says prior_depth is -1, expected an integer of 0 or more"),
        ("mae", {"mlp_ratio": float("nan")}, "MAEConfig says mlp_ratio is nan, expected a number"),
        ("mae", {"mlp_ratio": 1e300}, "cannot build a mae from"),
        ("mae", {"mlp_ratio": "4"}, "MAEConfig says mlp_ratio is '4', expected a number"),
        ("mae", {"class_token": "no"}, "MAEConfig says class_token is 'no', expected true or false"),
        ("mae", {"patch_size": 0}, "its description gives the mae a size of 0; download it again"),
        ("mae", {"image_size": 65}, "image_size is 65, expected a multiple of patch_size, 8"),
        ("mae", {"image_size": 8 * 10**9}, "cannot build a mae from|pos_embed is"),
        ("mae", {"embed_dim": 10**12}, "cannot build a mae from|is .* not"),
        ("alignment", {"depth": 10**9}, r"depth is for 1000000000 of blocks\.\*, but it holds 4"),
        ("alignment", {"head_dim": 0}, "its description gives the alignment a size of 0; download it again"),
        ("alignment", {"head_dim": 48}, "context_dim is 64, expected a multiple of head_dim, 48"),
        ("alignment", {"num_queries": 10**15}, "cannot build a alignment from|queries is"),
        ("decoder", {"ch_mult": [1] * 10**5}, r"ch_mult is for 100000 of decoder\.up\.\*, but it holds 2"),
        ("decoder", {"ch_mult": []}, r"ch_mult is for 0 of decoder\.up\.\*, but it holds 2"),
        ("decoder", {"ch_mult": [1, -2]}, "DecoderConfig says ch_mult is -2, expected an integer of 0 or more"),
        ("decoder", {"ch_mult": 2}, "DecoderConfig says ch_mult is 2, expected"),
        ("decoder", {"num_res_blocks": 10**9}, "num_res_blocks is for 1000000000 of"),
        ("decoder", {"norm_groups": -32}, "DecoderConfig says norm_groups is -32, expected an integer"),
        ("decoder", {"mask_reduction": "mean"}, "mask_reduction is 'mean', expected 'nearest' or 'area'"),
        ("decoder", {"mask_reduction": "x" * 10**6}, "mask_reduction is 'x{200,300}$"),
        ("spl", {"dense_blocks": 10**9}, r"dense_blocks is for 1000000000 of rdbs\.\*, but it holds 2"),
        ("spl", {"dense_layers": 10**9}, r"dense_layers is for 1000000000 of rdbs\.0\.layers\.\*, but it holds 2"),
        ("spl", {"middle_blocks": 10**9}, r"middle_blocks is for 1000000000 of middle\.\*, but it holds 1"),
    ],
)  # fmt: skip
def test_description_is_checked_against_the_tensors(bundle, tmp_path, part, values, message):
    """Before anything is built: a network of 10^9 blocks would never be done, and could not be cancelled."""
    checkpoints.save(tmp_path / "spl.safetensors", {"spl": SPLGenerator(SPLConfig(8, 16, 2, 2, 4, 1, 1))})
    path = tmp_path / "spl.safetensors" if part == "spl" else bundle
    rewrite(path, lambda tensors, described: described["parts"][part].update(values))
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=message) as error:
        [found.build() for found in checkpoints.load(path).values()]
    assert time.monotonic() - start < 30
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1000
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_value_that_is_not_finite_is_named_with_its_tensor(bundle, value, dtype):
    def change(tensors, described):
        tensors.update({key: tensor.to(dtype) for key, tensor in tensors.items()})
        tensors["decoder.decoder.conv_in.bias"][-1] = value

    rewrite(bundle, change)
    with pytest.raises(
        CheckpointError,
        match=r"bundle\.safetensors: decoder\.decoder\.conv_in\.bias of \d+ tensors hold NaN or infinity; download",
    ):
        checkpoints.load(bundle)


def test_nan_in_fp8_is_named_and_large_values_pass(bundle):
    def change(tensors, described):
        tensors["mae.norm.bias"] = torch.full((32,), 448.0).to(torch.float8_e4m3fn)
        tensors["mae.norm.weight"] = torch.full((32,), 65504.0).half()
        tensors["mae.decoder_norm.bias"] = torch.full((16,), 3e38)

    rewrite(bundle, change)
    checkpoints.load(bundle)["mae"].build()
    rewrite(bundle, lambda tensors, described: tensors["mae.norm.bias"].view(torch.uint8).fill_(0x7F))
    with pytest.raises(CheckpointError, match=r"mae\.norm\.bias of"):
        checkpoints.load(bundle)


def test_what_is_not_used_of_a_file_may_hold_anything(tmp_path):
    tensors = {key: value for key, value in HarmonizingDecoder(DECODER_CONFIG).state_dict().items()}
    save_file(tensors | {"loss.logvar": torch.tensor(float("nan"))}, tmp_path / "published.safetensors")
    assert checkpoints.load(tmp_path / "published.safetensors")["decoder"].ignored_keys == ("loss.logvar",)


def test_file_that_is_changed_later_changes_nothing(bundle):
    """A mapped file that is truncated kills whoever touches what was there."""
    networks = {name: part.build() for name, part in checkpoints.load(bundle).items()}
    before = {key: value.clone() for key, value in networks["decoder"].state_dict().items()}
    bundle.write_bytes(bytes(bundle.stat().st_size))
    os.truncate(bundle, 10)
    assert all(torch.equal(value, before[key]) for key, value in networks["decoder"].state_dict().items())


def test_file_that_changes_while_it_is_read_is_named(bundle):
    content = bundle.read_bytes()
    file = WeightFile(bundle)
    bundle.write_bytes(content + b"more")
    with pytest.raises(CheckpointError, match=r"bundle\.safetensors: .*run again"):
        file.read(file.outline)
    bundle.write_bytes(content)
    file = WeightFile(bundle)
    os.truncate(bundle, len(content) // 2)
    with pytest.raises(CheckpointError, match=r"bundle\.safetensors: not read .*run again later"):
        file.read(file.outline)


@pytest.mark.parametrize("part", ["mae", "alignment", "decoder"])
def test_own_file_without_its_description_is_recognised(bundle, tmp_path, part):
    tensors = {key: value for key, value in load_file(bundle).items() if key.startswith(part)}
    save_file(tensors, tmp_path / "bare.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"bare\.safetensors: looks like ASUKA's own file, but without its description"
    ):
        checkpoints.load(tmp_path / "bare.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; download it again"),
        (b"\n<!DOCTYPE html>", "a web page, .*; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS's pointer to the weights; run git lfs pull"),
        (b"PK\x03\x04 photos.jpg", "a zip archive; unpack it and take the weights in it"),
        (b"GGUF\x03", "a GGUF file"),
        (b"\xff" * 100, "download it again"),
    ],
)  # fmt: skip
def test_other_kind_of_file_is_named(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"x\.safetensors: not a readable safetensors file \(.*{message}"):
        checkpoints.load(tmp_path / "x.safetensors")


def test_file_of_very_many_tensors_is_refused_at_once(tmp_path):
    """Names like those of blocks would otherwise be counted for hours."""
    tensors = {f"blocks.{i}.x": torch.zeros(0) for i in range(25_000)}
    keys = ("patch_embed.proj.weight", "decoder_embed.weight", "mask_token")
    save_file(tensors | {key: torch.zeros(1) for key in keys}, tmp_path / "many.safetensors")
    with pytest.raises(
        CheckpointError, match=r"many\.safetensors: contains 25003 tensors, more than any network of ours"
    ):
        checkpoints.load(tmp_path / "many.safetensors")


def test_names_in_a_file_cannot_spoil_its_message(bundle, tmp_path):
    """Line breaks, escape sequences of terminals, characters that cannot be written, and names of a megabyte."""
    path = tmp_path / "names.safetensors"
    odd = ("first\nsecond", "\x1b[31mred", "\u202eright to left", "x" * 10**6)
    for tensors, info in [({name: torch.zeros(1)}, None) for name in odd] + [
        ({"mae.x": torch.zeros(1)}, {"asuka": json.dumps({"format": 1, "parts": parts})})
        for parts in ({"\ud800": {}}, {"mae": {"\ud800": 1}}, {"mae": {"a\nb": 1}}, {"mae": {"x" * 10**6: 1}})
    ]:
        save_file(tensors, path, info)
        with pytest.raises(CheckpointError, match=r"names\.safetensors: ") as error:
            checkpoints.load(path)
        message = str(error.value)
        assert message.isprintable()
        assert len(message) < 800

    def flatten(tensors, described):
        tensors["mae.mask_token"] = tensors["mae.mask_token"].view(*[1] * 900, -1)

    rewrite(bundle, flatten)
    with pytest.raises(CheckpointError, match="size mismatch: mask_token is") as error:
        checkpoints.load(bundle)["mae"].build()
    assert len(str(error.value)) < 1000


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
