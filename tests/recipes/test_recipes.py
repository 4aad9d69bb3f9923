"""Every recipe takes its steps, trains what it should and leaves the rest alone."""

import csv
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from tiny import TINY_MAE, run_config

from asuka_modules import checkpoints
from asuka_modules.alignment import AlignmentConfig
from asuka_modules.decoder import DecoderConfig
from asuka_modules.mae import MAE
from training import align, decoder, latent_augment, latents
from training.base import words
from training.base.__main__ import BaseRecipe
from training.base.__main__ import train as train_base
from training.base.autoencoder import AutoencoderStage, decode, encode, init_as_color_codec
from training.base.checkpoint import load_base
from training.base.unet import UNetStage
from training.data import AugmentedImages, DataConfig, Photos, to_float
from training.engine import config
from training.engine.cache import Cached
from training.engine.loop import fit
from training.latents import Encoded, LatentsConfig, build_latents, build_priors, crops
from training.masks import MaskConfig

pytestmark = pytest.mark.trains


def test_base(photos, masks, tmp_path):
    data = DataConfig(folders=(str(photos),), size=32, native=True)
    recipe = BaseRecipe(
        out=str(tmp_path / "base.safetensors"),
        autoencoder=(
            AutoencoderStage(data, run_config(tmp_path / "ae1")),
            AutoencoderStage(data, run_config(tmp_path / "ae2")),
        ),
        latents=LatentsConfig(
            str(tmp_path / "latents"), 4, replace(data, size=64), MaskConfig(objects=str(masks), size=64), 2, 0
        ),
        unet=(UNetStage(run_config(tmp_path / "unet1"), cells=4), UNetStage(run_config(tmp_path / "unet2"), cells=8)),
    )
    autoencoder, model = train_base(recipe)
    saved_autoencoder, saved_model = load_base(recipe.out)
    for trained, saved in ((autoencoder, saved_autoencoder), (model, saved_model)):
        assert trained.state_dict().keys() == saved.state_dict().keys()
        for key, value in trained.state_dict().items():  # fp8 has three bits of mantissa
            torch.testing.assert_close(saved.state_dict()[key], value.cpu(), rtol=2**-4, atol=2**-9)
    assert len(list(tmp_path.rglob("samples/*.png"))) == 4
    build_latents(
        recipe.latents, crops(recipe.latents), saved_autoencoder, lambda image: image, torch.device("cpu")
    )  # the alignment's are these


def test_colour_codec_keeps_colours_before_any_training():
    """The mean colour survives coding, unless it is so strong that TAESD's latent clamp bends it."""
    autoencoder = AutoencoderTiny()
    init_as_color_codec(autoencoder)
    colours = torch.tensor([[0.55, 0.4, 0.35], [0.35, 0.45, 0.38], [0.4, 0.42, 0.55], [0.5, 0.5, 0.5]])
    image = colours[:, :, None, None].expand(-1, -1, 64, 64)
    with torch.no_grad():
        found = decode(autoencoder, encode(autoencoder, image))[:, :, 24:40, 24:40].mean((2, 3))
    assert (found - colours).abs().max() < 0.03


def test_decoder_of_another_shape_is_refused(photos, masks, base, tmp_path):
    small = DecoderConfig(ch=32, num_res_blocks=1, post_quant_conv=False)
    checkpoints.save(tmp_path / "decoder.safetensors", {"decoder": decoder.HarmonizingDecoder(small)})
    recipe = decoder.DecoderRecipe(
        base=str(base),
        data=DataConfig(folders=(str(photos),), size=64, native=True),
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(tmp_path / "out"),
        model=replace(small, ch=64),
        init=str(tmp_path / "decoder.safetensors"),
    )
    with pytest.raises(config.ConfigError, match=r"ch=32.*but model is .*ch=64"):
        decoder.train(recipe)


