"""Sequence files: one unit a line, `user item item …` in time order, the form S3-Rec publishes its data in.

The last items of each sequence are held out, one for testing and one more for tuning; the rest is what arms
are fitted on. A file has no times, so an item's position in its sequence, from 0, stands for its time.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from armlift.arm import Behaviour, History, ItemTable, Request
from armlift.errors import InputError
from armlift.heldout import DEEPEST, Asked

MAX_LINE = 16 << 20
"""Bytes a line may have."""
Split = Literal["test", "valid"]
HELD_OUT: dict[Split, int] = {"test": 1, "valid": 2}
"""How many items at the end of each sequence a split keeps from training; the first of them is the target."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """The sequences of a file.

    `items` is the whole catalogue; `codes` are indices into it, int32 [n], sequence after sequence; that of
    `units[u]` is `codes[starts[u]:starts[u + 1]]`. `sha256` is that of the file.
    """

    path: Path
    sha256: str
    units: Sequence[str]
    items: ItemTable
    codes: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    def histories(self, kind: str, *, held_out: int = 0) -> Iterator[History]:
        """Give each unit's items but the last `held_out` as behaviours of one kind.

        Their value is 1, their `ts` the position. Units come in the file's order; those that have no item
        left are left out.
        """
        ids = self.items.ids
        for unit, (start, end) in zip(self.units, pairwise(self.starts.tolist()), strict=True):
            codes = self.codes[start : end - held_out].tolist() if end - held_out > start else []
            if codes:
                yield History(unit, [Behaviour(ids[code], kind, 1.0, at) for at, code in enumerate(codes)])


@dataclass(frozen=True)
class SplitData:
    """What arms are fitted on for one split: all but the held-out items, as behaviours of one kind.

    Raises InputError where no unit has an item left to be fitted on.
    """

    sequences: Sequences
    split: Split
    kind: str

    def __post_init__(self) -> None:
        if not self.tested:
            raise InputError(
                f"{self.sequences.path}: no user has {HELD_OUT[self.split] + 1} items or more, "
                f"must have for the {self.split} split"
            )

    @cached_property
    def tested(self) -> int:
        """Count the units that are long enough to be fitted on and tested."""
        return int((np.diff(self.sequences.starts) > HELD_OUT[self.split]).sum())

    @property
    def skipped(self) -> int:
        """Count the units that are too short."""
        return len(self.sequences.units) - self.tested

    @property
    def file_hash(self) -> str:
        """Give the sha256 of the file."""
        return self.sequences.sha256

    @property
    def items(self) -> ItemTable:
        """Give the catalogue: every item of the file, held out or not."""
        return self.sequences.items

    @property
    def data_hash(self) -> str:
        """Hash what is trained on: the file, the split and the kind."""
        return hashlib.sha256(f"{self.sequences.sha256}|{self.split}|{self.kind}".encode()).hexdigest()

    @cached_property
    def until(self) -> int:
        """Give the cut, in positions: the length of the longest sequence, after every position trained on."""
        return int(np.diff(self.sequences.starts).max())

    def histories(self) -> Iterator[History]:
        """Give the histories to fit on, of the units that have something left."""
        return self.sequences.histories(self.kind, held_out=HELD_OUT[self.split])

    def asked(self) -> Iterator[Asked]:
        """Make the request of each unit that is long enough, in the file's order."""
        sequences, ids = self.sequences, self.items.ids
        bounds = pairwise(sequences.starts.tolist())
        for unit, (start, end) in zip(sequences.units, bounds, strict=True):
            at = end - HELD_OUT[self.split]
            if at > start:
                *met, target = [ids[code] for code in sequences.codes[start : at + 1].tolist()]
                history = [Behaviour(item, self.kind, 1.0, ts) for ts, item in enumerate(met)]
                yield Asked(Request(unit, unit, len(met), DEEPEST, history), target)


def read_sequences(path: Path) -> Sequences:
    """Read a sequence file in one pass; fields are parted by white space, and blank lines are left out.

    Memory holds 4 bytes an item of a sequence, the units and the catalogue. Raises InputError, with the line,
    where there is no file, it is empty or not UTF-8, a line has no item, or a unit stands on two lines.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, must be a sequence file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(path: Path, file: BinaryIO) -> Sequences:
    """Read an open file; ids are kept as bytes, whose order in UTF-8 is that of the strings."""
    hasher = hashlib.sha256()
    line_of: dict[bytes, int] = {}
    code_of: dict[bytes, int] = {}
    codes, starts = array("i"), array("q", [0])
    for number, line in _lines(path, file):
        hasher.update(line)
        unit, *items = line.split() or [b""]
        if not unit:
            continue
        if not items:
            raise InputError(f"{path}: line {number}: has 1 field, must have a user and at least one item")
        if unit in line_of:
            raise InputError(
                f"{path}: line {number}: user {unit.decode()!r} stands on line {line_of[unit]} too, "
                f"must have one line"
            )
        line_of[unit] = number
        codes.extend([code_of.setdefault(item, len(code_of)) for item in items])
        starts.append(len(codes))
    if not line_of:
        raise InputError(f"{path}: the file is empty, must have a line `user item item …` for each user")
    order = sorted(code_of)
    rank_of = np.empty(len(order), dtype=np.int32)
    rank_of[[code_of[item] for item in order]] = np.arange(len(order), dtype=np.int32)
    return Sequences(
        path=path,
        sha256=hasher.hexdigest(),
        units=[unit.decode() for unit in line_of],
        items=ItemTable([item.decode() for item in order]),
        codes=rank_of[np.frombuffer(codes, dtype=np.int32)],
        starts=np.array(starts, dtype=np.int64),
    )


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give the lines with their numbers, from 1; raises InputError for one that is too long or not UTF-8."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(f"{path}: line {number}: is longer than {MAX_LINE} bytes")
        try:
            line.isascii() or line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: line {number}: byte 0x{line[error.start]:02x} is not UTF-8, the file must be"
            ) from error
        yield number, line


class SequenceSource:
    """A sequence file as the source of a study: it tells of behaviours of one kind."""

    notes: tuple[str, ...] = ()

    def __init__(self, sequences: Sequences, split: Split, kind: str) -> None:
        self.sequences, self.split = sequences, split
        self._data = SplitData(sequences, split, kind)
        self.kinds = frozenset({kind})

    def data(self, kinds: Iterable[str]) -> SplitData | None:
        """Hold items out; None where the file's kind is none of these."""
        return self._data if self._data.kind in {*kinds} else None
