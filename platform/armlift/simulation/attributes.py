"""Attributes of simulated users: rows of a real table of users, or degrees of activity as published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from armlift.imported_rows import str_of
from armlift.logs.users import read_users
from armlift.simulation.draws import Floats

DEGREE = "user_active_degree"
DEGREES = {
    "UNKNOWN": 6, "day_new": 11, "single_low_active": 68, "30day_retention": 15, "low_active": 300,
    "2_14_day_new": 635, "middle_active": 2_133, "high_active": 6_158, "full_active": 17_959,
}  # fmt: skip
"""How many users of KuaiRand-Pure's table have each degree of activity; we take their order to be this."""

Row = Mapping[str, object]


@dataclass(frozen=True)
class Population:
    """Rows of attributes in ascending order of activity, and a hash of what they came from."""

    rows: Sequence[Row]
    sha256: str | None = None

    @classmethod
    def synthetic(cls) -> "Population":
        """Give degrees of activity alone, in their published shares."""
        return cls([{DEGREE: degree} for degree, users in DEGREES.items() for _ in range(users)])

    @classmethod
    def of_table(cls, path: Path, names: Sequence[str]) -> "Population":
        """Read a table of users such as `user_features_pure.csv`; `names` are the attributes that are asked
        for.

        Raises InputError when the file or a column is missing, or a user stands twice.
        """
        table = read_users(path, {*names, DEGREE})
        order = {degree: place for place, degree in enumerate(DEGREES)}
        rows = sorted(table.attributes.values(), key=lambda row: order.get(str(row[DEGREE]), -1))
        return cls(rows, table.sha256)

    def of(self, activity: Floats) -> list[Row]:
        """Give users their rows: by their quantiles of activity, in [0, 1), [n]."""
        places = np.minimum((activity * len(self.rows)).astype(np.int64), len(self.rows) - 1)
        return [self.rows[place] for place in places.tolist()]

    def names(self) -> list[str]:
        """List the attributes there are."""
        return list(self.rows[0]) if self.rows else []


def values_of(rows: Sequence[Row], attribute: str) -> list[str | None]:
    """Give the value of an attribute of each row as text, None where it is missing."""
    return [None if row.get(attribute) is None else str_of(row[attribute]) for row in rows]
