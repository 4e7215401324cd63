"""Spark's SQL as a dialect of SQLAlchemy: what is written once for all is compiled for Spark too."""

from types import ModuleType
from typing import Any

from sqlalchemy import Connection, types
from sqlalchemy.dialects import registry
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import GenericTypeCompiler, IdentifierPreparer

from armlift.spark import dbapi


class _TypeCompiler(GenericTypeCompiler):
    """Names types as Spark does: its FLOAT has 32 bits, and texts have no length."""

    def visit_FLOAT(self, type_: types.Float[Any], **kw: Any) -> str:  # noqa: N802
        return "DOUBLE"

    def visit_VARCHAR(self, type_: types.String, **kw: Any) -> str:  # noqa: N802
        return "STRING"


class _Preparer(IdentifierPreparer):
    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect, initial_quote="`")


class _Float(types.Float[float]):
    """Writes numbers into a text as doubles; plain ones are decimals to Spark."""

    def literal_processor(self, dialect: Dialect) -> Any:
        """Give what writes a number."""
        return lambda value: f"{float(value)!r}D"


registry.register("spark.session", __name__, "SparkDialect")


class SparkDialect(DefaultDialect):
    """Queries and temporary tables of a Spark session; there are no transactions."""

    name = "spark"
    driver = "session"
    default_paramstyle = "named"
    supports_statement_cache = True
    supports_native_boolean = True
    supports_sane_rowcount = False
    cte_follows_insert = True
    div_is_floordiv = False
    type_compiler_cls = _TypeCompiler
    preparer: type[IdentifierPreparer] = _Preparer
    colspecs = {types.Float: _Float}  # noqa: RUF012

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Give the driver."""
        return dbapi

    def initialize(self, connection: Connection) -> None:
        """Ask nothing of a session: there is nothing that depends on its version."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Take nothing back: temporary tables go with their connection."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Keep nothing."""
