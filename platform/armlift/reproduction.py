"""Reports that can be made again: taken with a snapshot, shown as they were, and verified."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from math import isclose
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, select

from armlift import __version__
from armlift.answers import Answers
from armlift.check import Check
from armlift.comparisons import Comparison
from armlift.days import DAY_MS, Calendar, utc_now, utc_text
from armlift.decisions import Decision, of_run
from armlift.errors import StoreError
from armlift.forgotten import erased_since
from armlift.hashing import hash_of
from armlift.novelty import Day, Novelty
from armlift.planning import NO_PROGRESS, Progress
from armlift.predictions import Predicted
from armlift.report import Reading, Report, in_database, make_report, report_of, time_of_report
from armlift.runs import Run, find
from armlift.snapshots import Snapshot, identify, keep
from armlift.store.database import reading, writing
from armlift.store.tables import expired
from armlift.verdict import Ruling, Verdict

T = TypeVar("T")
GIVEN = ("snapshot", "decisions")
"""What a report is given after it is computed."""
MOVING = "arrived/2"
"""The watermark, which every event moves on; nothing but the check of lateness rests on it."""
MOVING_LIVE = (
    "run/state:",
    "run/log/last_ts:",
    "run/definition/experiment/description:",
    "run/definition/experiment/phases",
)
"""What people may change of a run while it is live; reports of earlier times do not rest on it."""

_NUMBER = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
"""A number that a question asks about, such as a quantile."""


def take_report(
    engine: Engine,
    run: Run,
    calendar: Calendar,
    *,
    as_of: int | None = None,
    read: Reading = in_database,
    clock: Callable[[], int] = utc_now,
) -> Report:
    """Make a run's report and store its snapshot, unless there is one that rests on the same already."""
    report = make_report(engine, run, calendar, as_of=as_of, read=read)
    at = time_of_report(run, as_of)
    aggregates = {"run": run._asdict(), "timezone": calendar.timezone, "answers": report.answers}
    identity = identify(as_of=at, version=__version__, sql=report.sql, aggregates=aggregates)
    with writing(engine) as connection:
        report = replace(report, snapshot=identity, decisions=of_run(connection, run.run, run.experiment))
        snapshot = Snapshot(
            id=identity,
            run=run.run,
            experiment=run.experiment,
            as_of=at,
            created=clock(),
            version=__version__,
            definition_hash=hash_of(run.definition),
            sql=report.sql,
            aggregates=aggregates,
            report=report.as_dict(),
        )
        keep(connection, snapshot)
    return report


