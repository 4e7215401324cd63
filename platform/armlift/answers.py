"""Answers: what a report asks of the database, each under its question, kept as JSON and given again.

A report is computed from the kept form alone, whether its answers have just come from the database or lie in
a snapshot: so what is stored is what the numbers rest on, bit for bit (JSON writes floats by `repr`).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Connection

from armlift.aggregates import Question, Stratum, UnitTotals
from armlift.errors import StoreError
from armlift.metric import Metrics
from armlift.segments import Segment
from armlift.stats.aggregates import Aggregates

T = TypeVar("T")
ByStratum = dict[Stratum, Aggregates]


class Source(NamedTuple):
    """Where answers come from that are not kept yet."""

    connection: Connection
    totals: UnitTotals


class Answers:
    """What `UnitTotals` answers, and whatever else a report asks.

    `kept` has each answer by its question, such as `pairs/METRIC/ARM/CONTROL`. Without a source only kept
    answers are given, others raise StoreError. `sql` is what asked for the totals.
    """

    def __init__(
        self, kept: Mapping[str, Any] | None = None, *, sql: str = "", source: Source | None = None
    ) -> None:
        self.kept: dict[str, Any] = dict(kept or {})
        self.sql = sql
        self._source = source
        self._of = ""
        self._phase: int | None = None

    @classmethod
    def from_database(cls, connection: Connection, question: Question, metrics: Metrics) -> "Answers":
        """Ask the database, and keep what it says."""
        totals = UnitTotals(connection, question, metrics)
        return cls(sql=totals.sql, source=Source(connection, totals))

    def ask(self, question: str, query: Callable[[Connection], Any]) -> Any:
        """Give what a query says, as plain JSON data: tuples become lists."""
        return self._give(question, lambda source: query(source.connection), _plain)

    def segments(self) -> list[Segment]:
        """List the segments that have units."""
        kept = self._give("segments", lambda s: s.totals.segments(), lambda found: [[*one] for one in found])
        return [Segment(*one) for one in kept]

    def within(self, segment: Segment) -> "Answers":
        """Give what is answered of a segment's units; it is kept with the rest."""
        mine = copy(self)
        mine._of = f"segment/{segment}/"
        if self._source is not None:
            mine._source = self._source._replace(totals=self._source.totals.within(segment))
        return mine

    def in_phase(self, phase: int) -> "Answers":
        """Give what is answered by stratum of units first exposed in a phase; the rest is of all units."""
        mine = copy(self)
        mine._phase = phase
        return mine

    def counts(self) -> dict[Stratum, int]:
        """Count the units of each stratum."""
        return self._counted("counts", lambda s: s.totals.counts())

    def assigned(self) -> dict[Stratum, int]:
        """Count the units of each stratum, with those that exclusions leave out."""
        return self._counted("assigned", lambda s: s.totals.assigned())

    def excluded(self) -> dict[str, int]:
        """Count the units of each arm that exclusions leave out."""
        return dict(self._give("excluded", lambda s: s.totals.excluded(), _plain))

    def skewness(self, metric: str) -> dict[str, tuple[int, float]]:
        """Give each arm's units and the skewness of their values."""
        kept = self._give(f"skewness/{metric}", lambda s: s.totals.skewness(metric), _plain)
        return {arm: (n, skewness) for arm, (n, skewness) in kept.items()}

    def carriers(self, metric: str) -> dict[str, int]:
        """Count each arm's units with a denominator."""
        return dict(self._give(f"carriers/{metric}", lambda s: s.totals.carriers(metric), _plain))

    def too_young(self) -> dict[str, int]:
        """Count the units each metric leaves out because they are not old enough."""
        return dict(self._give("too_young", lambda s: s.totals.too_young(), _plain))

    def left_out(self) -> dict[str, int]:
        """Count the units that exposures name but the totals leave out."""
        return dict(self._give("left_out", lambda s: s.totals.left_out(), _plain))

    def by_stratum(self, metric: str) -> ByStratum:
        """Give a metric's aggregates by stratum."""
        return self._strata(f"by_stratum/{metric}", lambda s: s.totals.by_stratum(metric))

    def before(self, metric: str) -> ByStratum:
        """Give the aggregates of what units did before their first exposure, by stratum."""
        return self._strata(f"before/{metric}", lambda s: s.totals.before(metric))

    def caps(self) -> dict[str, float]:
        """Give the values at which metrics are capped, by metric."""
        return dict(self._give("caps", lambda s: s.totals.caps(), _plain))

    def quantile(self, metric: str, arm: str, ranks: Sequence[int]) -> list[float]:
        """Give the order statistics of an arm's units at some ranks."""
        question = f"quantile/{metric}/{arm}/{','.join(map(str, ranks))}"
        return list(self._give(question, lambda s: s.totals.quantile(metric, arm, ranks), _plain))

    def units(self, metric: str, arm: str) -> int:
        """Count an arm's units that count in a metric."""
        return int(self._give(f"units/{metric}/{arm}", lambda s: s.totals.units(metric, arm), _plain))

    def share_at_most(self, metric: str, value: float) -> ByStratum:
        """Give aggregates over (below, values) by stratum."""
        question = f"share_at_most/{metric}/{float(value)!r}"
        return self._strata(question, lambda s: s.totals.share_at_most(metric, value))

    def by_age(self, metric: str) -> dict[int, ByStratum]:
        """Give a metric's aggregates of single days, by days since first exposure and stratum."""

        def write(found: Mapping[int, ByStratum]) -> list[dict[str, Any]]:
            return [
                {"age": age, **s._asdict(), **_written(a)}
                for age, some in found.items()
                for s, a in some.items()
            ]

        found: dict[int, ByStratum] = {}
        for one in self._give(f"by_age/{metric}", lambda s: s.totals.by_age(metric), write):
            stratum = Stratum(one["arm"], one["generation"], one["phase"])
            if self._asked(stratum):
                found.setdefault(one["age"], {})[stratum] = _read(one)
        return found

    def slopes(self, metric: str, days: int) -> ByStratum:
        """Give aggregates of each unit's own slope a day of a metric, by stratum."""
        return self._strata(f"slopes/{metric}/{days}", lambda s: s.totals.slopes(metric, days))

    def arrivals(self) -> dict[int, int]:
        """Count the units by the day of their first exposure."""
        kept = self._give("arrivals", lambda s: s.totals.arrivals(), lambda n: [[*one] for one in n.items()])
        return dict(kept)

    def arrivals_by_arm(self) -> dict[tuple[str, int], int]:
        """Count each arm's new units by the day they first met it."""
        kept = self._give(
            "arrivals_by_arm",
            lambda s: s.totals.arrivals_by_arm(),
            lambda found: [[*key, units] for key, units in found.items()],
        )
        return {(arm, day): units for arm, day, units in kept}

    def pairs(self, metric: str, arm: str, control: str) -> Aggregates:
        """Give a metric's aggregates of the units that met both arms."""
        question = f"pairs/{metric}/{arm}/{control}"
        return _read(self._give(question, lambda s: s.totals.pairs(metric, arm, control), _written))

    def _counted(self, question: str, ask: Callable[[Source], dict[Stratum, int]]) -> dict[Stratum, int]:
        kept = self._give(question, ask, lambda counts: [[*key, n] for key, n in counts.items()])
        return {one: n for *stratum, n in kept if self._asked(one := Stratum(*stratum))}

    def _strata(self, question: str, ask: Callable[[Source], ByStratum]) -> ByStratum:
        kept = self._give(question, ask, lambda m: [{**s._asdict(), **_written(a)} for s, a in m.items()])
        strata = {Stratum(one["arm"], one["generation"], one["phase"]): one for one in kept}
        return {stratum: _read(one) for stratum, one in strata.items() if self._asked(stratum)}

    def _asked(self, stratum: Stratum) -> bool:
        return self._phase is None or stratum.phase == self._phase

    def _give(self, question: str, ask: Callable[[Source], T], write: Callable[[T], Any]) -> Any:
        question = self._of + question
        if question not in self.kept:
            if self._source is None:
                raise StoreError(f"the snapshot has no answer to {question}; another version made it")
            self.kept[question] = write(ask(self._source))
        return self.kept[question]


def _plain(value: Any) -> Any:
    """Turn mappings, sequences and numbers into what JSON gives back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _written(aggregates: Aggregates) -> dict[str, Any]:
    return {
        "names": list(aggregates.names),
        "n": aggregates.n,
        "means": aggregates.means.tolist(),
        "moments": aggregates.moments.tolist(),
    }


def _read(kept: Mapping[str, Any]) -> Aggregates:
    names, p = tuple(kept["names"]), len(kept["names"])
    means, moments = np.array(kept["means"], dtype=np.float64), np.array(kept["moments"], dtype=np.float64)
    return Aggregates(names, kept["n"], means, moments.reshape(p, p))
