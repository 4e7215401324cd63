import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.logs.generator_response import GRID_TABS, RANDOM, SHORT_MS, STANDARD, Response


def response(lift: float) -> Response:
    levels = np.linspace(-3, 3, 30).reshape(2, 15)
    return Response(1.0, levels, np.array([-1.0, 0.5]), min(1.0, 1 / (1 + lift)), lift)


@given(
    affinity=st.lists(st.floats(-30, 30), min_size=1, max_size=20),
    lift=st.floats(-0.9, 1),
    kind=st.sampled_from([STANDARD, RANDOM]),
    tab=st.integers(0, 14),
)
def test_planting_multiplies_by_exactly_the_lift_and_stays_a_probability(
    affinity: list[float], lift: float, kind: int, tab: int
) -> None:
    n = len(affinity)
    where = (np.array(affinity), np.full(n, kind), np.full(n, tab))
    plain = response(lift).click(*where, np.zeros(n, dtype=np.bool_))
    planted = response(lift).click(*where, np.ones(n, dtype=np.bool_))
    assert planted == pytest.approx(plain * (1 + lift), rel=1e-12)
    assert planted.max() <= 1 + 1e-12


def test_a_click_on_a_short_video_outside_grids_is_a_long_view() -> None:
    tabs = np.arange(15)
    chance = response(0.0).long_view(np.zeros(15), np.zeros(15, dtype=np.int64), tabs, np.full(15, SHORT_MS))
    assert ((chance == 1.0) == ~GRID_TABS).all()
    longer = response(0.0).long_view(
        np.zeros(15), np.zeros(15, dtype=np.int64), tabs, np.full(15, SHORT_MS + 1)
    )
    assert (longer < 1.0).all()
