"""The command that lets simulated users meet an experiment's arms: simulate."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    StreamOption,
    check_html,
    open_lab,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar, training_progress
from armlift.commands.reports import Experiment, HtmlOption, show
from armlift.streams.opening import open_stream

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.report import Report
    from armlift.simulation.laboratory import Size

app = typer.Typer()
KEY = "ARMLIFT_API_KEY"
"""The environment variable that holds a key for --api."""


@app.command()
def simulate(
    experiment: Experiment,
    users: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many users there are.")] = 2_000,
    days: Annotated[int, typer.Option(min=1, max=366, help="Days they meet the arms.")] = 7,
    k: Annotated[int, typer.Option(min=1, max=100, help="Items a slate has.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the users and their luck.")] = 0,
    truth: Annotated[
        bool, typer.Option("--truth", help="Also let all users meet every arm, and print the true lifts.")
    ] = False,
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="A table of users to take attributes from: CSV.")
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(
            "--log", help="A log that users and videos are made after, instead of Kuaishou's figures."
        ),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option("--videos", help="With --log: categories and lengths of its videos, CSV.")
    ] = None,
    api: Annotated[
        str | None,
        typer.Option("--api", help="Meet the arms through this API, where the experiment runs; no report."),
    ] = None,
    html: HtmlOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let simulated users meet the arms of an experiment; report the lift, and the true one if asked."""
    from armlift.errors import InputError
    from armlift.simulation.laboratory import Size

    check_html(html)
    if videos is not None and not log:
        raise InputError("--videos needs --log, whose videos it describes")
    opened = open_lab(lab, database, stream)
    size = Size(users, days, k, seed)
    if api is not None:
        for option, given in (
            ("--truth", truth),
            ("--attributes", attributes),
            ("--log", log),
            ("--html", html),
        ):
            if given:
                raise InputError(f"{option} has no meaning with --api")
        _play(opened, experiment, size, api, as_json=as_json)
        return
    report = simulate_users(
        opened, experiment, size, truth=truth, attributes=attributes, logs=log or [], videos=videos
    )
    show(report, as_json=as_json, html=html)


def simulate_users(
    lab: "Lab",
    experiment: str,
    size: "Size",
    *,
    truth: bool,
    attributes: Path | None = None,
    logs: Sequence[Path] = (),
    videos: Path | None = None,
) -> "Report":
    """Simulate users, with a progress bar, and give the report."""
    from armlift.reproduction import take_report
    from armlift.simulation.attributes import Population
    from armlift.simulation.calibration import TARGETS, misses
    from armlift.simulation.simulate import Simulation
    from armlift.store.database import open_database

    found = lab.experiment(experiment)
    population = None
    if attributes is not None:
        audience = found.parsed_audience
        named = {*(audience.attributes if audience else ()), *found.analysis.segments}
        population = Population.of_table(attributes, sorted(named))
    fitted = None
    if logs:
        from armlift.logs.reader import open_log
        from armlift.simulation.fitted import fit_world

        fitted = fit_world(found.simulation, open_log(list(logs)), lab.calendar, videos)
    engine = open_database(lab, create=True)
    with progress_bar(f"preparing {experiment}") as tell:
        simulation = Simulation(
            lab,
            found,
            size,
            engine,
            population=population,
            fitted=fitted,
            watch=training_progress,
            progress=tell,
        )
    model = simulation.laboratory.model
    for line in misses(model, fitted.origin.targets if fitted is not None else TARGETS):
        say(f"calibrated as near as these settings allow: {line}")
    with open_stream(lab) as stream, progress_bar(f"simulating {experiment}") as tell:
        run = simulation.run(stream, truth=truth, progress=tell)
    return take_report(engine, run, lab.calendar)


def _play(lab: "Lab", experiment: str, size: "Size", url: str, *, as_json: bool) -> None:
    """Let simulated users meet an experiment through an API."""
    from armlift.client import Client
    from armlift.simulation.played import Play

    with Client(url, os.environ.get(KEY)) as client:
        play = Play(lab, lab.experiment(experiment), size, client)
        with progress_bar(f"playing {experiment}") as tell:
            played = play.play(tell)
    if as_json:
        write_json(played._asdict())
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(played.fallbacks.items())) or "none"
    print(f"run {played.run}: {played.requests:,} requests answered, {played.events:,} events sent")
    print(f"fallbacks: {reasons}")
    for arm, versions in played.versions.items():
        print(f"{arm}: {', '.join(versions)}")
