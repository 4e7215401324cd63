"""The command that shows the whole loop on simulated users: demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import MAX_SEED, open_lab, say
from armlift.commands.progress import progress_bar
from armlift.days import utc_now
from armlift.streams.opening import open_stream

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.lab import Lab
    from armlift.report import Report

app = typer.Typer()
NIGHTS_USERS, NIGHTS_DAYS = 300, 3
"""How many users live through how many days with nights between: enough to see what nights do."""


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
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Only make ready what `armlift serve` answers from: an experiment that runs."
        ),
    ] = False,
) -> None:
    """Show the whole loop: a lab, nights, simulated users who meet its arms, the lift and the true one."""
    from armlift.commands.reports import show
    from armlift.errors import InputError
    from armlift.lab import init_lab
    from armlift.settings import FILE

    if live and log:
        raise InputError("--log has no meaning with --live")
    if not (lab / FILE).exists():
        init_lab(lab)
        say(f"made the lab {lab}")
    opened = open_lab(lab)
    if live:
        _start(opened)
        return
    if log:
        show(_replay_generated(opened, users, days, seed), as_json=False)
        name = "baselines"
    else:
        _rehearse(opened, min(users, NIGHTS_USERS), min(days, NIGHTS_DAYS), seed)
        show(_simulate(opened, users, days, seed), as_json=False)
        name = "demo"
    say(f"\nlook again:    armlift report {name} --lab {lab}")
    say(f"the pages:     armlift dashboard --lab {lab}")
    say(f"your own log:  armlift replay baselines --lab {lab} --log FILE")


def _start(lab: "Lab") -> None:
    """Start an experiment whose arms can answer, and say what to do with it."""
    from armlift.commands.running import line_of
    from armlift.store.database import open_database
    from armlift_pipelines import live_demo

    with progress_bar(f"preparing {live_demo.NAME}") as tell:
        started = live_demo.start(lab, open_database(lab, create=True), now=utc_now(), progress=tell)
    print(line_of(lab, started))
    say(f"answer live:   armlift serve --all --lab {lab.folder}")
    say(f"play users:    armlift simulate {live_demo.NAME} --lab {lab.folder} --days 1 --api URL")


def _rehearse(lab: "Lab", users: int, days: int, seed: int) -> None:
    """Let some users live through days and nights with cheap arms, so that nights can be looked at."""
    from armlift.simulation.laboratory import Size
    from armlift.store.database import open_database
    from armlift_pipelines.rehearsal import Rehearsal

    engine = open_database(lab, create=True)
    size = Size(users, days, 10, seed)
    rehearsal = Rehearsal(lab, lab.experiment("baselines"), size, engine, say=lambda _: None)
    with open_stream(lab) as stream, progress_bar(f"{days} days and nights of baselines") as tell:
        run = rehearsal.run(stream, progress=tell)
    _report_daily(lab, engine, "baselines", run.run)


def _simulate(lab: "Lab", users: int, days: int, seed: int) -> "Report":
    """Let users meet the neural arms, and report every day."""
    from armlift.commands.simulations import simulate_users
    from armlift.simulation.laboratory import Size
    from armlift.store.database import open_database

    report = simulate_users(lab, "demo", Size(users, days, 10, seed), truth=True)
    return _report_daily(lab, open_database(lab), "demo", report.run.run)


def _report_daily(lab: "Lab", engine: "Engine", experiment: str, run: str) -> "Report":
    from armlift.commands.options import stored_run
    from armlift.reproduction import take_daily

    return take_daily(engine, stored_run(lab, engine, experiment, run), lab.calendar)


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
