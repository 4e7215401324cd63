from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from tea_tasting.experiment import ExperimentResult
from tea_tasting.multiplicity import adjust_fdr, adjust_fwer

from armlift.errors import InputError
from armlift.stats.estimates import Estimate, compare, independent
from armlift.stats.multiplicity import (
    Adjusted,
    PValues,
    at_alpha,
    benjamini_hochberg,
    benjamini_hochberg_levels,
    holm,
    holm_levels,
)
from armlift.stats.results import Effect, Rules

METHODS = [(holm, "holm"), (benjamini_hochberg, "fdr_bh")]


@pytest.mark.parametrize(("adjust", "name"), METHODS)
def test_it_equals_statsmodels(
    adjust: Callable[[PValues], Adjusted], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # multipletests collects garbage, 0.03 s a call
    rng = np.random.default_rng(1)
    for _ in range(250):
        p_values = rng.uniform(0, 1, rng.integers(1, 40)) ** rng.uniform(1, 8)
        if len(p_values) > 2:
            p_values[1] = p_values[0]  # ties
        theirs = multipletests(p_values, method=name)[1]
        assert list(adjust(p_values.tolist())) == pytest.approx(theirs.tolist(), rel=1e-9)


@pytest.mark.parametrize(("adjust", "name"), METHODS)
def test_what_is_not_known_counts_for_nothing(adjust: Callable[[PValues], Adjusted], name: str) -> None:
    known = adjust([0.03, 0.01])
    assert adjust([None, 0.03, float("nan"), 0.01, None]) == (None, known[0], None, known[1], None)
    assert adjust([]) == ()
    assert adjust([None]) == (None,)


def test_known_values() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.04, 0.04))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusting_keeps_the_order_and_lowers_nothing(p_values: list[float]) -> None:
    for adjust in (holm, benjamini_hochberg):
        adjusted = [p for p in adjust(p_values) if p is not None]
        assert len(adjusted) == len(p_values)
        assert all(p <= q * (1 + 1e-15) and q <= 1.0 for p, q in zip(p_values, adjusted, strict=True))
        by_raw = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
        assert by_raw == sorted(by_raw)


def tea_levels(p_values: list[float], alpha: float, method: str) -> list[float]:
    results: Any = ExperimentResult({f"m{i}": {"pvalue": p} for i, p in enumerate(p_values)})
    if method == "holm":
        found = adjust_fwer(results, alpha=alpha, arbitrary_dependence=True, method="bonferroni")
    else:
        found = adjust_fdr(results, alpha=alpha)
    return [one["alpha_adj"] for one in found["-"].values()]


LEVELS = [(holm_levels, holm, "holm"), (benjamini_hochberg_levels, benjamini_hochberg, "fdr_bh")]


@pytest.mark.parametrize(("levels", "adjust", "name"), LEVELS)
def test_levels_equal_tea_tasting_and_say_what_adjusted_p_values_say(
    levels: Callable[[PValues, float], Adjusted], adjust: Callable[[PValues], Adjusted], name: str
) -> None:
    rng = np.random.default_rng(2)
    discovered = 0
    for _ in range(300):
        p_values = (rng.uniform(0, 1, rng.integers(1, 40)) ** rng.uniform(1, 8)).tolist()
        alpha = float(rng.uniform(0.01, 0.3))
        ours = levels(p_values, alpha)
        assert list(ours) == pytest.approx(tea_levels(p_values, alpha, name), rel=1e-9)
        decisions = [p <= level for p, level in zip(p_values, ours, strict=True) if level is not None]
        assert decisions == [p <= alpha for p in adjust(p_values) if p is not None]
        discovered += sum(decisions)
    assert discovered > 500


@pytest.mark.parametrize(("levels", "adjust", "name"), LEVELS)
def test_levels_of_what_is_not_known_are_not_known(
    levels: Callable[[PValues, float], Adjusted], adjust: Callable[[PValues], Adjusted], name: str
) -> None:
    known = levels([0.03, 0.01], 0.05)
    assert levels([None, 0.03, float("nan"), 0.01, None], 0.05) == (None, known[0], None, known[1], None)
    assert levels([], 0.05) == ()
    with pytest.raises(InputError, match="alpha is 1"):
        levels([0.5], 1.0)


