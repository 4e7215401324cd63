"""The columns of archived events: those of the SQL tables, in Arrow's types."""

import pyarrow as pa
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table

from armlift.store.tables import exposures, feedback, impressions

VERSION = 1
"""Of the columns; a change of theirs is a new version, and files keep the one they were written in."""
TABLES = {table.name: table for table in (exposures, impressions, feedback)}
"""What is archived."""
_TYPES = (
    (BigInteger, pa.int64()),
    (Integer, pa.int32()),
    (Float, pa.float64()),
    (Boolean, pa.bool_()),
    (String, pa.string()),
)


def schema_of(table: Table) -> pa.Schema:
    """Give the Arrow schema of a table: its columns in their order; the metadata name table and version."""
    told = {"armlift.table": table.name, "armlift.schema": str(VERSION)}
    return pa.schema([_field(column) for column in table.c], metadata=told)


def _field(column: Column[object]) -> pa.Field:
    type_ = next(arrow for kind, arrow in _TYPES if isinstance(column.type, kind))
    return pa.field(column.name, type_, nullable=bool(column.nullable))
