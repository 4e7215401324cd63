"""Rows of a log made by hand, for tests of off-policy evaluation."""

from collections.abc import Callable

import polars as pl
import pytest

from armlift.offpolicy.logged_rows import LoggedRows, rows_of

MakeRows = Callable[..., LoggedRows]


@pytest.fixture
def make_rows() -> MakeRows:
    """Give the function that makes rows of (unit, item, position, reward, propensity[, request])."""

    def make(*rows: tuple[object, ...]) -> LoggedRows:
        names = ["unit", "item", "position", "reward", "propensity", "request"][: len(rows[0])]
        types = {"position": pl.Int64, "reward": pl.Float64, "propensity": pl.Float64}
        schema = {name: types.get(name, pl.String) for name in names}
        return rows_of(pl.DataFrame(rows, schema=schema, orient="row"), "test", "users")

    return make
