"""Mask generators against the statistics measured on the published code."""

import numpy as np
import pytest

from training.masks import FREE_FORM, LAMA, MaskConfig, Mixture, patch_ratio, top_up

DRAWS = 1500
# Mean hole share and its spread over 600 draws of the published generators.
PUBLISHED = {
    ("thin-256", 256): (0.29, 0.13),
    ("medium-256", 256): (0.24, 0.13),
    ("thick-256", 256): (0.40, 0.22),
    ("thin-512", 512): (0.29, 0.14),
    ("medium-512", 512): (0.29, 0.16),
    ("thick-512", 512): (0.46, 0.25),
    ("train-256", 256): (0.35, 0.21),
    ("comod", 256): (0.72, 0.18),
    ("comod", 512): (0.64, 0.19),
    ("mat-256", 256): (0.41, 0.20),
    ("mat-512", 512): (0.39, 0.19),
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_mean_hole_share_is_the_published_one(name, size):
    mean, spread = PUBLISHED[name, size]
    generator = {**LAMA, **FREE_FORM}[name]
    rng = np.random.default_rng(0)
    found = np.mean([generator(rng, size).mean() for _ in range(DRAWS)])
    error = spread * np.sqrt(1 / 600 + 1 / DRAWS)
    assert abs(found - mean) <= 3 * error + 0.005  # published means are rounded to 0.01


@pytest.mark.parametrize("name", [*LAMA, *FREE_FORM])
def test_masks_are_binary_and_a_function_of_the_seed(name):
    generator = {**LAMA, **FREE_FORM}[name]
    first, again, other = (generator(np.random.default_rng(seed), 256) for seed in (3, 3, 4))
    assert first.shape == (256, 256)
    assert first.dtype == np.uint8
    assert set(np.unique(first)) <= {0, 1}
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_mixture_respects_the_patch_ratio(masks):
    mixture = Mixture(MaskConfig(objects=str(masks)))
    rng = np.random.default_rng(0)
    ratios = [patch_ratio(mixture(rng)) for _ in range(200)]
    assert min(ratios) >= 0.1
    assert max(ratios) <= 0.75


def test_mixture_has_the_papers_shares(masks, monkeypatch):
    """50 % object, half of these united with an irregular mask, 40 % irregular, 10 % regular."""
    mixture = Mixture(MaskConfig(objects=str(masks)))
    drawn = []
    monkeypatch.setattr(
        mixture, "objects", lambda rng, size: drawn.append("object") or np.zeros((size, size), np.uint8)
    )
    original = mixture.pick

    def pick(rng, generators):
        drawn.append("irregular" if generators is mixture.irregular else "regular")
        return original(rng, generators)

    monkeypatch.setattr(mixture, "pick", pick)
    rng, kinds = np.random.default_rng(0), []
    for _ in range(4000):
        drawn.clear()
        mixture.draw(rng)
        kinds.append("+".join(drawn))
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    expected = {"object": 0.25, "object+irregular": 0.25, "irregular": 0.4, "regular": 0.1}
    assert shares == pytest.approx(expected, abs=0.025)


def test_top_up_hides_exactly_three_quarters_and_uncovers_nothing():
    rng = np.random.default_rng(0)
    for holes in (0, 1, 100, 192):
        hidden = np.zeros(256, bool)
        hidden[rng.choice(256, holes, replace=False)] = True
        result = top_up(hidden, rng)
        assert result.sum() == 192
        assert result[hidden].all()


def test_top_up_refuses_to_leak():
    hidden = np.ones(256, bool)
    hidden[:32] = False
    with pytest.raises(ValueError, match="224 of 256 patches are holes"):
        top_up(hidden, np.random.default_rng(0))
