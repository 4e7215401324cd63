"""The dense mode: a log's rows from the cut on are a matrix of units and items that answers for any pair.

That is what KuaiRec's small matrix is for (Gao et al. 2022): of 1,411 units and 3,327 items 99.6 % of the
pairs were observed, so what an arm would earn is read off, not guessed. Its rows without a time are what
users were made to see that no policy had shown them: they answer too. A pair answers once under an arm. It
takes 18 bytes and one for each kind counted, so that all of the small matrix is some 90 MB, twice that while
it is read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from armlift.asked import Asked
from armlift.logs.reader import Log
from armlift.logs.rows import Bools, Floats, Ints, read_rows
from armlift.logs.sessions import MEASURED, LoggedImpression


@dataclass(frozen=True, eq=False)
class Matrix:
    """The pairs a log holds from a time on, each with its first outcome.

    `pairs` are place of the unit * items + place of the item, ascending, int64 [p]; `feedback` has columns
    [p] as in `Rows`, what is counted first. `rows` were read for it, `untimed` of them without a time.
    """

    units: Mapping[str, int]
    items: Mapping[str, int]
    pairs: Ints
    feedback: Mapping[str, Bools | Floats]
    rows: int
    untimed: int

    @property
    def density(self) -> float:
        """Give the share of the pairs of its units and items that it holds."""
        cells = len(self.units) * len(self.items)
        return len(self.pairs) / cells if cells else 0.0

    def places(self, unit: str, items: Sequence[str]) -> list[int]:
        """Find where the pairs of a unit and items stand; -1 for pairs not observed."""
        row = self.units.get(unit)
        if row is None or not len(self.pairs):
            return [-1] * len(items)
        columns = np.array([self.items.get(item, -1) for item in items], dtype=np.int64)
        pairs = row * len(self.items) + columns
        at = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        found: list[int] = np.where((columns >= 0) & (self.pairs[at] == pairs), at, -1).tolist()
        return found

    def feedback_at(self, place: int) -> tuple[tuple[str, float], ...]:
        """Give the kinds and values of a pair, those that happened."""
        return tuple((kind, float(values[place])) for kind, values in self.feedback.items() if values[place])


def read_matrix(log: Log, since: int) -> Matrix:
    """Read the pairs of a log from `since` (UTC milliseconds) on, and those without a time, the last."""
    rows = read_rows(log, since=since, untimed=True)
    pairs = rows.unit.astype(np.int64) * len(rows.items) + rows.item
    # Rows are in time order, and of equal values the first one's place is given.
    pairs, first = np.unique(pairs, return_index=True)
    kinds = sorted(rows.feedback, key=lambda kind: kind in MEASURED)
    return Matrix(
        units={unit: place for place, unit in enumerate(rows.units)},
        items={item: place for place, item in enumerate(rows.items)},
        pairs=pairs,
        feedback={kind: rows.feedback[kind][first] for kind in kinds},
        rows=len(rows),
        untimed=int((rows.ts < 0).sum()),
    )


class DenseOutcomes:
    """What a matrix holds; counts the pairs arms asked for, and those it answered, by arm."""

    def __init__(self, matrix: Matrix) -> None:
        noted = {"repeat_of_pair": matrix.rows - len(matrix.pairs), "pair_without_time": matrix.untimed}
        self.left_out: Counter[str] = Counter({reason: n for reason, n in noted.items() if n})
        self._matrix = matrix
        self._asked: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._met: dict[tuple[str, str], set[str]] = {}

    def of(self, asked: Asked, arm: str, items: Sequence[str]) -> Mapping[str, LoggedImpression]:
        """Give the outcomes of the pairs observed, as of the request's time, each once under an arm."""
        met = self._met.setdefault((asked.unit, arm), set())
        found = {}
        for item, place in zip(items, self._matrix.places(asked.unit, items), strict=True):
            if place < 0:
                self.left_out["pair_not_observed"] += 1
            elif item in met:
                self.left_out["pair_met"] += 1
            else:
                found[item] = LoggedImpression(item, asked.ts, None, self._matrix.feedback_at(place))
        met.update(found)
        self._asked[arm] += len(items)
        self._answered[arm] += len(found)
        return found

    def basis(self) -> dict[str, object]:
        """Give the rows of the matrix, and the pairs asked for and answered, by arm."""
        return {
            "rows": self._matrix.rows,
            "density": self._matrix.density,
            "asked_pairs": dict(sorted(self._asked.items())),
            "answered_pairs": dict(sorted(self._answered.items())),
        }
