"""The command that replays logs: replay."""

from enum import StrEnum
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
from armlift.commands.reports import Experiment, HtmlOption, show
from armlift.streams.opening import open_stream

if TYPE_CHECKING:
    from armlift.asked import Mode as ReplayMode
    from armlift.lab import Lab
    from armlift.report import Report

app = typer.Typer()

Logs = Annotated[list[Path], typer.Option("--log", help="A log file; give the option again for more.")]


class Mode(StrEnum):
    """How arms are asked, and what counts."""

    rerank = "rerank"
    match = "match"
    interleaved = "interleaved"
    dense = "dense"
    simulate = "simulate"


@app.command()
def replay(
    experiment: Experiment,
    log: Logs,
    mode: Annotated[Mode, typer.Option(help="How arms are asked, and what counts.")] = Mode.rerank,
    paired: Annotated[bool, typer.Option(help="Every arm answers every request.")] = False,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Items a slate has.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the arms' randomness.")] = 0,
    users: Annotated[
        Path | None,
        typer.Option("--users", help="Attributes of users, for audience and segments: CSV."),
    ] = None,
    html: HtmlOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a log of impressions through an experiment and report the lift."""
    check_html(html)
    opened = open_lab(lab, database, stream)
    report = replay_logs(opened, experiment, log, mode=mode.value, paired=paired, k=k, seed=seed, users=users)
    show(report, as_json=as_json, html=html)


def replay_logs(
    lab: "Lab",
    experiment: str,
    logs: list[Path],
    *,
    mode: "ReplayMode",
    paired: bool,
    k: int,
    seed: int,
    users: Path | None = None,
) -> "Report":
    """Replay log files through an experiment, with a progress bar, and give the report."""
    from armlift.asked import ReplayOptions
    from armlift.logs.reader import open_log
    from armlift.logs.users import read_users
    from armlift.replay import replay as replay_log
    from armlift.reproduction import take_report
    from armlift.store.database import open_database

    found = lab.experiment(experiment)
    audience = found.parsed_audience
    named = {*(audience.attributes if audience else ()), *found.analysis.segments}
    table = read_users(users, named) if users is not None else None
    log = open_log(logs)
    if log.ignored:
        say(f"columns not known and not read: {', '.join(log.ignored)}")
    engine = open_database(lab, create=True)
    with open_stream(lab) as stream, progress_bar(f"replaying {experiment}") as tell:
        options = ReplayOptions(mode=mode, paired=paired, k=k, seed=seed)
        run = replay_log(
            lab, found, log, engine, stream, options, users=table, progress=tell, watch=training_progress
        )
    return take_report(engine, run, lab.calendar)
