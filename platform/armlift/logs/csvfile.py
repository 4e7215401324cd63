"""CSV files read in blocks of whole lines: flat memory, and errors that name file, line, column and value.

polars parses a block at a time. Only where it fails, or where the number of commas is not that of a clean
block, a slow second look goes over the lines to find what is wrong. Line breaks inside quotes are not
supported; logs of numbers have none. A file whose name ends in `.gz` is unpacked on the way.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import polars as pl

from armlift.errors import InputError

BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 16
_EXACT_FLOAT = 2.0**53
_WHOLE = re.compile(r"\s*[+-]?\d+(\.0*)?")

Schema = Mapping[str, pl.DataType]


class Hash(Protocol):
    """What takes in bytes, as the objects of hashlib do."""

    def update(self, data: bytes, /) -> None:
        """Take in the next bytes."""
        ...


class _Readable(Protocol):
    """What files and unpacked files share."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


def read_header(path: Path) -> list[str]:
    """Read the column names of a CSV file.

    Raises InputError where there is no file, it is a folder, empty or not UTF-8, or a name occurs twice.
    """
    with _opened(path) as file:
        line = file.readline(_HEADER_BYTES)
    if not line:
        raise InputError(f"{path}: the file is empty, must be a CSV file with a header")
    if len(line) == _HEADER_BYTES:
        raise InputError(
            f"{path}: line 1 is longer than {_HEADER_BYTES} bytes, must be the header of a CSV file"
        )
    _check_utf8(path, 1, line)
    names = next(csv.reader([line.decode("utf-8-sig").strip("\r\n")]), [])
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: line 1: column {shorten(name)} occurs twice, must occur once")
    return names


def read_frames(path: Path, schema: Schema, hasher: Hash | None = None) -> Iterator[pl.DataFrame]:
    """Read the rows of a CSV file, some megabytes at a time; blank lines are left out.

    `schema` gives each column of the header its type, in the file's order. `hasher` is fed every byte of the
    file (unpacked), the header too. Raises InputError as soon as a line is ragged, is not UTF-8, or has text
    in a column of numbers.
    """
    with _opened(path) as file:
        header = file.readline(_HEADER_BYTES)
        if hasher is not None:
            hasher.update(header)
        for line, block in _blocks(path, file):
            if hasher is not None:
                hasher.update(block)
            yield _parse(path, line, block, schema)


def shorten(value: str) -> str:
    """Quote a value for an error, at most 40 characters of it."""
    return repr(value if len(value) <= 40 else value[:37] + "...")


@contextmanager
def _opened(path: Path) -> Iterator[_Readable]:
    try:
        with path.open("rb") as file:
            yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, must be a CSV file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _blocks(path: Path, file: _Readable) -> Iterator[tuple[int, bytes]]:
    """Cut what follows the header at line ends: (number of the first line, bytes)."""
    line, rest = 2, b""
    while chunk := file.read(BLOCK_BYTES):
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            rest += chunk
            if len(rest) > BLOCK_BYTES:
                raise InputError(f"{path}: line {line} is longer than {BLOCK_BYTES} bytes")
            continue
        block = rest + head + newline
        yield line, block
        line += block.count(b"\n")
        rest = tail
    if rest:
        yield line, rest


def _parse(path: Path, line: int, block: bytes, schema: Schema) -> pl.DataFrame:
    """Parse whole lines, the first of which has the number `line` in the file."""
    _check_utf8(path, line, block)
    rows = block.count(b"\n") + (not block.endswith(b"\n"))
    clean = block
    if b'"' in block or block.count(b",") != rows * (len(schema) - 1):
        clean = "\n".join(text for _, text, _ in _cells(path, line, block, len(schema))).encode()
    if not clean:
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_csv(clean, has_header=False, schema=schema)
    except pl.exceptions.PolarsError as error:
        frame = _parse_floats(clean, schema)
        if frame is None:
            raise _fault(path, line, block, schema, error) from error
        return frame


def _parse_floats(block: bytes, schema: Schema) -> pl.DataFrame | None:
    """Parse whole numbers written as 1.0, as tools do where a column has blanks; None if there are others."""
    whole = [name for name, dtype in schema.items() if dtype == pl.Int64]
    columns = pl.col(whole)
    try:
        frame = pl.read_csv(block, has_header=False, schema={**schema, **dict.fromkeys(whole, pl.Float64())})
    except pl.exceptions.PolarsError:
        return None
    # From 2**53 on a float no longer holds every whole number.
    exact = frame.select(((columns % 1 == 0) & (columns.abs() < _EXACT_FLOAT)).all())
    return frame.with_columns(columns.cast(pl.Int64)) if all(exact.row(0)) else None


def _fault(path: Path, line: int, block: bytes, schema: Schema, error: Exception) -> InputError:
    """Find the cell that polars could not parse: the slow second look."""
    for number, _, cells in _cells(path, line, block, len(schema)):
        for (name, dtype), value in zip(schema.items(), cells, strict=True):
            if not _fits(value, dtype):
                what = "a whole number" if dtype == pl.Int64 else "a number"
                return InputError(f"{path}: line {number}: {name} is {shorten(value)}, must be {what}")
    reason = str(error).partition("\n")[0]
    last = line + block.rstrip().count(b"\n")
    return InputError(f"{path}: lines {line} to {last}: not readable as CSV: {reason}")


def _fits(value: str, dtype: pl.DataType) -> bool:
    """Tell whether a cell holds what its column takes; blanks do."""
    if not value or dtype == pl.String:
        return True
    if dtype == pl.Int64:
        return _WHOLE.fullmatch(value) is not None and abs(int(value.partition(".")[0])) < 1 << 63
    try:
        float(value)
    except ValueError:
        return False
    return True


def _cells(path: Path, line: int, block: bytes, width: int) -> Iterator[tuple[int, str, list[str]]]:
    """Go over the lines that are not blank: (number, text, cells); raises InputError at a ragged one."""
    for number, text in enumerate(block.decode().split("\n"), line):
        text = text.rstrip("\r")
        if not text.strip():
            continue
        try:
            cells = next(csv.reader([text])) if '"' in text else text.split(",")
        except csv.Error as error:
            raise InputError(f"{path}: line {number}: not readable as CSV: {error}") from error
        if len(cells) != width:
            raise InputError(
                f"{path}: line {number}: has {len(cells)} columns, must have {width} as in the header"
            )
        yield number, text, cells


def _check_utf8(path: Path, line: int, block: bytes) -> None:
    if block.isascii():
        return
    try:
        block.decode()
    except UnicodeDecodeError as error:
        number = line + block.count(b"\n", 0, error.start)
        raise InputError(
            f"{path}: line {number}: byte 0x{block[error.start]:02x} is not UTF-8, the file must be"
        ) from error
