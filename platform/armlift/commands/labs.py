"""Commands that make and look after a lab: init, demo, schema, db upgrade, db expire."""

from pathlib import Path
from typing import Annotated

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    open_lab,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar

app = typer.Typer()
database = typer.Typer(help="Look after the database.")
app.add_typer(database, name="db")


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="LAB", help="The folder to make.")]) -> None:
    """Make a lab: stock arms, metrics, and the experiment `demo`."""
    from armlift.lab import init_lab

    for path in init_lab(folder):
        say(f"made {path}")
    say(f"next: armlift replay demo --lab {folder} --log FILE   or   armlift demo --lab {folder}")


@app.command()
def demo(
    lab: Annotated[Path, typer.Option("--lab", help="The lab; it is made when it is not there.")] = Path(
        "demo"
    ),
    users: Annotated[int, typer.Option(min=1, help="Users of the generated log.")] = 900,
    days: Annotated[int, typer.Option(min=2, help="Days of the generated log.")] = 6,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the generated log.")] = 0,
) -> None:
    """Show the whole loop: make a lab, generate a Kuaishou-style log, replay it, print the lift report."""
    from armlift.commands.replays import replay_logs, show
    from armlift.lab import init_lab
    from armlift.logs.generator import GeneratorSettings, generate
    from armlift.settings import FILE

    if not (lab / FILE).exists():
        init_lab(lab)
        say(f"made the lab {lab}")
    # Random exposure, as in Kuaishou's random log, is what lets a replay tell a lift without bias.
    settings = GeneratorSettings(
        users=users, days=days, seed=seed, random_share=1, sessions_per_day=3, rows_per_session=12
    )
    log = lab / f"log-{users}-users-{days}-days-seed-{seed}.csv"
    if not log.exists():
        with progress_bar("generating a log") as tell:
            generate(settings, log, progress=tell)
        say(f"generated {log} (synthetic)")
    opened = open_lab(lab)
    show(replay_logs(opened, "demo", [log], mode="rerank", paired=False, k=4, seed=0), as_json=False)
    say(f"\nlook again:    armlift report demo --lab {lab}")
    say(f"your own log:  armlift replay demo --lab {lab} --log FILE")


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
    """Delete impressions and feedback of requests before a day; the rollup keeps what they counted."""
    from armlift.days import Calendar, utc_day
    from armlift.store.database import open_database
    from armlift.store.partitions import expire

    day = utc_day(Calendar("UTC").parse(before))
    deleted = expire(open_database(open_lab(lab, database)), day)
    if as_json:
        write_json({"before": before, "deleted": deleted})
    else:
        print(", ".join(f"{rows:,} {table}" for table, rows in deleted.items()) + " deleted")
