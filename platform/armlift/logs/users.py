"""Attributes of units, from a table of users in CSV such as KuaiRand's `user_features_*.csv`."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from armlift.errors import InputError
from armlift.imported_rows import str_of

USER = "user_id"


@dataclass(frozen=True)
class UserTable:
    """Attributes by unit, those asked for, and the hash of the file they stand in."""

    attributes: Mapping[str, Mapping[str, object]]
    sha256: str

    def values(self, attribute: str) -> dict[str, str]:
        """Give each unit's value of an attribute as text, where it has one."""
        return {
            unit: str_of(row[attribute])
            for unit, row in self.attributes.items()
            if row[attribute] is not None
        }


def read_users(path: Path, names: Collection[str]) -> UserTable:
    """Read some columns of a table of users; blank cells are missing.

    Raises InputError when the file or a column is missing, or a user stands twice.
    """
    try:
        content = path.read_bytes()
        table = pl.read_csv(
            content, columns=None, schema_overrides={USER: pl.String}, infer_schema_length=None
        )
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, must be a CSV file with a column {USER}") from error
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: is not a table of users: {' '.join(str(error).split())[:200]}") from error
    for name in (USER, *sorted(names)):
        if name not in table.columns:
            raise InputError(f"{path}:1: has no column {name!r}, has {', '.join(table.columns)}")
    twice = table.filter(pl.col(USER).is_duplicated())
    if len(twice):
        raise InputError(f"{path}: user {twice[USER][0]!r} stands twice, must stand once")
    texts = pl.col(pl.String)
    table = table.with_columns(pl.when(texts.str.strip_chars() != "").then(texts).name.keep())
    columns = [name for name in table.columns if name in names]
    rows = table.select(columns).to_dicts()
    return UserTable(dict(zip(table[USER].to_list(), rows, strict=True)), hashlib.sha256(content).hexdigest())