def test_align(photos, masks, base, tmp_path):
    torch.manual_seed(0)
    network = MAE(TINY_MAE)
    network.init_weights()
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": network})
    recipe = align.AlignRecipe(
        base=str(base),
        mae=str(tmp_path / "mae.safetensors"),
        latents=LatentsConfig(
            str(tmp_path / "latents"),
            4,
            DataConfig(folders=(str(photos),), size=64),
            MaskConfig(objects=str(masks), size=64),
            2,
            0,
        ),
        run=run_config(tmp_path / "align"),
        model=AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25, empty_tokens=1),
    )
    before = base.read_bytes()
    kept = {}
    original = align.fit

    def fit(run, objective, dataset, **others):
        kept["base"] = (objective.base, {k: v.clone() for k, v in objective.base.state_dict().items()})
        return original(run, objective, dataset, **others)

    align.fit = fit
    try:
        trained = align.train(recipe)
    finally:
        align.fit = original
    for frozen, state in kept.values():
        assert all(torch.equal(v, state[k]) for k, v in frozen.state_dict().items())
        assert all(p.grad is None for p in frozen.parameters())
    assert base.read_bytes() == before
    saved = checkpoints.load(tmp_path / "align" / "alignment.safetensors")["alignment"].build()
    assert torch.equal(saved.empty_context, load_base(base)[1].description.empty_context)
    assert torch.equal(saved.proj_in.weight, trained.proj_in.weight)


def test_dry_run_of_the_alignment_leaves_nothing_to_a_real_run(photos, masks, base, tmp_path, capsys):
    torch.manual_seed(0)
    network = MAE(TINY_MAE)
    network.init_weights()
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": network})
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(masks), size=64)
    latents = LatentsConfig(str(tmp_path / "latents"), 6, data, holes, 2, 0)
    recipe = align.AlignRecipe(
        base=str(base),
        mae=str(tmp_path / "mae.safetensors"),
        latents=latents,
        validation=replace(latents, out=str(tmp_path / "held_out")),
        run=run_config(tmp_path / "align", dry_run=True),
        model=AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25, empty_tokens=1),
    )
    align.train(recipe)
    assert "2 steps, 4 images" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"mae.safetensors"}
    recipe = replace(recipe, run=replace(recipe.run, dry_run=False))
    align.train(recipe)
    with pytest.raises(config.ConfigError, match="was made with other settings"):
        align.train(replace(recipe, latents=replace(latents, masks=replace(holes, family="regular"))))


@pytest.mark.parametrize(
    "lost, dry_run",
    [("validation", False), *((lost, dry) for lost in ("mae", "init", "photos") for dry in (False, True))],
)
def test_what_the_alignment_lacks_is_told_before_anything_is_encoded(photos, masks, base, tmp_path, lost, dry_run):
    """A dry run does not validate, and needs nothing for it."""
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": MAE(TINY_MAE)})
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(masks), size=64)
    latents = LatentsConfig(str(tmp_path / "latents"), 4, data, holes, 2, 0)
    elsewhere = replace(latents, data=replace(data, folders=("lost",)))
    recipe = align.AlignRecipe(
        base=str(base),
        mae="lost" if lost == "mae" else str(tmp_path / "mae.safetensors"),
        latents=elsewhere if lost == "photos" else latents,
        run=run_config(tmp_path / "align", dry_run=dry_run),
        model=AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25),
        init="lost" if lost == "init" else None,
        validation=replace(elsewhere if lost == "validation" else latents, out=str(tmp_path / "held_out")),
    )
    with pytest.raises(FileNotFoundError, match="lost: no "):
        align.train(recipe)
    assert {path.name for path in tmp_path.iterdir()} == {"mae.safetensors"}


def test_loss_with_predicted_priors_is_the_mean_of_those_there_are(photos, masks, base, tmp_path, monkeypatch):
    """The first step has none, the second no others. Pictures, which take most of a short run, are left out."""
    monkeypatch.setattr(align, "fit", lambda run, objective, dataset, **_: fit(run, objective, dataset))
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": MAE(TINY_MAE)})
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(masks), size=64)
    recipe = align.AlignRecipe(
        base=str(base),
        mae=str(tmp_path / "mae.safetensors"),
        latents=LatentsConfig(str(tmp_path / "latents"), 4, data, holes, 2, 0),
        run=run_config(tmp_path / "each", log_every=1),
        model=AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25),
        substitution=align.Substitution(start=1.0, end=0.0, steps=1),
    )
    align.train(recipe)
    align.train(replace(recipe, run=run_config(tmp_path / "both", log_every=2)))
    first, second = csv.DictReader((tmp_path / "each" / "log.csv").open())
    (both,) = csv.DictReader((tmp_path / "both" / "log.csv").open())
    assert (first["loss_predicted"], first["substituted"]) == ("", "1")
    assert (second["loss_predicted"], second["substituted"]) == (second["loss"], "0")
    assert both["loss_predicted"] == second["loss"]


