from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.hashing import MASK, Keys, key_of, mix
from armlift.splitter import (
    RULES,
    Assignment,
    Holdout,
    Split,
    assign,
    assign_many,
    explain,
    generations,
)

SPAN = 1 << 64
UNITS = [f"u{number}" for number in range(300)]
ARMS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True)
WEIGHTS = st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.7, 1.0, 3.0, 1e-9, 1e300, 5e-324]) | st.floats(0, 100)
SHARES = st.sampled_from([0.0, 1e-20, 0.01, 0.1, 0.3, 1 / 3, 0.5, 0.999, 1 - 2**-53, 1.0]) | st.floats(0, 1)
SLICES = st.tuples(SHARES, SHARES).filter(lambda sides: sides[0] != sides[1]).map(sorted)
AUDIENCES = st.sampled_from([None, "old", "days > 2", "not (days in [1, 2]) and old", "country != 'DE'"])


class Case(NamedTuple):
    """A split, and units to assign with it in a phase."""

    experiment: Experiment
    split: Split
    phase: int
    units: list[str]
    columns: dict[str, list[object]]
    stored: list[str | None]

    def attributes(self, i: int) -> Mapping[str, object]:
        return {name: column[i] for name, column in self.columns.items()}

    def stored_assignment(self, i: int) -> Assignment | None:
        arm = self.stored[i]
        return Assignment(arm, True, "range", 0, 0) if arm is not None else None

    def scalar(self, i: int) -> Assignment:
        stored = self.stored_assignment(i)
        return assign(self.split, self.phase, self.units[i], self.attributes(i), stored=stored)


def weights_of(arms: list[str]) -> st.SearchStrategy[dict[str, float]]:
    weights = st.lists(WEIGHTS, min_size=len(arms), max_size=len(arms)).filter(any)
    return weights.map(lambda values: dict(zip(arms, values, strict=True)))


