"""Whether an archive has all that counts in a report: what the database has of it, and has had."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from armlift.aggregates import Question
from armlift.archive.archive import Archive
from armlift.archive.counts import counts, first_days
from armlift.archive.manifest import Manifest, day_number, day_of
from armlift.archive.schema import TABLES
from armlift.errors import InputError
from armlift.events import MOST_DAYS_BEFORE
from armlift.store.tables import unit_days


def manifests_for(archive: Archive, sql: Connection, question: Question) -> list[Manifest]:
    """Read the manifests of a run's archived days; raises InputError where events that count are missing.

    Of the days whose events the database still has, the archive must have as many; of those it has deleted,
    any.
    """
    found = archive.manifests(question.run)
    if not found:
        raise InputError(
            f"archive {archive.url} has no day of run {question.run}; `armlift archive` writes the days that "
            "are over"
        )
    missing = _missing(sql, found, question)
    if missing is not None and missing <= question.as_of_day:
        raise InputError(
            f"archive {archive.url} lacks events of run {question.run} from {day_of(missing)} on, which this "
            f"report counts; run `armlift archive`, or ask for --as-of {day_of(missing - 1)}"
        )
    lost = _lost(sql, found, question)
    if lost is not None:
        raise InputError(
            f"archive {archive.url} lacks events of run {question.run} of {day_of(lost)}, and the database "
            "has deleted them; without --engine spark the report counts them"
        )
    return found


def _missing(sql: Connection, archived: Sequence[Manifest], question: Question) -> int | None:
    """Give the first day (of the lab's zone) with events that the database has and the archive does not."""
    last = question.as_of_day + MOST_DAYS_BEFORE + 1
    rows = {day_number(one.day): one.rows for one in archived}
    short: dict[str, list[int]] = {}
    for (_, day), stored in counts(sql, TABLES.values(), {}, last + 1, question.run).items():
        for table, number in stored.items():
            if number > rows.get(day, {}).get(table, 0):
                short.setdefault(table, []).append(day)
    first = [
        sql.scalar(select(func.min(c.day)).where(c.run == question.run, c.request_day.in_(days)))
        for table, days in short.items()
        for c in [TABLES[table].c]
    ]
    return min((day for day in first if day is not None), default=None)


def _lost(sql: Connection, archived: Sequence[Manifest], question: Question) -> int | None:
    """Give the first day of the rollup whose events neither the database nor the archive has.

    Days are of the lab's zone, and have parts of two days in UTC.
    """
    first = first_days(sql)
    known = {day_number(one.day) for one in archived if first.keys() <= one.tables.keys()}
    d = unit_days.c
    of_run = (d.run == question.run, d.experiment == question.experiment)
    until = min(max(first.values(), default=0), question.as_of_day + 1)
    rolled_up = sql.scalars(select(d.day).where(*of_run, d.day < until).distinct()) if first else ()
    lost = (day for day in rolled_up if day not in known and not {day - 1, day + 1} <= known)
    return min(lost, default=None)
