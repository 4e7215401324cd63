"""The splitter's statistical laws, over a million units; ids are fixed, so a test passes always or never."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2_contingency, chisquare

from armlift.experiment import Experiment
from armlift.hashing import Keys, key_of, keys_of, mix_many
from armlift.splitter import Holdout, Split, assign_many

LEAST_P = 1e-6
SALTS = (
    "layer:default", "layer:home", "experiment:demo:0", "experiment:demo:1", "experiment:demo:2",
    "experiment:demp:0", "holdout:lab",
)  # fmt: skip
Codes = npt.NDArray[np.integer]


@pytest.fixture(scope="module", params=["{}", "user-{:09}"])
def keys(request: pytest.FixtureRequest) -> Keys:
    return keys_of([request.param.format(number) for number in range(1_000_000)])


def split_of(holdout: float = 0.0, **definition: object) -> Split:
    whole = {"name": "demo", "arms": {"a": 1, "b": 1}, "control": "a", "metrics": {"primary": ["clicks"]}}
    experiment = Experiment.model_validate(whole | definition)
    return Split.of(experiment, default_arm="rest", holdout=Holdout("lab", holdout))


def independence(a: Codes, b: Codes) -> float:
    """Give the chi-square p-value of a contingency table of two codes from 0."""
    columns = int(b.max()) + 1
    counts = np.bincount(a.astype(np.int64) * columns + b, minlength=(int(a.max()) + 1) * columns)
    return float(chi2_contingency(counts.reshape(-1, columns)).pvalue)


def goodness(counts: list[int], shares: list[Fraction]) -> float:
    expected = [float(share) * sum(counts) for share in shares]
    return float(chisquare(counts, expected).pvalue)


def slots(keys: Keys, salt: str, bits: int) -> Codes:
    return (mix_many(keys ^ np.uint64(key_of(salt))) >> np.uint64(64 - bits)).astype(np.int64)


@pytest.mark.parametrize("salt", SALTS)
def test_draws_are_uniform(keys: Keys, salt: str) -> None:
    assert chisquare(np.bincount(slots(keys, salt, 10), minlength=1024)).pvalue > LEAST_P


def test_draws_of_different_salts_are_independent(keys: Keys) -> None:
    drawn = [slots(keys, salt, 4) for salt in SALTS]
    assert min(independence(a, b) for a, b in combinations(drawn, 2)) > LEAST_P


@pytest.mark.parametrize("traffic", [0.05, 0.5, 1.0])
def test_arms_get_their_shares(keys: Keys, traffic: float) -> None:
    split = split_of(arms={"a": 0.1, "b": 0.2, "c": 0.7}, phases=[{"traffic": traffic}])
    found = assign_many(split, 0, keys)
    counts = np.bincount(found.arm, minlength=4).tolist()
    exact = Fraction(str(traffic))
    shares = [exact * weight / 10 for weight in (1, 2, 7)]
    if traffic == 1:
        assert counts.pop() == 0
    else:
        shares.append(1 - exact)
    assert goodness(counts, shares) > LEAST_P


def test_experiments_of_different_layers_are_independent(keys: Keys) -> None:
    first = split_of(name="ranking", layer={"name": "ranking", "slice": [0, 0.6]}, phases=[{"traffic": 0.7}])
    second = split_of(name="home", layer={"name": "home", "slice": [0.2, 1]}, arms={"a": 1, "b": 2})
    assert independence(assign_many(first, 0, keys).arm, assign_many(second, 0, keys).arm) > LEAST_P


def test_experiments_of_one_layer_exclude_each_other(keys: Keys) -> None:
    first = split_of(name="ranking", layer={"name": "home", "slice": [0, 0.3]}, phases=[{"traffic": 0.5}])
    second = split_of(name="prompts", layer={"name": "home", "slice": [0.3, 1]})
    one, two = assign_many(first, 0, keys), assign_many(second, 0, keys)
    assert not (one.exposed & two.exposed).any()
    counts = [int(one.exposed.sum()), int(two.exposed.sum()), int((~one.exposed & ~two.exposed).sum())]
    assert goodness(counts, [Fraction(15, 100), Fraction(70, 100), Fraction(15, 100)]) > LEAST_P


def test_the_holdout_is_the_same_for_every_experiment(keys: Keys) -> None:
    held = []
    for name in ("one", "two"):
        with_holdout = assign_many(split_of(holdout=0.1, name=name), 0, keys)
        without = assign_many(split_of(name=name), 0, keys)
        held.append(~with_holdout.exposed)
        assert without.exposed.all()
        assert independence(held[-1].astype(np.int64), without.arm) > LEAST_P
    assert (held[0] == held[1]).all()
    assert goodness(np.bincount(held[0]).tolist(), [Fraction(9, 10), Fraction(1, 10)]) > LEAST_P


def test_arms_stay_comparable_after_new_weights(keys: Keys) -> None:
    # Heavy users come more often, so more of them are exposed, and stored, before the weights change.
    noise = np.random.default_rng(5)
    heavy = noise.random(len(keys)) < 0.3
    comes = noise.random(len(keys)) < np.where(heavy, 0.9, 0.3)
    new_weights = {"a": 0.9, "b": 0.1}
    phases = [{"traffic": 0.2}, {"traffic": 1, "weights": new_weights, "start": "2024-01-02"}]
    split = split_of(phases=phases)
    stored = comes & assign_many(split, 0, keys).exposed
    new, trait = keys[~stored], heavy[~stored].astype(np.int64)

    fresh = assign_many(split, 1, new).arm
    assert independence(trait, fresh) > LEAST_P
    assert goodness(np.bincount(fresh).tolist(), [Fraction(9, 10), Fraction(1, 10)]) > LEAST_P

    # The new weights under the salt of generation 0: both the trait and the shares are skewed.
    one_salt = assign_many(split_of(arms=new_weights), 0, new).arm
    assert independence(trait, one_salt) < 1e-12
    assert goodness(np.bincount(one_salt).tolist(), [Fraction(9, 10), Fraction(1, 10)]) < 1e-12


def test_stored_units_keep_their_arm_under_new_weights(keys: Keys) -> None:
    phases = [{"traffic": 0.5}, {"weights": {"a": 0.1, "b": 0.9}, "start": "2024-01-02"}]
    split, some = split_of(phases=phases), keys[:20_000]
    before = assign_many(split, 0, some)
    stored = [before.arms[arm] if out else None for arm, out in zip(before.arm, before.exposed, strict=True)]
    after = assign_many(split, 1, some, stored=stored)
    assert after.exposed.all()
    assert (after.arm == before.arm)[before.exposed].all()
    counts = np.bincount(after.arm[~before.exposed]).tolist()
    assert goodness(counts, [Fraction(1, 10), Fraction(9, 10)]) > LEAST_P
