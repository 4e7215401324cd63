"""The experiment definition: what it takes, what it refuses, and exact shares."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from armlift.experiment import Experiment, Phase, exact

ARMS = ("a", "b", "c")
weights = st.floats(0, 1e6, allow_subnormal=False)


def made(**change: Any) -> Experiment:
    """Build an experiment of two arms, changed."""
    given = {"name": "e", "arms": {"a": 1, "b": 1}, "control": "a", "metrics": {"primary": ["clicks"]}}
    return Experiment.model_validate({**given, **change})


def test_defaults() -> None:
    experiment = made()
    assert experiment.layer.slice == (0.0, 1.0)
    assert experiment.phases == (Phase(),)
    assert experiment.phases[0].traffic == 1.0
    assert experiment.parsed_audience is None
    assert experiment.challengers == ["b"]
    assert (experiment.analysis.alpha, experiment.analysis.minimum_units) == (0.05, 30)


@given(st.decimals(0, 1, places=6))
def test_exact_is_the_decimal_that_was_written(written: Decimal) -> None:
    assert exact(float(written)) == Fraction(written)


def test_a_tenth_is_a_tenth() -> None:
    assert exact(0.1) == Fraction(1, 10) != Fraction(0.1)
    assert exact(0.1) + exact(0.2) == exact(0.3)


@given(st.dictionaries(st.sampled_from(ARMS), weights, min_size=1))
def test_weights_are_taken_unless_all_are_0(found: dict[str, float]) -> None:
    given = {"arms": found, "control": next(iter(found))}
    if any(found.values()):
        assert made(**given).arms == found
    else:
        with pytest.raises(ValidationError, match="are all 0, at least one must be > 0"):
            made(**given)


@given(st.dictionaries(st.sampled_from(ARMS), weights, min_size=1), st.sampled_from([-1.0, -1e-9]))
def test_a_negative_weight_is_refused(found: dict[str, float], bad: float) -> None:
    first = next(iter(found))
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        made(arms={**found, first: bad}, control=first)


@given(st.sets(st.sampled_from(ARMS)))
def test_new_weights_are_of_the_same_arms(named: set[str]) -> None:
    phases = [{}, {"start": "2022-04-20", "weights": dict.fromkeys(sorted(named), 1)}]
    if named == {"a", "b"}:
        assert made(phases=phases).phases[1].weights == {"a": 1, "b": 1}
    else:
        with pytest.raises(ValidationError, match=r"phases\.1\.weights: name|names no arm"):
            made(phases=phases)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"control": "c"}, "control: 'c' is not an arm, must be one of a, b"),
        ({"forced": {"u": "c"}}, "forced.u: 'c' is not an arm, must be one of a, b"),
        ({"replay": {"versions": {"c": "x"}}}, "replay.versions.c: 'c' is not an arm"),
        ({"phases": []}, "at least 1 item"),
        ({"phases": [{}, {}]}, r"phases\.1\.start: is missing; only the first phase may leave it out"),
        ({"phases": [{"traffic": 1.1}]}, "less than or equal to 1"),
        ({"phases": [{"start": "soon"}]}, "'soon' is not a time"),
        ({"phases": [{"start": "2022"}]}, "'2022' is not a time"),
        ({"arms": {"A": 1, "a": 1}}, "pattern"),
        ({"arms": {"a": float("inf")}}, "finite number"),
        ({"layer": {"slice": [0.5, 0.2]}}, r"\[0.5, 0.2\] is empty, must be \[from, to\] with from < to"),
        ({"layer": {"slice": [0, 1.5]}}, "less than or equal to 1"),
        ({"metrics": {"primary": []}}, "at least 1 item"),
        ({"metrics": {"primary": ["x"], "guardrails": ["x"]}}, r"guardrails\.0: metric 'x' stands twice"),
        ({"analysis": {"alpha": 0}}, "greater than 0"),
        ({"replay": {"session_gap": float("inf")}}, "finite number"),
        ({"audience": "f(x)"}, r"Value error, 'f\(x\)' is not understood, must be"),
        ({"audience": "x +"}, r"Value error, 'x \+' is not a condition"),
        ({"plan": {}}, "Extra inputs"),
    ],
)
def test_other_experiments_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        made(**change)


def test_times_are_iso_with_or_without_an_offset() -> None:
    starts = ["2022-04-20", "2022-04-21T06:30", "2022-04-22T06:30:00+00:00"]
    found = made(phases=[{}, *({"start": start} for start in starts)])
    assert [phase.start for phase in found.phases[1:]] == [
        datetime(2022, 4, 20),
        datetime(2022, 4, 21, 6, 30),
        datetime(2022, 4, 22, 6, 30, tzinfo=UTC),
    ]


def test_roles_keep_the_order_of_the_definition() -> None:
    found = made(metrics={"primary": ["p"], "secondary": ["t", "s"], "guardrails": ["g"]})
    assert list(found.metrics.roles.items()) == [
        ("p", "primary"),
        ("t", "secondary"),
        ("s", "secondary"),
        ("g", "guardrail"),
    ]


def test_a_definition_survives_json_with_its_hash() -> None:
    experiment = made(phases=[{"traffic": 0.5}, {"start": "2022-04-20T06:30+08:00"}], audience="x > 1")
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment
    assert again.content_hash == experiment.content_hash
    assert len(experiment.content_hash) == 32


def test_the_hash_tells_apart_what_assigns_otherwise() -> None:
    hashes = {
        made().content_hash,
        made(arms={"b": 1, "a": 1}).content_hash,  # the order of arms orders their ranges
        made(arms={"a": 1, "b": 2}).content_hash,
        made(phases=[{"traffic": 0.5}]).content_hash,
        made(layer={"slice": [0, 0.5]}).content_hash,
    }
    assert len(hashes) == 5
    assert made(layer={"slice": [0, 1]}, description="").content_hash == made().content_hash
