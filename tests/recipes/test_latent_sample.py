"""Sampled latents: of which cells, from what, and how the decoder's training gets them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny import TINY_MAE, run_config

from asuka_modules import checkpoints
from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig
from asuka_modules.mae import MAE
from training import decoder, latent_sample
from training.adversary import AdversaryConfig
from training.data import DataConfig, Photos, to_float
from training.engine import config
from training.latent_sample import LatentSampleRecipe, Sampled, SampledCrops, fill_latent
from training.latents import LatentsConfig
from training.masks import MaskConfig
from training.weights.frozen import load_frozen


@pytest.fixture
def recipe(photos, masks, base, tmp_path) -> LatentSampleRecipe:
    torch.manual_seed(0)
    mae, alignment = MAE(TINY_MAE), Alignment(AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25))
    mae.init_weights()
    alignment.init_weights()
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": mae})
    checkpoints.save(tmp_path / "alignment.safetensors", {"alignment": alignment})
    data = DataConfig(folders=(str(photos),), size=64, native=True)
    holes = MaskConfig(objects=str(masks), size=64)
    crops = LatentsConfig(str(tmp_path / "sampled"), 3, data, holes, batch_size=2, workers=0)
    paths = (str(tmp_path / f"{name}.safetensors") for name in ("mae", "alignment"))
    return LatentSampleRecipe(str(base), *paths, crops, steps=2)


@pytest.fixture
def networks(recipe) -> tuple:
    load = checkpoints.load_part
    return (
        load_frozen(recipe.base),
        load(recipe.mae, "mae").build(dtype=torch.float32),
        load(recipe.alignment, "alignment").build(dtype=torch.float32),
    )


@torch.inference_mode()
def test_known_cells_are_the_masked_views_and_the_hole_is_sampled(networks):
    torch.manual_seed(0)
    base = networks[0]
    image, noise = torch.rand(1, 3, 64, 64), torch.randn(2, 1, 4, 8, 8)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 17:40, 16:33] = 1
    cells = F.max_pool2d(mask, 8)
    masked_latent = base.encode(torch.where(F.interpolate(cells, scale_factor=8) > 0, 0.5, image))
    first, second = (fill_latent(*networks, image, mask, x, 2) for x in noise)
    known = (cells == 0).expand_as(first)
    assert torch.equal(first[known], masked_latent[known])
    assert (first != second)[~known].all()
    hidden = torch.where(mask > 0, 1 - image, image)
    assert torch.equal(fill_latent(*networks, hidden, mask, noise[0], 2), first)
    assert not torch.equal(fill_latent(*networks, 1 - image, mask, noise[0], 2), first)


@torch.inference_mode()
def test_stored_samples_are_those_of_one_view_alone(recipe, networks):
    folder = latent_sample.run(recipe)
    stored = load_file(folder / "0000000.safetensors")
    crops = Photos(recipe.crops.data, recipe.seed, latent_sample.RandomMaskAndNoise(recipe))
    for i in range(3):
        view = crops[i]
        assert torch.equal(stored["image"][i], view["image"])
        assert torch.equal(stored["mask"][i], view["mask"])
        pixels = to_float({key: value[None] for key, value in view.items()})
        expected = fill_latent(*networks, pixels["image"], pixels["mask"], pixels["noise"], recipe.steps)[0]
        error = (stored["latent"][i].float() - expected).square().mean().sqrt()
        assert error < 0.03 * expected.std()  # bf16
    with pytest.raises(config.ConfigError, match="was made with other settings"):
        latent_sample.run(replace(recipe, steps=3))


def test_crops_keep_latent_mask_and_image_together(tmp_path):
    """Cells that hold their own place, as do their pixels; each crop shows some of the hole, which may be thin."""
    places = torch.arange(64.0).view(1, 1, 8, 8)
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    mask[..., 41, 3:6] = 255
    image = F.interpolate(places, scale_factor=8).expand(1, 3, 64, 64).to(torch.uint8)
    tensors = {"image": image, "mask": mask, "latent": places.expand(1, 4, 8, 8).half()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "0000000.safetensors")
    crops, corners = SampledCrops(Sampled(str(tmp_path), 1), 24), set()
    for i in range(60):
        crop = crops(np.random.default_rng(i))
        assert crop["mask"].any()
        assert torch.equal(F.interpolate(crop["latent"][None, :3], scale_factor=8)[0], crop["image"].float())
        corners.add(int(crop["image"][0, 0, 0]))
    assert corners == {24, 32, 40}  # cell 40 has to be seen
    with pytest.raises(config.ConfigError, match=r"sampled\.count is 0, expected 1 or more"):
        Sampled(str(tmp_path), 0)


def decoder_recipe(recipe: LatentSampleRecipe, out: Path, **changes) -> decoder.DecoderRecipe:
    return decoder.DecoderRecipe(
        base=recipe.base,
        data=replace(recipe.crops.data, size=32),
        masks=replace(recipe.crops.masks, size=32),
        run=run_config(out, steps=4, save_every=1),
        model=DecoderConfig(ch=32, num_res_blocks=1, post_quant_conv=False),
        sampled=Sampled(recipe.crops.out, 3, share=0.5),
        unconditional_share=0.0,
        perceptual_weight=0.0,
        **{"adversarial_weight": 0.0, **changes},
    )


@torch.no_grad()
def test_decoder_sees_sampled_latents_where_they_were_drawn(recipe, tmp_path):
    latent_sample.run(recipe)
    ours = decoder_recipe(recipe, tmp_path / "decoder")
    network = decoder.HarmonizingDecoder(ours.model)
    objective = decoder.DecoderObjective(network, load_frozen(recipe.base), ours)
    dataset = Photos(ours.data, 0, decoder.RandomCorruption(ours))
    batch = to_float(torch.utils.data.default_collate([dataset[i] for i in range(6)]))
    drawn = batch["sampled"]
    assert drawn.any()
    assert not drawn.all()
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    objective(batch)
    (latent, image, mask) = seen[0]
    torch.testing.assert_close(latent[drawn] * decoder.SCALING_FACTOR, batch["latent"][drawn])
    own = objective.base.encode(batch["corrupted"])
    torch.testing.assert_close(latent[~drawn] * decoder.SCALING_FACTOR, own[~drawn])
    crops = load_file(Path(recipe.crops.out, "0000000.safetensors"))
    for crop, hole in zip((255 * image[drawn]).round().byte(), mask[drawn], strict=True):
        windows = crops["image"].unfold(2, 32, 8).unfold(3, 32, 8).movedim(1, 3)  # (3 crops, 5, 5, 3, 32, 32)
        assert (windows == crop).all((3, 4, 5)).any()
        assert hole.any()


ADVERSARY = AdversaryConfig(hole=True, norm="group", r1_weight=1.0)


@pytest.mark.parametrize("changes", [{}, {"adversarial_weight": 0.5, "adversary": ADVERSARY}])
def test_interrupted_run_continues_identically(recipe, tmp_path, monkeypatch, changes):
    latent_sample.run(recipe)
    decoder.train(decoder_recipe(recipe, tmp_path / "whole", texture_weight=1.0, **changes))
    ours = decoder_recipe(recipe, tmp_path / "broken", texture_weight=1.0, **changes)
    forward, calls = decoder.DecoderObjective.forward, []

    def stop_at_the_third(self, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(decoder.DecoderObjective, "forward", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        decoder.train(ours)
    decoder.train(ours)
    assert len(calls) == 3 + 2
    name = "decoder.safetensors"
    assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
