"""Raw totals are sums over units, and unknown where there are none."""

import numpy as np

from armlift.raw import Raw, raw_of, raw_of_pairs
from armlift.stats.aggregates import Aggregates


def test_a_ratio_has_both_sums_and_a_mean_its_units() -> None:
    ratio = Aggregates.of(("num", "den"), np.array([[1.0, 4.0], [3.0, 6.0]]))
    mean = Aggregates.of(("num",), np.array([[2.0], [5.0], [0.5]]))
    assert raw_of(ratio, mean) == Raw(4.0, 10.0, 7.5, 3.0)


def test_no_units_have_no_totals() -> None:
    empty = Aggregates.empty(("num", "den"))
    assert raw_of(empty, empty) == Raw()


def test_pairs_have_both_sides() -> None:
    names = ("num", "den", "control_num", "control_den")
    pairs = Aggregates.of(names, np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 5.0, 6.0]]))
    assert raw_of_pairs(pairs) == Raw(2.0, 4.0, 8.0, 10.0)
