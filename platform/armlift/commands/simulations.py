"""The command that lets simulated users meet an experiment's arms: simulate."""

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
)
from armlift.commands.progress import progress_bar, training_progress
from armlift.commands.replays import Experiment, HtmlOption, show
from armlift.streams.opening import open_stream

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.report import Report
    from armlift.simulation.laboratory import Size

app = typer.Typer()


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