def take_daily(
    engine: Engine, run: Run, calendar: Calendar, *, until: int | None = None, read: Reading = in_database,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:  # fmt: skip
    """Make the report of each day's end of a run, and give the last one, as of `until` (UTC ms) or its end.

    A run's figures over time are read from these: each is of all units up to then. `tell` is told how many
    of how many are done.
    """
    end = time_of_report(run, until)
    first, last = (calendar.day(at) for at in (int(str(run.log.get("cut", run.log["first_ts"]))), end))
    for number, day in enumerate(range(first, last)):
        take_report(engine, run, calendar, as_of=calendar.start_of(day + 1) - 1, read=read)
        tell(number + 1, last - first + 1)
    return take_report(engine, run, calendar, as_of=until, read=read)


def stored_report(snapshot: Snapshot) -> Report:
    """Give a snapshot's report as it was, for whatever shows reports; nothing is computed."""
    run, document = Run(**snapshot.aggregates["run"]), snapshot.report
    experiment, metrics = run.parsed()
    verdict = {**document["verdict"], "trace": [_made(Ruling, one) for one in document["verdict"]["trace"]]}
    return Report(
        run=run,
        experiment=experiment,
        metrics=metrics,
        as_of=document["as_of"],
        resolution=document["resolution"],
        verdict=_made(Verdict, verdict),
        sentence=document["verdict"]["sentence"],
        comparisons=[_made(Comparison, one) for one in document["comparisons"]],
        checks=[_made(Check, one) for one in document["checks"]],
        dropped=document["dropped"],
        novelty=[_novelty(one) for one in document["novelty"]],
        predicted=[_made(Predicted, one) for one in document.get("predicted", ())],
        sql=snapshot.sql,
        answers=snapshot.aggregates["answers"],
        snapshot=snapshot.id,
        decisions=[_made(Decision, one) for one in document["decisions"]],
        early=document.get("early", False),
        progress=_made(Progress, document.get("progress", NO_PROGRESS._asdict())),
    )


def _made(kind: type[T], document: Mapping[str, Any]) -> T:
    """Make a result of its JSON; what another version did not know is None, what it alone knew is dropped."""
    names = [one.name for one in fields(kind)] if is_dataclass(kind) else list(kind._fields)  # type: ignore[attr-defined]
    return kind(**{name: document.get(name) for name in names})


def _novelty(document: Mapping[str, Any]) -> Novelty:
    return _made(Novelty, {**document, "days": [_made(Day, day) for day in document["days"]]})


class Verification(NamedTuple):
    """What differs when a snapshot's report is made again, each in a line; nothing where it is equal.

    `report` is computed from the stored aggregates alone, `aggregates` are asked of the database again.
    `causes` says what may have led to differences.
    """

    report: list[str]
    aggregates: list[str]
    causes: list[str]

    @property
    def equal(self) -> bool:
        """Tell whether all is equal, bit for bit."""
        return not self.report and not self.aggregates


def verify(
    engine: Engine, snapshot: Snapshot, *, read: Reading = in_database, digits: int | None = None
) -> Verification:
    """Make a snapshot's report again: from its aggregates, and these from the database as of its time.

    With `digits` aggregates are equal that agree so far, for a database that adds up in an order of its own.
    """
    kept, calendar = snapshot.aggregates, Calendar(snapshot.aggregates["timezone"])
    run = Run(**kept["run"])
    try:
        again = report_of(run, calendar, snapshot.as_of, Answers(kept["answers"], sql=snapshot.sql))
        report = _differences(_computed(snapshot.report), _computed(again.as_dict()))
    except StoreError as error:
        report = [str(error)]
    fresh = make_report(engine, run, calendar, as_of=snapshot.as_of, read=read)
    with reading(engine) as connection:
        found = find(connection, run.run, run.experiment)
        now = {"run": None if found is None else found._asdict(), "answers": fresh.answers}
        before = {"run": kept["run"], "answers": kept["answers"]}
        aggregates = _differences(before, now, digits)
        moving = (f"answers/{MOVING}:", *(MOVING_LIVE if run.live else ()))
        aggregates = [one for one in aggregates if not one.startswith(moving)]
        causes = _causes(connection, snapshot, fresh) if report or aggregates else []
    return Verification(report, aggregates, causes)


def _computed(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in GIVEN}


def _causes(connection: Connection, snapshot: Snapshot, fresh: Report) -> list[str]:
    """Say what happened since a snapshot that may have changed its numbers."""
    found, before, now = [], snapshot.aggregates["answers"], fresh.answers
    if snapshot.version != __version__:
        found.append(f"armlift {snapshot.version} made the snapshot, this is {__version__}")
    if snapshot.sql != fresh.sql:
        found.append("the SQL that asks for units' totals is another than the stored one")
    events, late = (
        (now.get("arrived") or [0] * 3)[place] - (before.get("arrived") or [0] * 3)[place] for place in (0, 1)
    )
    if events:
        found.append(f"events of those days that arrived since: {events}, of them late: {late}")
    erased = erased_since(connection, snapshot.created)
    if erased:
        found.append(f"ids of units that were forgotten since: {erased}; the report keeps what they counted")
    merged = now.get("merged_ids", [0])[0] - before.get("merged_ids", [0])[0]
    if merged:
        found.append(f"ids merged since: {merged}")
    for table, until in connection.execute(select(expired.c.table, expired.c.before)):
        found.append(f"rows of {table} from before {utc_text(until * DAY_MS)[:10]} were deleted")
    return found


def _differences(before: object, now: object, digits: int | None = None) -> list[str]:
    """Compare two documents leaf by leaf, as JSON writes them; with `digits` numbers only so far."""
    old, new = (dict(_leaves(json.loads(json.dumps(one)), digits)) for one in (before, now))
    missing = "nothing"
    return [
        f"{path}: was {json.dumps(old[path]) if path in old else missing}, "
        f"is {json.dumps(new[path]) if path in new else missing}"
        for path in dict.fromkeys([*old, *new])
        if path not in old or path not in new or not _equal(old[path], new[path], digits)
    ]


def _equal(old: object, new: object, digits: int | None) -> bool:
    if digits is not None and isinstance(old, int | float) and isinstance(new, int | float):
        return isclose(old, new, rel_tol=10.0**-digits, abs_tol=10.0**-digits)
    return json.dumps(old) == json.dumps(new)


def _leaves(document: object, digits: int | None, path: str = "") -> Iterator[tuple[str, object]]:
    """Give each value of a document by its path; with `digits` numbers in paths are cut to these."""
    if isinstance(document, dict | list) and document:
        parts = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in parts:
            name = (
                str(key) if digits is None else _NUMBER.sub(lambda n: f"{float(n[0]):.{digits}g}", str(key))
            )
            yield from _leaves(value, digits, f"{path}/{name}" if path else name)
    else:
        yield path, document
