"""Commands that make and look after a lab: init, demo, schema, db upgrade, db expire."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.report import Report

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
def demo(
    lab: Annotated[Path, typer.Option("--lab", help="The lab; it is made when it is not there.")] = Path(
        "demo"
    ),
    users: Annotated[int, typer.Option(min=1, help="How many users there are.")] = 3_000,
    days: Annotated[int, typer.Option(min=2, help="Days they meet the arms; of a log, its days.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the users and their luck.")] = 0,
    log: Annotated[
        bool, typer.Option("--log", help="Generate a log, and replay it through `baselines` instead.")
    ] = False,
) -> None:
    """Show the whole loop: a lab, simulated users who meet its arms, and the lift beside the true one."""
    from armlift.commands.replays import show
    from armlift.commands.simulations import simulate_users
    from armlift.lab import init_lab
    from armlift.settings import FILE
    from armlift.simulation.laboratory import Size

    if not (lab / FILE).exists():
        init_lab(lab)
        say(f"made the lab {lab}")
    opened = open_lab(lab)
    if log:
        show(_replay_generated(opened, users, days, seed), as_json=False)
        name = "baselines"
    else:
        show(simulate_users(opened, "demo", Size(users, days, 10, seed), truth=True), as_json=False)
        name = "demo"
    say(f"\nlook again:    armlift report {name} --lab {lab}")
    say(f"your own log:  armlift replay baselines --lab {lab} --log FILE")


def _replay_generated(lab: "Lab", users: int, days: int, seed: int) -> "Report":
    """Generate a log of random exposure, which lets a replay tell a lift without bias, and replay it."""
    from armlift.commands.replays import replay_logs
    from armlift.logs.generator import GeneratorSettings, generate

    settings = GeneratorSettings(
        users=users, days=days, seed=seed, random_share=1, sessions_per_day=3, rows_per_session=12
    )
    file = lab.folder / f"log-{users}-users-{days}-days-seed-{seed}.csv"
    if not file.exists():
        with progress_bar("generating a log") as tell:
            generate(settings, file, progress=tell)
        say(f"generated {file} (synthetic)")
    return replay_logs(lab, "baselines", [file], mode="rerank", paired=False, k=4, seed=0)


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