def phases_of(arms: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    phase = st.fixed_dictionaries({"traffic": SHARES, "weights": st.none() | weights_of(arms)})
    return st.lists(phase, min_size=1, max_size=3).map(
        lambda found: [each | {"start": f"2024-01-0{index + 1}"} for index, each in enumerate(found)]
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    arms = draw(ARMS)
    units = draw(st.lists(st.sampled_from(UNITS) | st.text(max_size=5), max_size=12))
    units = [unit.encode(errors="ignore").decode() for unit in units]
    definition = {
        "arms": draw(weights_of(arms)),
        "phases": draw(phases_of(arms)),
        "layer": {"name": draw(st.sampled_from(["default", "home"])), "slice": draw(SLICES)},
        "audience": draw(AUDIENCES),
        "forced": draw(st.dictionaries(st.sampled_from(units or ["x"]), st.sampled_from(arms), max_size=2)),
    }
    experiment = experiment_of(control=arms[0], **definition)
    default_arm = draw(st.sampled_from(["rest", arms[-1]]))
    holdout = Holdout("lab", draw(st.just(0.0) | SHARES))
    split = Split.of(experiment, default_arm=default_arm, holdout=holdout)

    def column(cells: list[Any]) -> list[Any]:
        return draw(st.lists(st.sampled_from(cells), min_size=len(units), max_size=len(units)))

    columns = {"old": column([True, False, None]), "days": column([1, 3, 3.5, None, float("nan"), "4"])}
    stored = column([None, None, *arms])
    phase = draw(st.integers(0, len(experiment.phases) - 1))
    return Case(experiment, split, phase, units, columns, stored)


def experiment_of(**definition: object) -> Experiment:
    whole = {"name": "demo", "arms": {"a": 1, "b": 1}, "control": "a", "metrics": {"primary": ["clicks"]}}
    return Experiment.model_validate(whole | definition)


def split_of(holdout: float = 0.0, **definition: object) -> Split:
    return Split.of(experiment_of(**definition), default_arm="rest", holdout=Holdout("lab", holdout))


def keys_drawing(salt: int, draws: list[int]) -> Keys:
    """Give the keys whose draws under a salt are these: the mixer is one to one."""
    found = []
    for x in draws:
        x ^= x >> 31 ^ x >> 62
        x = x * pow(0x94D049BB133111EB, -1, SPAN) & MASK
        x ^= x >> 27 ^ x >> 54
        x = x * pow(0xBF58476D1CE4E5B9, -1, SPAN) & MASK
        found.append(x ^ x >> 30 ^ x >> 60 ^ salt)
    return np.array(found, np.uint64)


def assign_keys(split: Split, phase: int, keys: Keys) -> list[Assignment]:
    """Assign each key by the scalar path, which takes texts: here a unit's text is its key in digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("armlift.splitter.key_of", int)
        return [assign(split, phase, str(key)) for key in keys.tolist()]


def near(bounds: list[int]) -> list[int]:
    """Give the draws at and beside the bounds, and the first and the last draw there is."""
    around = {bound + step for bound in bounds for step in (-1, 0, 1)} | {0, MASK}
    return sorted(x for x in around if 0 <= x <= MASK)


def arm_by_fractions(weights: dict[str, float], traffic: float, x: int) -> str | None:
    """Find the arm of a draw as docs/splitter.md says it, in exact fractions."""
    shares = {arm: Fraction(repr(weight)) for arm, weight in weights.items()}
    total, before = sum(shares.values()), Fraction(0)
    for arm, share in shares.items():
        low = before / total * SPAN // 1
        high = (before + Fraction(repr(traffic)) * share) / total * SPAN // 1
        if low <= x < high:
            return arm
        before += share
    return None


@given(cases())
def test_scalar_equals_vector(case: Case) -> None:
    found = assign_many(case.split, case.phase, case.units, case.columns, stored=case.stored)
    assert len(found.arm) == len(case.units)
    for i in range(len(case.units)):
        expected = case.scalar(i)
        assert found.arms[found.arm[i]] == expected.arm
        assert bool(found.exposed[i]) is expected.exposed
        assert RULES[found.rule[i]] == expected.rule


@given(cases())
def test_explain_decides_as_assign(case: Case) -> None:
    for i, unit in enumerate(case.units):
        decided = case.scalar(i)
        steps = explain(case.split, case.phase, unit, case.attributes(i), stored=case.stored_assignment(i))
        assert [step.rule for step in steps] == [*RULES[:6], "decision"]
        answer = {step.rule: step.answer for step in steps}
        part = "takes part" if decided.exposed else "does not take part"
        assert answer["decision"] == f"{decided.arm}, {part} ({decided.rule})"
        assert decided.rule != "holdout" or answer["holdout"].endswith("yes")
        assert decided.rule not in ("audience", "layer") or answer[decided.rule].endswith("no")
        assert decided.rule not in ("forced", "stored") or answer[decided.rule] == decided.arm
        assert decided.rule != "range" or answer["range"].endswith(f": {decided.arm}")
        assert decided.rule != "outside" or answer["range"].endswith(": no arm")


@given(cases())
def test_every_phase_gives_the_arm_of_the_exact_fractions(case: Case) -> None:
    plain = split_of(
        arms=case.experiment.arms, phases=case.experiment.phases, control=case.experiment.control
    )
    for phase, (_, weights) in enumerate(generations(case.experiment)):
        here, traffic = plain.phases[phase], case.experiment.phases[phase].traffic
        draws = near(here.bounds)
        ordered = {arm: weights[arm] for arm in case.experiment.arms}
        expected = [arm_by_fractions(ordered, traffic, x) for x in draws]
        keys = keys_drawing(here.salt, draws)
        scalar, vector = assign_keys(plain, phase, keys), assign_many(plain, phase, keys)
        assert [found.arm if found.exposed else None for found in scalar] == expected
        assert [vector.arms[arm] if arm < len(ordered) else None for arm in vector.arm] == expected


@given(ARMS.flatmap(weights_of), SHARES, SHARES)
def test_a_ramp_moves_nobody(weights: dict[str, float], a: float, b: float) -> None:
    phases = [{"traffic": min(a, b)}, {"traffic": max(a, b), "start": "2024-01-02"}]
    split = split_of(arms=weights, control=next(iter(weights)), phases=phases)
    draws = near(split.phases[0].bounds + split.phases[1].bounds)
    for units in (UNITS, keys_drawing(split.phases[0].salt, draws)):
        before, after = assign_many(split, 0, units), assign_many(split, 1, units)
        assert after.exposed[before.exposed].all()
        assert (after.arm == before.arm)[before.exposed].all()


@given(ARMS.flatmap(weights_of))
def test_full_traffic_leaves_nobody_outside(weights: dict[str, float]) -> None:
    here = split_of(arms=weights, control=next(iter(weights))).phases[0]
    assert here.bounds[0] == 0
    assert all(outcome.exposed for outcome in here.outcomes[1:])
    assert sorted(set(here.bounds)) == here.bounds


def test_bounds_are_exact() -> None:
    split = split_of(arms={"a": 0.1, "b": 0.2, "c": 0.7})
    assert split.phases[0].bounds == [0, SPAN // 10, 3 * SPAN // 10]
    assert split_of(arms={"a": 1e-300, "b": 2e-300, "c": 7e-300}).phases[0].bounds == split.phases[0].bounds


@pytest.mark.parametrize("share", [0.25, 1 / 3, 1e-19, 1.0])
def test_the_holdout_ends_at_its_bound(share: float) -> None:
    split = split_of(holdout=share)
    draws = near([split.holdout_below])
    keys = keys_drawing(split.holdout_salt, draws)
    expected = [x < split.holdout_below for x in draws]
    assert [RULES[rule] == "holdout" for rule in assign_many(split, 0, keys).rule] == expected
    assert [found.rule == "holdout" for found in assign_keys(split, 0, keys)] == expected


@pytest.mark.parametrize("sides", [(0, 0.3), (0.3, 1), (0.1, 0.2), (0, 1), (0, 1e-20), (1e-20, 1)])
def test_a_slice_of_the_layer_has_its_lower_end_only(sides: tuple[float, float]) -> None:
    split = split_of(layer={"name": "home", "slice": sides})
    low, high = split.layer
    draws = near([low, high])
    keys = keys_drawing(split.layer_salt, draws)
    expected = [low <= x < high for x in draws]
    assert assign_many(split, 0, keys).exposed.tolist() == expected
    assert [found.exposed for found in assign_keys(split, 0, keys)] == expected


def test_rules_are_asked_in_their_order() -> None:
    unit = "u1"
    upper = mix(key_of(unit) ^ key_of("layer:default")) >= SPAN // 2
    definition: dict[str, Any] = {
        "forced": {unit: "b"},
        "audience": "old",
        "layer": {"slice": (0, 0.5) if upper else (0.5, 1)},
    }
    stored = Assignment("a", True, "range", 0, 0)

    def decide(holdout: float = 0.0, old: bool = False, *, stored: Assignment | None = stored) -> Assignment:
        return assign(split_of(holdout, **definition), 0, unit, {"old": old}, stored=stored)

    assert decide(1.0)[:3] == ("b", True, "forced")
    del definition["forced"]
    assert decide(1.0)[:3] == ("rest", False, "holdout")
    assert decide()[:3] == ("rest", False, "audience")
    assert decide(old=True)[:3] == ("rest", False, "layer")
    del definition["layer"]
    assert decide(old=True)[:3] == ("a", True, "stored")
    assert decide(old=True, stored=None).rule == "range"
    definition["phases"] = [{"traffic": 0}]
    assert decide(old=True)[:3] == ("a", True, "stored")
    assert decide(old=True, stored=None)[:3] == ("rest", False, "outside")


def test_a_stored_assignment_keeps_phase_and_generation() -> None:
    phases = [{}, {"weights": {"a": 9, "b": 1}, "start": "2024-01-02"}]
    split = split_of(phases=phases)
    for unit in UNITS[:50]:
        first = assign(split, 0, unit)
        assert assign(split, 1, unit, stored=first) == first._replace(rule="stored")
        assert assign(split, 1, unit)[3:5] == (1, 1)


def test_a_forced_arm_beats_the_definition_and_is_marked() -> None:
    split = split_of(1.0, forced={"u1": "a"}, phases=[{"traffic": 0}])
    assert assign(split, 0, "u1") == Assignment("a", True, "forced", 0, 0, forced=True)
    assert assign(split, 0, "u1", forced="b") == Assignment("b", True, "forced", 0, 0, forced=True)
    assert assign(split, 0, "u2", forced="b").rule == "forced"
    assert assign(split, 0, "u2").rule == "holdout"


def test_an_unknown_forced_arm_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        assign(split_of(), 0, "u1", forced="c")
    assert str(caught.value) == "forced arm 'c' is not in experiment demo, must be one of a, b"


def test_new_weights_start_a_generation() -> None:
    odd = {"a": 3, "b": 1}
    phases = [
        {},
        {"weights": odd, "traffic": 0.5, "start": "2024-01-02"},
        {"traffic": 0.7, "start": "2024-01-03"},
        {"weights": dict(reversed(odd.items())), "start": "2024-01-04"},
        {"weights": {"a": 1, "b": 1}, "start": "2024-01-05"},
    ]
    experiment = experiment_of(phases=phases)
    found = generations(experiment)
    assert [generation for generation, _ in found] == [0, 1, 1, 1, 2]
    assert [weights["a"] for _, weights in found] == [1, 3, 3, 3, 1]
    salts = [phase.salt for phase in Split.of(experiment, default_arm="rest").phases]
    assert salts == [key_of(f"experiment:demo:{generation}") for generation, _ in found]


def test_units_may_be_given_as_keys() -> None:
    split = split_of(0.1, forced={"u3": "b"}, phases=[{"traffic": 0.5}])
    keys = np.array([key_of(unit) for unit in UNITS], np.uint64)
    found, expected = assign_many(split, 0, keys), assign_many(split, 0, UNITS)
    assert found.arm.tolist() == expected.arm.tolist()
    assert found.rule.tolist() == expected.rule.tolist()
