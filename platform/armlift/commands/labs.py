"""Commands that make and look after a lab: init, schema, db upgrade, db expire."""

from pathlib import Path
from typing import Annotated

import typer

from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    open_lab,
    say,
    write_json,
)

app = typer.Typer()
database = typer.Typer(help="Look after the database.")
app.add_typer(database, name="db")


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="LAB", help="The folder to make.")]) -> None:
    """Make a lab: stock arms, metrics, and the experiments `demo` and `baselines`."""
    from armlift.lab import init_lab

    for path in init_lab(folder):
        say(f"made {path}")
    say(f"next: armlift replay baselines --lab {folder} --log FILE   or   armlift demo --lab {folder}")


@app.command()
def schema(
    lab: LabOption = None,
) -> None:
    """Write the JSON Schemas of all definitions into the lab, for editors."""
    from armlift.lab import SCHEMAS, write_schemas

    for path in write_schemas(open_lab(lab).folder / SCHEMAS):
        say(f"wrote {path}")


@database.command("upgrade")
def upgrade_database(lab: LabOption = None, database: DatabaseOption = None) -> None:
    """Bring the database to the newest schema, with its rows."""
    from armlift.store.database import connect, revision, shown, upgrade

    opened = open_lab(lab, database)
    engine = connect(opened.settings.database_url, opened.folder)
    before = revision(engine)
    upgrade(engine)
    say(f"{shown(engine)}: schema {before or 'none'} -> {revision(engine)}")


@database.command("expire")
def expire_events(
    before: Annotated[str, typer.Option(help="The first day (UTC) whose events stay, such as 2022-04-15.")],
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete impressions and feedback of requests before a day; the rollup keeps what they counted.

    Where nightly.yaml says `archive`, days stay from the first on that is not archived whole: exit code 1.
    """
    from armlift.archive.archive import Archive
    from armlift.archive.safety import expire_archived
    from armlift.days import Calendar, utc_day
    from armlift.store.database import open_database
    from armlift.store.partitions import expire

    day = utc_day(Calendar("UTC").parse(before))
    opened = open_lab(lab, database)
    engine, waiting = open_database(opened), 0
    if opened.nightly.archive is None:
        deleted = expire(engine, day)
    else:
        archive = Archive(opened.resolve(opened.settings.archive_url))
        deleted, waiting = expire_archived(engine, archive, day)
    if as_json:
        write_json({"before": before, "deleted": deleted, "waiting_days": waiting})
    else:
        print(", ".join(f"{rows:,} {table}" for table, rows in deleted.items()) + " deleted")
    if waiting:
        say(f"{waiting:,} days stay: not all of their events are archived; run `armlift archive` first")
        raise typer.Exit(1)
