"""Raw totals: what a comparison's means were divided from, before any adjustment."""

from typing import NamedTuple

from armlift.stats.aggregates import Aggregates


class Raw(NamedTuple):
    """The numerator and the denominator of both sides of a comparison, added up over units; unknown is None.

    Of a mean or a share the denominator is the number of units. Capped metrics count capped values.
    """

    numerator: float | None = None
    denominator: float | None = None
    control_numerator: float | None = None
    control_denominator: float | None = None


UNKNOWN = Raw()


def raw_of(arm: Aggregates, control: Aggregates) -> Raw:
    """Add up two arms' own aggregates over (num) or (num, den)."""
    return Raw(*_side(arm, "num", "den"), *_side(control, "num", "den"))


def raw_of_pairs(pairs: Aggregates) -> Raw:
    """Add up both sides of aggregates over units that met both arms."""
    return Raw(*_side(pairs, "num", "den"), *_side(pairs, "control_num", "control_den"))


def _side(one: Aggregates, numerator: str, denominator: str) -> tuple[float | None, float | None]:
    if numerator not in one.names or not one.n:
        return None, None
    below = _total(one, denominator) if denominator in one.names else float(one.n)
    return _total(one, numerator), below


def _total(one: Aggregates, name: str) -> float:
    return float(one.means[one.index(name)]) * one.n
