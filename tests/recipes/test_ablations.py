"""The ablations are configs that change what they say and nothing else."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from asuka_modules.alignment import VARIANTS
from scripts.results import COMPARISONS
from training import ablations
from training.engine import config
from training.evaluation.benchmark import Benchmark
from training.mae import RandomHiddenPatches
from training.masks import MaskConfig
from training.miniature import CONFIGS, STAGES

CHANGED = {
    "mae-pretrained": {"holes"},
    "words-linear": {"model"},
    "words-attn": {"model"},
    "words-cross4": {"model"},
    "words-pretrained": {"mae"},
    "align-linear": {"model", "init"},
    "align-attn": {"model", "init"},
    "align-cross4": {"model", "init"},
    "align-prompt": {"model", "init"},
    "align-predicted": {"substitution"},
    "align-reconstructed": {"substitution"},
    "align-pretrained": {"mae", "init"},
    "decoder-both": {"init", "sampled"},
    "decoder-condition": {"init", "data", "jitter", "sampled"},
    "decoder-colour": {"init", "data", "sampled"},
    "decoder-full": {"init"},
    "decoder-latent": {"init", "jitter", "sampled"},
}

DECODERS = [name for name in CHANGED if name.startswith("decoder-")]
SETTINGS = {  # of the run, beside its folder
    "align-prompt": {"steps", "lr", "min_lr"},
    **{name: {"steps", "lr", "warmup_steps", "ema"} for name in DECODERS},
}


def read(name: str):
    kind = name.split("-")[0]
    return config.read(ablations.RECIPES[kind][0], CONFIGS / f"{name}.yaml", STAGES[kind].overrides(["a"], "b"))


def test_each_changes_only_what_it_is_about():
    found = {}
    for path in ablations.find():
        ours, base = asdict(read(path.stem)), asdict(read(path.stem.split("-")[0]))
        changed = {key for key in ours if ours[key] != base[key]}
        settings = {key for key in ours["run"] if ours["run"][key] != base["run"][key]}
        assert settings == {"out"} | SETTINGS.get(path.stem, set())
        found[path.stem] = changed - {"run"}
    assert found == CHANGED


@pytest.mark.parametrize("name", ["linear", "attn", "cross4", "prompt"])
def test_alignments_are_the_papers_variants(name):
    ours, paper = read(f"align-{name}").model, VARIANTS[name]
    assert (ours.depth, ours.num_queries) == (paper.depth, paper.num_queries)


@pytest.mark.parametrize("name", ["linear", "attn", "cross4", "pretrained"])
def test_alignments_start_from_words_of_their_own(name):
    """Which have the same shape and the same MAE."""
    ours, words = read(f"align-{name}"), read(f"words-{name}")
    assert ours.init == f"{words.run.out}/alignment.safetensors"
    assert (ours.model, ours.mae) == (words.model, words.mae)


def test_benchmarks_ask_for_weights_that_are_trained():
    made = {f"{path.stem}.safetensors" for path in ablations.find() if not path.stem.startswith("words-")}
    shipped = {f"asuka-miniature{part}.safetensors" for part in ("", "-base", "-spl")}
    asked = set()
    for path in CONFIGS.glob("benchmark*.yaml"):
        for method in config.read(Benchmark, path).methods:
            asked |= set(method.diffusion.files()) if method.diffusion else set()
    assert asked == made | shipped


@pytest.mark.parametrize(
    "name, colour, latent", [("condition", False, False), ("colour", True, False), ("latent", False, True)]
)
def test_decoders_see_only_the_corruption_of_their_name(name, colour, latent):
    ours = read(f"decoder-{name}")
    assert any(asdict(ours.jitter).values()) is colour
    assert bool(ours.data.augmented) is latent
    assert replace(ours.data, augmented=None) == replace(read("decoder").data, augmented=None)
    assert ours.sampled is None


def test_decoders_go_on_from_the_miniatures():
    """For as many steps, so that what they see is all that differs."""
    assert {read(name).init for name in DECODERS} == {f"{read('decoder').run.out}/decoder.safetensors"}
    assert len({replace(read(name).run, out="") for name in DECODERS}) == 1


def test_pretrained_alignment_brings_its_mae():
    assert [path.stem for path in ablations.find(["align-pretrained"])] == [
        "mae-pretrained",
        "words-pretrained",
        "align-pretrained",
    ]


def test_some_can_be_picked():
    assert [path.stem for path in ablations.find(["decoder-colour", "align-linear"])] == [
        "words-linear",
        "align-linear",
        "decoder-colour",
    ]
    with pytest.raises(ValueError, match="no ablation align-none, only mae-pretrained, "):
        ablations.find(["align-none"])


@pytest.mark.parametrize("benchmark", COMPARISONS)
def test_results_compare_methods_that_there_are(benchmark):
    methods = {method["name"] for method in config.load(CONFIGS / f"{benchmark}.yaml")["methods"]}
    assert methods.issuperset(name for pair in COMPARISONS[benchmark] for name in pair)


def test_pretraining_hides_random_patches_alone(masks):
    sample = {}
    RandomHiddenPatches(MaskConfig(objects=str(masks)), 16, holes=False)(sample, np.random.default_rng(0), 0)
    assert not sample["mask"].any()
    assert sample["hidden"].sum() == 192


def test_folders_of_any_name(tmp_path):
    """Names that mean something in YAML stay names."""
    photos, masks = ["C:\\photos, mine", "[b] #1"], "d: e"
    recipe = config.read(
        ablations.RECIPES["mae"][0], CONFIGS / "mae-pretrained.yaml", STAGES["mae"].overrides(photos, masks)
    )
    assert list(recipe.data.folders) == photos
    assert recipe.masks.objects == masks
