from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from armlift.stats.multiplicity import Adjusted, PValues, benjamini_hochberg, holm

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