def test_alignment_reads_nothing_but_caches(photos, masks, tmp_path):
    """Once both are there, the photos may go."""
    torch.manual_seed(0)
    mae, folder = MAE(TINY_MAE).requires_grad_(False).eval(), shutil.copytree(photos, tmp_path / "photos")
    mae.init_weights()
    data, holes = DataConfig(folders=(str(folder),), size=64), MaskConfig(objects=str(masks), size=64)
    config, device = LatentsConfig(str(tmp_path / "latents"), 3, data, holes, 2, 0), torch.device("cpu")
    seen = crops(config)
    latents = build_latents(config, seen, torch.nn.Linear(2, 2), lambda image: image[:, :, ::8, ::8], device)
    priors = build_priors(config, seen, latents, mae, device)
    samples = [to_float(torch.utils.data.default_collate([seen[i]])) for i in range(3)]
    shutil.rmtree(folder)

    def transform(sample, rng, index) -> None:
        sample["reconstructed"] = torch.tensor(index >= 3)

    encoded = Encoded(seen, latents, priors, transform, 0)
    for i in range(6):
        image, mask = samples[i % 3]["image"], samples[i % 3]["mask"]
        expected = mae.prior(image, mask if i < 3 else torch.zeros_like(mask))[0]
        torch.testing.assert_close(encoded[i]["prior"], expected, rtol=0.05, atol=0.05 * float(expected.std()))
        assert torch.equal(encoded[i]["latent_mask"], torch.nn.functional.max_pool2d(mask, 8)[0])


def test_latents_of_other_masks_have_no_priors(photos, masks, tmp_path):
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(masks), size=64)
    encoded, device = LatentsConfig(str(tmp_path / "latents"), 2, data, holes, 2, 0), torch.device("cpu")
    build_latents(encoded, crops(encoded), torch.nn.Linear(2, 2), lambda image: image[:, :, ::8, ::8], device)
    path = tmp_path / "latents/0000000.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"mask": 1 - tensors["mask"]}, path)
    with pytest.raises(config.ConfigError, match="latents is of other masks than are drawn now; remove it"):
        build_priors(encoded, crops(encoded), Cached(encoded.out, 2), MAE(TINY_MAE), device)


def test_alignment_looks_through_its_folders_once(photos, masks, base, tmp_path, monkeypatch):
    opened = []
    for kind in (latents.Photos, latents.Mixture):

        def counting(*arguments, kind=kind):
            opened.append(kind)
            return kind(*arguments)

        monkeypatch.setattr(latents, kind.__name__, counting)
    monkeypatch.setattr(align, "fit", lambda *_, **__: None)
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": MAE(TINY_MAE)})
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(masks), size=64)
    recipe = align.AlignRecipe(
        base=str(base),
        mae=str(tmp_path / "mae.safetensors"),
        latents=LatentsConfig(str(tmp_path / "latents"), 4, data, holes, 2, 0),
        run=run_config(tmp_path / "align"),
        model=AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25),
    )
    align.train(recipe)
    assert sorted(kind.__name__ for kind in opened) == ["Mixture", "Photos"]


def test_more_latents_are_added_to_those_that_are_there(photos, masks, tmp_path):
    data, holes = DataConfig(folders=(str(photos),), size=64), MaskConfig(objects=str(masks), size=64)
    computed = []

    def code(image: torch.Tensor) -> torch.Tensor:
        computed.append(len(image))
        return image[:, :, ::8, ::8]

    autoencoder = torch.nn.Linear(2, 2)
    for count in (3, 5, 5, 2):
        latents = LatentsConfig(str(tmp_path / "latents"), count, data, holes, 1, 0)
        assert len(build_latents(latents, crops(latents), autoencoder, code, torch.device("cpu"))) == count
    assert sum(computed) == 2 * (3 + 5)  # photos and masked photos; nothing a third time
    with pytest.raises(FileNotFoundError, match=r"0000512.safetensors is missing; several machines need a disk"):
        Cached(latents.out, 513)