def test_known_levels() -> None:
    p_values = [0.03, 0.001, 0.04, 0.02]
    assert holm_levels(p_values, 0.05) == pytest.approx((0.05 / 3, 0.0125, 0.05 / 3, 0.05 / 3))
    assert benjamini_hochberg_levels(p_values, 0.05) == pytest.approx((0.05,) * 4)
    assert benjamini_hochberg_levels([0.03, 0.001, 0.9, 0.02], 0.05) == pytest.approx(
        (0.0375, 0.0375, 0.05, 0.0375)
    )


numbers = st.one_of(st.floats(-5, 20), st.sampled_from([0.0, 1.0, 1e-9, 1e200]))
arms = st.builds(
    Estimate, st.integers(0, 60), numbers, st.one_of(st.floats(0, 4), st.sampled_from([0.0, 1e306]))
)


@settings(deadline=None, max_examples=500)
@given(a=arms, c=arms, alpha=st.floats(1e-6, 0.3), lift=st.sampled_from(["log", "linear"]))
def test_at_another_alpha_it_is_the_comparison_at_that_alpha(
    a: Estimate, c: Estimate, alpha: float, lift: Any
) -> None:
    effect = compare("welch", a, c, independent(a, c), Rules(alpha=0.3, lift=lift))
    assert at_alpha(effect, alpha) == compare("welch", a, c, independent(a, c), Rules(alpha=alpha, lift=lift))


def test_an_interval_that_overflows_goes_and_does_not_come_back() -> None:
    a, c = Estimate(3, 1.0, 400.0), Estimate(3, 1.0, 1.0)
    narrow = compare("welch", a, c, independent(a, c), Rules(alpha=0.3))
    wide = at_alpha(narrow, 1e-6)
    assert (narrow.status, wide.status) == ("ok", "not_estimable")
    assert (wide.lift_low, wide.lift_error, wide.lift_scale) == (None, None, None)
    assert wide.p_value == narrow.p_value
    assert at_alpha(wide, 0.3).lift_low is None
    with pytest.raises(InputError, match="alpha is 0"):
        at_alpha(narrow, 0.0)


@pytest.mark.parametrize(("levels", "adjust", "name"), LEVELS)
def test_intervals_at_the_levels_agree_with_the_decisions(
    levels: Callable[[PValues, float], Adjusted], adjust: Callable[[PValues], Adjusted], name: str
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        effects: list[Effect] = []
        for shift in rng.choice([0.0, 0.6], 12):
            a, c = (Estimate(40, float(rng.normal(5 + k * shift, 0.2)), 0.04) for k in (1, 0))
            effects.append(compare("welch", a, c, independent(a, c), Rules()))
        p_values = [one.p_value for one in effects]
        for effect, level, p in zip(effects, levels(p_values, 0.05), adjust(p_values), strict=True):
            assert level is not None
            assert p is not None
            low, high = at_alpha(effect, level).difference_low, at_alpha(effect, level).difference_high
            assert low is not None
            assert high is not None
            assert (low > 0 or high < 0) == (p <= 0.05)


def test_discoveries_intervals_miss_their_effect_no_more_often_than_alpha() -> None:
    rng = np.random.default_rng(4)
    sims, missed = 400, []
    for _ in range(sims):
        truths = rng.choice([0.0, 0.6, 1.0], 20)
        effects = []
        for truth in truths:
            a, c = (
                Estimate(400, float(rng.normal(5 + truth, 0.2)), 0.04),
                Estimate(400, float(rng.normal(5, 0.2)), 0.04),
            )
            effects.append(compare("welch", a, c, independent(a, c), Rules(alpha=0.1)))
        levels = benjamini_hochberg_levels([one.p_value for one in effects], 0.1)
        outside = []
        for truth, effect, level in zip(truths, effects, levels, strict=True):
            if level is not None and (effect.p_value or 0.0) <= level:
                one = at_alpha(effect, level)
                outside.append(not (one.difference_low or 0) <= truth <= (one.difference_high or 0))
        missed.append(sum(outside) / max(1, len(outside)))
    assert np.mean(missed) < 0.1 + 4 * np.std(missed) / np.sqrt(sims)
