"""The MAE's recipe: what it starts from, and what its loss counts."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny import TINY_MAE, run_config

from asuka_modules import checkpoints
from asuka_modules.mae import MAE
from training import mae
from training.data import DataConfig, Photos, to_float
from training.engine import config
from training.engine.git_revision import git_revision
from training.masks import MaskConfig
from training.weights.mae import random_mae, start_from


@pytest.mark.parametrize("partial_patches", [False, True])
def test_mae(photos, masks, tmp_path, partial_patches):
    recipe = mae.MAERecipe(
        data=DataConfig(folders=(str(photos),), size=64),
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(tmp_path, ema=0.9),
        model=replace(TINY_MAE, partial_patches=partial_patches),
    )
    trained = mae.train(recipe)
    saved = checkpoints.load(tmp_path / "mae.safetensors")["mae"].build()
    noted = json.loads((tmp_path / "run.json").read_text())
    assert (noted["steps"], noted["recipe"]["data"]["folders"], noted["commit"]) == (2, [str(photos)], git_revision())
    assert saved.config == recipe.model
    assert all(torch.equal(v, saved.state_dict()[k]) for k, v in trained.state_dict().items())
    continued = mae.train(replace(recipe, run=run_config(tmp_path / "more"), init=str(tmp_path / "mae.safetensors")))
    assert not torch.equal(continued.mask_token, trained.mask_token)
    with pytest.raises(config.ConfigError, match=r"depth=2.*but model is .*depth=3"):
        mae.train(replace(recipe, init=str(tmp_path / "mae.safetensors"), model=replace(recipe.model, depth=3)))


def test_partial_patches_begin_as_the_plain_mae(tmp_path):
    plain = random_mae(TINY_MAE)
    checkpoints.save(tmp_path / "plain.safetensors", {"mae": plain})
    partial = start_from(str(tmp_path / "plain.safetensors"), replace(TINY_MAE, partial_patches=True))
    image, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[..., 10:30, 10:31] = 1
    assert partial.config.partial_patches
    assert torch.equal(partial.decoder_features(image, mask), plain.decoder_features(image, mask))
    checkpoints.save(tmp_path / "partial.safetensors", {"mae": partial})
    with pytest.raises(config.ConfigError, match=r"partial_patches=True.*but model is .*partial_patches=False"):
        start_from(str(tmp_path / "partial.safetensors"), TINY_MAE)


def test_weight_of_partial_patches_comes_back_from_beyond_one():
    """Where the clamp alone would have no gradient any more."""
    partial = random_mae(replace(TINY_MAE, partial_patches=True)).train()
    image, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[..., 10:30, 10:31] = 1
    torch.nn.init.constant_(partial.alpha, 1.01)
    partial.decoder_features(image, mask).square().sum().backward()
    assert partial.alpha == 1
    assert partial.alpha.grad != 0


def assert_encodes_like(found: MAE, reference: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    reference.load_state_dict(state)
    image = found.normalize(torch.rand(1, 3, 256, 256))
    with torch.no_grad():
        tokens, *_ = found.encode(image, torch.zeros(1, 256, dtype=torch.bool))
        torch.testing.assert_close(tokens, reference.forward_features(image), atol=1e-4, rtol=1e-4)


def test_mae_begins_with_timms_encoder(tmp_path):
    """Whose position embedding is for 224 pixels; the class token is dropped, the decoder begins at random."""
    encoder = timm.models.VisionTransformer(img_size=224, embed_dim=512, depth=2, num_heads=16, num_classes=7)
    path = tmp_path / "encoder.safetensors"
    save_file(encoder.state_dict(), path)
    found = start_from(str(path), None)
    torch.save({"model": encoder.state_dict()}, tmp_path / "mae_pretrain_vit.pth")  # facebook's
    from_pickle = start_from(str(tmp_path / "mae_pretrain_vit.pth"), None)
    assert from_pickle.config == found.config
    assert all(
        torch.equal(found.state_dict()[k], v) for k, v in from_pickle.state_dict().items() if k.startswith("blocks")
    )
    assert (found.config.depth, found.config.num_heads, found.config.decoder_depth) == (2, 16, 8)
    shape = {"img_size": 256, "embed_dim": 512, "depth": 2, "num_heads": 16, "num_classes": 0}
    state = {key: value for key, value in encoder.state_dict().items() if not key.startswith("head.")}
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], [16, 16], antialias=False)
    without = {key: value for key, value in state.items() if key != "cls_token"}
    assert_encodes_like(
        found,
        timm.models.VisionTransformer(**shape, class_token=False, global_pool="avg", fc_norm=False),
        without | {"pos_embed": state["pos_embed"][:, 1:]},
    )
    kept = start_from(str(path), replace(found.config, class_token=True))
    assert_encodes_like(kept, timm.models.VisionTransformer(**shape), state)
    del state["norm.weight"]
    save_file(state, path)
    with pytest.raises(checkpoints.CheckpointError, match=r"no norm.weight; expected a MAE's encoder"):
        start_from(str(path), None)
    save_file(timm.models.VisionTransformer(embed_dim=384, depth=1, num_heads=6).state_dict(), path)
    with pytest.raises(checkpoints.CheckpointError, match=r"the encoder is 384 wide; expected one of \[512, 768,"):
        start_from(str(path), None)


def test_class_token_of_a_whole_mae_is_dropped(tmp_path):
    published = random_mae(replace(TINY_MAE, class_token=True))
    checkpoints.save(tmp_path / "published.safetensors", {"mae": published})
    found = start_from(str(tmp_path / "published.safetensors"), None)
    assert found.config == TINY_MAE
    before, after = published.state_dict(), found.state_dict()
    assert before.keys() - after.keys() == {"cls_token"}
    for name, value in after.items():
        assert torch.equal(value, before[name][:, 1:] if name.endswith("pos_embed") else before[name]), name


def test_mae_loss_does_not_depend_on_how_a_batch_is_split(photos, masks):
    for partial in (False, True):
        objective = mae.MAEObjective(random_mae(replace(TINY_MAE, partial_patches=partial)))
        dataset = Photos(
            DataConfig(folders=(str(photos),), size=64), 0, mae.RandomHiddenPatches(MaskConfig(str(masks), size=64), 16)
        )
        samples = [dataset[i] for i in range(4)]
        with torch.no_grad():
            whole, first, second = (
                objective(to_float(torch.utils.data.default_collate(part)))[0]
                for part in (samples, samples[:1], samples[1:])
            )
        torch.testing.assert_close(whole, (first + 3 * second) / 4)


def test_mae_loss_counts_hidden_pixels_only(photos, masks):
    """A visible patch, and for partial patches a known pixel, may be predicted as badly as one likes."""
    torch.manual_seed(0)
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 10:30, 10:30] = 1
    for partial in (False, True):
        network = MAE(replace(TINY_MAE, partial_patches=partial))
        network.init_weights()
        hidden = mae.hidden_patches(mask, 16)
        hidden[0, 200:] = True  # topped up
        objective = mae.MAEObjective(network)
        predicted = network(network.normalize(image).masked_fill(mask > 0.5, 0.0), mask, hidden)
        error = (network.unpatchify(predicted) - network.normalize(image)).square().mean(1, keepdim=True)
        patches = torch.nn.functional.interpolate(hidden.view(1, 1, 16, 16).float(), scale_factor=4)
        topped_up = patches.clone()
        topped_up[..., :48, :] = 0
        weight = torch.maximum(mask, topped_up) if partial else patches
        expected = (error * weight).sum() / weight.sum()
        found, _ = objective({"image": image, "mask": mask, "hidden": hidden})
        torch.testing.assert_close(found, expected)
