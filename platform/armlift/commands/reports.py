"""The command that reads runs: report; and how reports are shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    check_html,
    open_lab,
    say,
    stored_run,
    write_json,
)
from armlift.commands.progress import progress_bar
from armlift.days import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.lab import Lab
    from armlift.report import Reading, Report
    from armlift.snapshots import Snapshot

app = typer.Typer()

Experiment = Annotated[str, typer.Argument(help="The experiment's name.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file.")]
MOST_SHOWN = 10
"""Differences that `--verify` shows to people."""
DIGITS = 9
"""Digits to which Spark's sums agree with the database's: it adds in an order of its own."""


class Asked(StrEnum):
    """What computes a report."""

    sql = "sql"
    spark = "spark"


@app.command()
def report(
    experiment: Annotated[str | None, typer.Argument(help="The experiment's name.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Default: the newest.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="A time, or a day to its end; default: the run's end, or now."),
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", help="Show a stored report as it was.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make the stored report again, and say what differs.")
    ] = False,
    daily: Annotated[
        bool,
        typer.Option("--daily", help="Make the report of each day's end as well, for figures over time."),
    ] = False,
    engine: Annotated[
        Asked, typer.Option(help="What computes it: the database, or Spark from the archive.")
    ] = Asked.sql,
    archive: Annotated[
        str | None,
        typer.Option("--archive", metavar="URL", help="With --engine spark; default: archive_url."),
    ] = None,
    html: HtmlOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report a run again and store a snapshot; or show or verify a stored one."""
    from armlift.errors import InputError
    from armlift.store.database import open_database

    check_html(html)
    if verify and (snapshot is None or html is not None):
        raise InputError("--verify needs --snapshot, and cannot be with --html")
    if snapshot is not None and (run is not None or as_of is not None or daily):
        raise InputError(f"--snapshot {snapshot} cannot be with --run, --as-of or --daily; it has its own")
    if snapshot is None and experiment is None:
        raise InputError("Missing argument 'experiment', or --snapshot; see `armlift report --help`")
    if engine is Asked.spark and snapshot is not None and not verify:
        raise InputError("--engine spark with --snapshot needs --verify: a stored report is shown as it was")
    if archive is not None and engine is not Asked.spark:
        raise InputError("--archive needs --engine spark, which reads it")
    opened = open_lab(lab, database)
    stored = open_database(opened)
    if snapshot is not None:
        from armlift.reproduction import stored_report
        from armlift.snapshots import named
        from armlift.store.database import reading

        with reading(stored) as connection:
            found = named(connection, snapshot, experiment)
        if verify:
            with _reading(opened, engine, archive) as read:
                _verify(stored, found, read, as_json=as_json, digits=None if engine is Asked.sql else DIGITS)
        elif as_json and html is None:
            write_json(dict(found.report))
        else:
            show(stored_report(found), as_json=as_json, html=html)
        return
    assert experiment is not None
    with _reading(opened, engine, archive) as read:
        made = _report(opened, stored, experiment, run, as_of, read, daily=daily)
    show(made, as_json=as_json, html=html)


@contextmanager
def _reading(lab: "Lab", engine: Asked, archive: str | None) -> "Iterator[Reading]":
    """Lend what a report is computed by; a Spark that was started for it ends with it."""
    from armlift.report import in_database

    if engine is Asked.sql:
        yield in_database
        return
    from armlift.archive.archive import Archive
    from armlift.spark.engine import open_reading

    url = lab.resolve(lab.settings.archive_url) if archive is None else archive
    with open_reading(lab.settings.spark, Archive(url)) as read:
        yield read


def _report(
    lab: "Lab",
    engine: "Engine",
    experiment: str,
    run: str | None,
    as_of: str | None,
    read: "Reading",
    *,
    daily: bool,
) -> "Report":
    from armlift.errors import InputError
    from armlift.reproduction import take_daily, take_report

    try:
        at = lab.calendar.parse_end(as_of) if as_of is not None else None
    except InputError as error:
        raise InputError(f"--as-of: {error}") from error
    found = stored_run(lab, engine, experiment, run)
    if at is None and found.live and not found.finished:
        at = utc_now()
    if not daily:
        return take_report(engine, found, lab.calendar, as_of=at, read=read)
    with progress_bar(f"reporting {experiment}") as tell:
        return take_daily(engine, found, lab.calendar, until=at, read=read, tell=tell)


def _verify(
    engine: "Engine", snapshot: "Snapshot", read: "Reading", *, as_json: bool, digits: int | None
) -> None:
    """Say whether a snapshot's report is made again, bit for bit or to some digits; exits with 1 if not."""
    from armlift.reproduction import verify

    found = verify(engine, snapshot, read=read, digits=digits)
    if as_json:
        write_json({"snapshot": snapshot.id, "equal": found.equal, **found._asdict()})
    else:
        source, equal = ("database", "bit for bit") if digits is None else ("archive", f"to {digits} digits")
        for what, how, differences in (
            ("report from the stored aggregates", "bit for bit", found.report),
            (f"aggregates from the {source}", equal, found.aggregates),
        ):
            print(f"{what}: {f'{len(differences)} differ' if differences else f'equal, {how}'}")
            for line in differences[:MOST_SHOWN]:
                print(f"  {line}")
            if len(differences) > MOST_SHOWN:
                print(f"  and {len(differences) - MOST_SHOWN} more; --json has all")
        for cause in found.causes:
            print(f"since: {cause}")
    if not found.equal:
        raise typer.Exit(1)


def show(report: "Report", *, as_json: bool, html: Path | None = None) -> None:
    """Write a report: for people, as JSON, and as HTML where asked."""
    if html is not None:
        from armlift.rendering.html import write_html

        write_html(report, html)
        say(f"wrote {html}")
    if as_json:
        write_json(report.as_dict())
        return
    from armlift.rendering.text import print_report

    print_report(report)
