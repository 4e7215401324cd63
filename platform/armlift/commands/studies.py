"""The option `--study` of `armlift evaluate`: an open question about an arm, answered on data."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from armlift.commands.options import check_html, say, write_json
from armlift.commands.progress import training_progress

if TYPE_CHECKING:
    from armlift.arm import ArmConfig
    from armlift.evaluation import Interval
    from armlift.findings import Findings, Row
    from armlift.lab import Lab
    from armlift.sequences import SequenceSource, Split
    from armlift.studies import Grouping
    from armlift.timesplit import LogSource

SEEDS = (0, 1, 2)
"""What a study is run with where no seed is given."""


class Given(NamedTuple):
    """What the command line says of a study's data and of where its findings go."""

    sequences: Path | None
    split: "Split"
    kind: str
    log: Sequence[Path]
    until: str | None
    users: Path | None
    by: Sequence[str]
    html: Path | None
    as_json: bool


def run(lab: "Lab", config: "ArmConfig", name: str, seeds: Sequence[int], given: Given) -> None:
    """Run a study and write its findings: a table and a sentence or a JSON document, and an HTML page."""
    from armlift.errors import InputError
    from armlift.fitted import FittedArms
    from armlift.rendering.study_page import write_study
    from armlift.rendering.study_text import print_findings
    from armlift.store.database import open_database
    from armlift.studies import Bench, study_of
    from armlift.trials import run_study

    study_of(config, name)
    if (given.users is None) != (not given.by):
        raise InputError("--study: --users FILE must stand with --by COLUMN")
    check_html(given.html)
    with open_source(lab, given) as source:
        groupings = _groupings(lab, given)
        arms = {other: lab.arm(other) for other in lab.arm_names()}
        fitted = FittedArms(lab, open_database(lab, create=True), watch=training_progress)
        bench = Bench(source, arms, fitted, say)
        found = run_study(name, config, bench, list(dict.fromkeys(seeds)) or SEEDS, groupings)
    if given.html is not None:
        write_study(found, given.html)
    if given.as_json:
        write_json(document(found))
    else:
        print_findings(found)


@contextmanager
def open_source(lab: "Lab", given: Given) -> "Iterator[SequenceSource | LogSource]":
    """Open what arms are evaluated on; raises InputError where it is not said, or said twice."""
    from armlift.errors import InputError
    from armlift.logs.reader import open_log
    from armlift.sequences import SequenceSource, read_sequences
    from armlift.timesplit import LogSource

    on_log = bool(given.log) or given.until is not None
    if on_log == (given.sequences is not None) or (on_log and not (given.log and given.until is not None)):
        raise InputError("evaluate must have either --sequences FILE, or --log FILE with --until TIME")
    if given.sequences is not None:
        yield SequenceSource(read_sequences(given.sequences), given.split, given.kind)
        return
    assert given.until is not None
    try:
        cut = lab.calendar.parse(given.until)
    except InputError as error:
        raise InputError(f"--until: {error}") from error
    rows = open_log(list(given.log))
    if not rows.summary.first_ts < cut <= rows.summary.last_ts:
        first, last = (lab.calendar.show(ts) for ts in (rows.summary.first_ts, rows.summary.last_ts))
        raise InputError(
            f"--until {given.until}: must leave rows on both sides, be after {first}, not after {last}"
        )
    source = LogSource(rows, cut)
    try:
        yield source
    finally:
        source.close()


def _groupings(lab: "Lab", given: Given) -> "list[Grouping]":
    """Say by what units are grouped."""
    from armlift.logs.users import read_users
    from armlift.usergroups import by_activity, by_attribute, by_history

    found: list[Grouping] = [by_history]
    if given.sequences is None:
        found.append(by_activity(lab.calendar))
    if given.users is not None:
        table = read_users(given.users, given.by).attributes
        found += [by_attribute(name, table) for name in given.by]
    return found


def document(found: "Findings") -> dict[str, Any]:
    """Write findings as one JSON document; an interval is [value, low, high]."""
    return {
        "study": found.study,
        "question": found.question,
        "answer": found.answer,
        "arm": found.arm,
        "metric": found.metric,
        "split": found.split,
        "file_hash": found.file_hash,
        "seeds": list(found.seeds),
        "sections": [
            {
                "name": section.name,
                "units": section.units,
                "best": section.best,
                "stops": section.stops,
                "answer": section.answer,
                "rows": list(map(_row, section.rows)),
            }
            for section in found.sections
        ],
        "notes": list(found.notes),
    }


def _row(row: "Row") -> dict[str, Any]:
    return {
        "setting": row.setting,
        "base": row.base,
        "status": row.status,
        "reason": row.reason,
        "units": row.units,
        "versions": list(row.versions),
        "values": _intervals(row.values.items()),
        "differences": _intervals(row.differences.items()),
        "figures": _intervals(row.figures.items()),
    }


def _intervals(found: "Iterable[tuple[str, Interval]]") -> dict[str, list[float]]:
    return {name: list(interval) for name, interval in found}