def test_cache_travels_to_spawned_workers_as_its_paths(tmp_path):
    rows = torch.arange(600.0).unsqueeze(1).expand(600, 1000).contiguous()
    for start in (0, 512):
        save_file({"x": rows[start : start + 512].contiguous()}, tmp_path / f"{start:07d}.safetensors")
    sent = pickle.dumps(Cached(tmp_path, 600))
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert len(received) == 600
    assert torch.equal(received[599]["x"], rows[599])


def test_latents_of_another_autoencoder_or_other_photos_are_refused(photos, masks, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    data, holes = DataConfig(folders=(str(folder),), size=64), MaskConfig(objects=str(masks), size=64)
    latents, autoencoder = LatentsConfig(str(tmp_path / "latents"), 2, data, holes, 1, 0), torch.nn.Linear(2, 2)

    def build() -> None:
        build_latents(latents, crops(latents), autoencoder, lambda image: image[:, :, ::8, ::8], torch.device("cpu"))

    build()
    (folder / "new.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    with pytest.raises(config.ConfigError, match="was made with other settings"):
        build()
    (folder / "new.jpg").unlink()
    build()
    torch.nn.init.zeros_(autoencoder.bias)
    with pytest.raises(config.ConfigError, match="was made with other settings"):
        build()


def test_words_are_learned_from_the_description(photos, masks, base, tmp_path):
    """The alignment comes to say what the description says, and training.align goes on from there."""
    torch.manual_seed(0)
    network = MAE(TINY_MAE)
    network.init_weights()
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": network})
    data = DataConfig(folders=(str(photos),), size=256)  # as many tokens as the prior has
    holes = MaskConfig(objects=str(masks), size=256)
    model = AlignmentConfig(prior_dim=24, depth=1, mlp_ratio=0.25, empty_tokens=1)
    run = run_config(tmp_path / "words", steps=12, log_every=1)
    words.train(words.WordsRecipe(str(base), str(tmp_path / "mae.safetensors"), data, holes, run, model))
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "words" / "log.csv").open())]
    assert losses[-1] < 0.8 * losses[0]
    learned = checkpoints.load(tmp_path / "words" / "alignment.safetensors")["alignment"].build()
    recipe = align.AlignRecipe(
        base=str(base),
        mae=str(tmp_path / "mae.safetensors"),
        latents=LatentsConfig(str(tmp_path / "latents"), 4, replace(data, size=64), replace(holes, size=64), 2, 0),
        run=run_config(tmp_path / "align", lr=0.0),
        model=model,
        init=str(tmp_path / "words" / "alignment.safetensors"),
    )
    with pytest.raises(config.ConfigError, match=r"depth=1.*but model is .*depth=0"):
        align.train(replace(recipe, model=replace(model, depth=0)))
    trained = align.train(recipe)
    assert all(torch.equal(v, learned.state_dict()[k]) for k, v in trained.state_dict().items())


def test_substitution_falls_from_one_to_a_tenth():
    substitution = align.Substitution()
    found = [substitution.probability(step) for step in (0, 1000, 2000, 50_000)]
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1])


@pytest.mark.parametrize("adversarial_weight", [0.0, 0.8])
def test_decoder(photos, masks, base, tmp_path, adversarial_weight):
    twins = latent_augment.run(
        latent_augment.LatentAugmentRecipe(
            str(base), (str(photos),), str(tmp_path / "twins"), count=2, timesteps=(900, 999), max_side=128
        )
    )
    assert len(AugmentedImages(twins)) == 2
    recipe = decoder.DecoderRecipe(
        base=str(base),
        data=DataConfig(folders=(str(photos),), size=64, native=True, augmented=str(twins)),
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(tmp_path / "decoder"),
        model=DecoderConfig(ch=32, num_res_blocks=1, post_quant_conv=False),
        perceptual_weight=0.0,
        adversarial_weight=adversarial_weight,
        adversarial_start=1,
        hole_share=0.5,
        predicted_x0_share=0.5,
    )
    trained = decoder.train(recipe)
    saved = checkpoints.load(tmp_path / "decoder" / "decoder.safetensors")["decoder"].build()
    assert torch.equal(saved.decoder.conv_out.weight, trained.decoder.conv_out.weight.detach())


