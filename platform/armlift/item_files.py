"""Files of items: CSV or JSON lines, one item a row; what is not its id or availability is an attribute."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from armlift.errors import InputError
from armlift.items import Item, check

COLUMNS = ("item_id", "available")
"""What each row must have."""
JSON_LINES = (".jsonl", ".ndjson")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "false": False}
_AVAILABLE = {**_BOOLS, "1": True, "0": False}

Row = tuple[int, dict[str, Any]]
"""The number of a line, and what stands there by column."""


def read_items(path: Path, updated: int) -> list[Item]:
    """Read a file: JSON lines where its name ends in .jsonl or .ndjson, else CSV with a header.

    A cell of CSV is a number where JSON would take it for one, `true` or `false`, no attribute where it is
    empty, else text. `updated` (UTC ms) is that of all items. Raises InputError, with file and line, for the
    first row that is no item, and for an item that occurs twice.
    """
    rows = _json_rows if path.suffix.lower() in JSON_LINES else _csv_rows
    found: dict[str, tuple[int, Item]] = {}
    try:
        for line, row in rows(path):
            item = _item(path, line, row, updated)
            if item.item_id in found:
                raise InputError(
                    f"{path}: line {line}: item {item.item_id!r} is on line {found[item.item_id][0]} "
                    "already, must occur once"
                )
            found[item.item_id] = line, item
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8, must be: {error.reason}") from error
    return [item for _, item in found.values()]


def _item(path: Path, line: int, row: dict[str, Any], updated: int) -> Item:
    for name in COLUMNS:
        if name not in row:
            raise InputError(f"{path}: line {line}: has no {name}, must have {' and '.join(COLUMNS)}")
    attributes = {name: value for name, value in row.items() if name not in COLUMNS}
    item = Item(row["item_id"], row["available"], attributes, updated)
    try:
        check(item)
    except InputError as error:
        raise InputError(f"{path}: line {line}: {error}") from error
    return item


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}: line {line}: is no JSON, must be an object: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {line}: is no JSON object, must be one item")
            yield line, row


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = _header(path, next(rows, []))
            for cells in rows:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}: line {rows.line_num}: has {len(cells)} cells, must have {len(header)}"
                    )
                yield rows.line_num, _row(dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise InputError(f"{path}: line {rows.line_num}: is no CSV: {error}") from error


def _header(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    for name in COLUMNS:
        if name not in names:
            raise InputError(f"{path}: line 1: has no column {name}, must have {' and '.join(COLUMNS)}")
    for name in names:
        if not name or names.count(name) > 1:
            raise InputError(f"{path}: line 1: column {name!r} must have a name, and occur once")
    return names


def _row(cells: dict[str, str]) -> dict[str, Any]:
    """Give the cells of a row their types."""
    attributes = {
        name: _value(text) for name, text in cells.items() if name not in COLUMNS and text.strip() != ""
    }
    available = cells["available"]
    return {
        **attributes,
        "item_id": cells["item_id"].strip(),
        "available": _AVAILABLE.get(available.strip().lower(), available),
    }


def _value(text: str) -> str | int | float | bool:
    bare = text.strip()
    if bare.lower() in _BOOLS:
        return _BOOLS[bare.lower()]
    number = _NUMBER.fullmatch(bare)
    if number is None or len(bare) > 300:
        return text
    return float(bare) if number[2] or number[3] else int(bare)
