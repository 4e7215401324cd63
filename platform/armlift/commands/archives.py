"""The command on the archive: archive."""

from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    milliseconds_of,
    open_lab,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar
from armlift.days import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.archive.archive import Archive
    from armlift.archive.archived import Archived

app = typer.Typer()


@app.command()
def archive(
    after: Annotated[
        str, typer.Option("--after", help="How long ago a day (UTC) must have ended to be closed.")
    ] = "3d",
    run: Annotated[str | None, typer.Option("--run", help="Only days of this run; default: of all.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="Only days before this one, YYYY-MM-DD.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the content of every file that is there too.")
    ] = False,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write closed days of events to Parquet: those that are new, got late events, or are damaged.

    Exit code 1 where files are damaged whose rows the database no longer has, or the database lacks rows that
    are archived.
    """
    from armlift.archive.archive import Archive
    from armlift.archive.closed import archive_closed
    from armlift.days import Calendar, utc_day
    from armlift.store.database import open_database

    age = milliseconds_of("--after", after)
    day = None if until is None else utc_day(Calendar("UTC").parse(until))
    opened = open_lab(lab, database)
    engine = open_database(opened)
    found = Archive(opened.resolve(opened.settings.archive_url))
    with progress_bar("archiving events") as tell:
        done = archive_closed(engine, found, utc_now(), after=age, run=run, until=day, deep=verify, tell=tell)
    if run is not None:
        _check_run(run, engine, found, done)
    if as_json:
        write_json({"archive": found.url, **done.document()})
    else:
        print(done.text())
    for line in done.complaints():
        say(line)
    if not done.sound:
        raise typer.Exit(1)


def _check_run(run: str, engine: "Engine", archive: "Archive", done: "Archived") -> None:
    """Refuse a run of which there is no closed day."""
    from sqlalchemy import select

    from armlift.complaints import choices
    from armlift.errors import InputError
    from armlift.store.tables import runs

    if not done.written and not done.skipped and done.sound:
        with engine.connect() as connection:
            known = {*connection.execute(select(runs.c.run)).scalars(), *archive.runs()} - {run}
        raise InputError(f"--run {run!r}: has no day that is closed, {choices(run, sorted(known))}")
