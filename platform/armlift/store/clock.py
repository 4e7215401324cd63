"""The database's clock, so that clocks of hosts which differ do no harm."""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class DatabaseTime(FunctionElement[int]):
    """The time by the database's clock, in UTC milliseconds."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseTime)
def _sqlite_time(_element: DatabaseTime, _compiler: SQLCompiler, **_options: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(DatabaseTime, "postgresql")
def _postgresql_time(_element: DatabaseTime, _compiler: SQLCompiler, **_options: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)"
