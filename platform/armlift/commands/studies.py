"""The option `--study` of `armlift evaluate`: an open question about an arm, answered on data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from armlift.commands.options import check_html, say, write_json

if TYPE_CHECKING:
    from armlift.arm import ArmConfig
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
    from armlift.fitted import FittedArms
    from armlift.rendering.study_page import write_study
    from armlift.rendering.study_text import print_findings
    from armlift.store.database import open_database
    from armlift.studies import Bench, study_of
    from armlift.trials import run_study

    study_of(config, name)
    _check(given)
    check_html(given.html)
    source = _source(lab, given)
    try:
        groupings = _groupings(lab, given)
        arms = {other: lab.arm(other) for other in lab.arm_names()}
        bench = Bench(source, arms, FittedArms(lab, open_database(lab, create=True)), say)
        found = run_study(name, config, bench, list(dict.fromkeys(seeds)) or SEEDS, groupings)
    finally:
        if hasattr(source, "close"):
            source.close()
    if given.html is not None:
        write_study(found, given.html)
    if given.as_json:
        write_json(document(found))
    else:
        print_findings(found)


def _check(given: Given) -> None:
    """Refuse options that do not go together; raises InputError."""
    from armlift.errors import InputError

    if (given.sequences is None) == (not given.log and given.until is None):
        raise InputError("--study must have either --sequences FILE, or --log FILE with --until TIME")
    if given.sequences is None and not (given.log and given.until is not None):
        raise InputError("--study: --log FILE must stand with --until TIME")
    if (given.users is None) != (not given.by):
        raise InputError("--study: --users FILE must stand with --by COLUMN")


def _source(lab: "Lab", given: Given) -> "SequenceSource | LogSource":
    """Open what the study is run on."""
    from armlift.errors import InputError
    from armlift.logs.reader import open_log
    from armlift.sequences import SequenceSource, read_sequences
    from armlift.timesplit import LogSource

    if given.sequences is not None:
        return SequenceSource(read_sequences(given.sequences), given.split, given.kind)
    assert given.until is not None
    try:
        cut = lab.calendar.parse(given.until)
        return LogSource(open_log(list(given.log)), cut)
    except InputError as error:
        raise InputError(f"--until {given.until}: {error}") from error


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


def _intervals(found: "Any") -> dict[str, list[float]]:
    return {name: list(interval) for name, interval in found}