def test_decoder_is_validated_while_it_trains_against_the_discriminator(photos, masks, base, tmp_path):
    recipe = decoder.DecoderRecipe(
        base=str(base),
        data=DataConfig(folders=(str(photos),), size=64, native=True),
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(tmp_path / "decoder", validate_every=1, validation_batches=1),
        model=DecoderConfig(ch=32, num_res_blocks=1),
        perceptual_weight=0.0,
        validation=(str(photos),),
    )
    decoder.train(recipe)
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "decoder" / "validation.csv").open())]
    assert len(losses) == 2
    best = tmp_path / "decoder" / "best" / "decoder.safetensors"
    start = checkpoints.load_part(best, "decoder").build()
    recipe = replace(recipe, run=run_config(tmp_path / "continued"), init=str(best))
    continued = decoder.train(recipe)
    assert torch.equal(continued.post_quant_conv.weight, start.post_quant_conv.weight)  # the VAE's, frozen
    assert not torch.equal(continued.decoder.conv_out.weight, start.decoder.conv_out.weight)
    checkpoints.save(tmp_path / "mae.safetensors", {"mae": MAE(TINY_MAE)})
    with pytest.raises(checkpoints.CheckpointError, match="contains no decoder, only mae"):
        decoder.train(replace(recipe, init=str(tmp_path / "mae.safetensors")))


def test_corruption_of_the_hole_alone_keeps_what_is_known(photos, masks):
    data = DataConfig(folders=(str(photos),), size=64, native=True)
    recipe = decoder.DecoderRecipe(
        base="",
        data=data,
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(Path()),
        jitter=decoder.Jitter(offset=0.1),
        hole_share=1.0,
        unconditional_share=0.0,
    )
    dataset = Photos(data, 0, decoder.RandomCorruption(recipe))
    for i in range(8):
        sample = to_float(dataset[i])
        changed = (sample["corrupted"] != sample["image"]).any(0, keepdim=True)
        assert not changed[sample["mask"] == 0].any()
        assert changed[sample["mask"] == 1].float().mean() > 0.5


@torch.no_grad()
def test_decoder_sees_the_unets_estimate_where_it_was_drawn(base, photos, masks):
    """Of two equal images only the one that was drawn is decoded from the estimate, which looks at known pixels."""
    data = DataConfig(folders=(str(photos),), size=64, native=True)
    recipe = decoder.DecoderRecipe(
        base=str(base),
        data=data,
        masks=MaskConfig(objects=str(masks), size=64),
        run=run_config(Path()),
        model=DecoderConfig(ch=32, num_res_blocks=1, post_quant_conv=False),
        perceptual_weight=0.0,
        adversarial_weight=0.0,
        predicted_x0_share=1.0,
    )
    network = decoder.HarmonizingDecoder(recipe.model)
    objective = decoder.DecoderObjective(network, decoder.load_frozen(base), recipe)
    sample = to_float(Photos(data, 0, decoder.RandomCorruption(recipe))[0])
    assert sample["estimated"]
    assert 500 <= sample["timestep"] <= 950
    batch = torch.utils.data.default_collate([sample, {**sample, "estimated": torch.tensor(False)}])
    latent = objective.base.encode(batch["corrupted"])
    estimate = objective.predict_x0(latent, batch)
    assert torch.equal(estimate[0], estimate[1])
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    objective(batch)
    torch.testing.assert_close(seen[0] * decoder.SCALING_FACTOR, torch.stack([estimate[0], latent[1]]))
    batch["image"] = 1 - batch["image"]
    assert not torch.equal(objective.predict_x0(latent, batch), estimate)
