"""Files without the rows of some units."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Table

from armlift.archive.folder import Folder
from armlift.archive.manifest import StoredFile
from armlift.archive.writing import write_file

_UNIT = "unit_id"


class Erased(NamedTuple):
    """How many files were written anew or removed, and how many rows that took away."""

    files: int
    rows: int


def without(root: Folder, file: StoredFile, table: Table, units: Sequence[str]) -> StoredFile | None:
    """Write a file anew without the rows of some units (sorted); gives the file itself where it has none.

    None where nothing is left of it. The old file stays.
    """
    with root.reading(file.path) as content, pq.ParquetFile(content) as parquet:
        if not any(_holds(parquet, group, units) for group in range(parquet.num_row_groups)):
            return file
        return write_file(root, file.path.rpartition("/")[0], table, _others(parquet, units))


def _holds(parquet: pq.ParquetFile, group: int, units: Sequence[str]) -> bool:
    """Tell whether a row group has rows of some units: mostly its least and greatest say that it has none."""
    column = parquet.schema_arrow.get_field_index(_UNIT)
    told = parquet.metadata.row_group(group).column(column).statistics
    if told is not None and told.has_min_max:
        first = bisect_left(units, told.min)
        if first == len(units) or units[first] > told.max:
            return False
    found = pc.is_in(parquet.read_row_group(group, columns=[_UNIT])[_UNIT], pa.array(units, pa.string()))
    return bool(pc.any(found).as_py())


def _others(parquet: pq.ParquetFile, units: Sequence[str]) -> Iterator[pa.Table]:
    """Read the rows of all other units, a row group at a time."""
    unwanted = pa.array(units, pa.string())
    for group in range(parquet.num_row_groups):
        rows = parquet.read_row_group(group)
        yield rows.filter(pc.invert(pc.is_in(rows[_UNIT], unwanted)))
