"""What an archiving came to."""

from collections import Counter, defaultdict
from typing import Any, NamedTuple

NEW, LATE, DAMAGED = "new", "late events", "damaged"
"""Why a day is written."""


class Written(NamedTuple):
    """A day that was written, and why: the rows of the tables that were, and their bytes."""

    run: str
    day: str
    reason: str
    rows: dict[str, int]
    bytes: int


class Short(NamedTuple):
    """A day the database has fewer rows of than the archive: it was left as it is."""

    run: str
    day: str
    table: str
    rows: int
    archived: int


class Archived(NamedTuple):
    """What an archiving came to.

    `before` is the first day that is not closed, `skipped` counts the days in which nothing had changed,
    `removed` the files that a killed process had left, and `lost` names damaged files whose rows the database
    no longer has.
    """

    before: str
    written: list[Written]
    skipped: int
    removed: int
    lost: list[str]
    short: list[Short]
    seconds: float

    @property
    def sound(self) -> bool:
        """Tell whether no file is lost, and no row missing in the database."""
        return not self.lost and not self.short

    @property
    def rows(self) -> int:
        """Count the rows written."""
        return sum(sum(one.rows.values()) for one in self.written)

    @property
    def bytes(self) -> int:
        """Count the bytes written."""
        return sum(one.bytes for one in self.written)

    def document(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "before": self.before,
            "days": len(self.written),
            "rows": self.rows,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "skipped": self.skipped,
            "removed": self.removed,
            "lost": self.lost,
            "short": [one._asdict() for one in self.short],
            "written": [one._asdict() for one in self.written],
        }

    def text(self) -> str:
        """Write it for people: a line a run, then one for all."""
        runs: dict[str, list[Written]] = defaultdict(list)
        for one in self.written:
            runs[one.run].append(one)
        lines = [line for run, days in runs.items() for line in _lines(run, days)]
        removed = f"; {_files(self.removed)} of a broken-off archiving removed" if self.removed else ""
        lines.append(
            f"{_days(len(self.written))} archived: {self.rows:,} rows, {_size(self.bytes)}, "
            f"{self.seconds:.1f} s; {_days(self.skipped)} before {self.before} had not changed{removed}"
        )
        return "\n".join(lines)

    def complaints(self) -> list[str]:
        """Say what is lost, or missing in the database, a line each."""
        lost = [f"{path}: damaged, and the database no longer has its rows" for path in self.lost]
        return lost + [
            f"run {one.run}, {one.day}: the database has {one.rows:,} rows of {one.table}, the archive "
            f"{one.archived:,}; the archive was left as it is"
            for one in self.short
        ]


def _lines(run: str, days: list[Written]) -> list[str]:
    """Write what was written of a run, and which days for another reason than being new."""
    rows = Counter[str]()
    for one in days:
        rows.update(one.rows)
    tables = ", ".join(f"{count:,} {table}" for table, count in rows.items())
    span = days[0].day if len(days) == 1 else f"{days[0].day} to {days[-1].day}"
    again = [f"  {one.day} again: {one.reason}" for one in days if one.reason != NEW]
    return [f"run {run}: {_days(len(days))}, {span}: {tables}", *again]


def _days(number: int) -> str:
    return f"{number:,} day" if number == 1 else f"{number:,} days"


def _files(number: int) -> str:
    return f"{number:,} file" if number == 1 else f"{number:,} files"


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
