"""Commands that make and read runs: replay, report."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    StreamOption,
    check_html,
    open_lab,
    open_stream,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar, training_progress

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.report import Report

app = typer.Typer()

Experiment = Annotated[str, typer.Argument(help="The experiment's name.")]
Logs = Annotated[list[Path], typer.Option("--log", help="A log file; give the option again for more.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file.")]


class Mode(StrEnum):
    """How the arms are asked."""

    rerank = "rerank"
    match = "match"


@app.command()
def replay(
    experiment: Experiment,
    log: Logs,
    mode: Annotated[Mode, typer.Option(help="Order what the log shows, or recall and match.")] = Mode.rerank,
    paired: Annotated[bool, typer.Option(help="Every arm answers every request.")] = False,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Items a slate has.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the arms' randomness.")] = 0,
    users: Annotated[
        Path | None, typer.Option("--users", help="A CSV table of users: attributes for the audience.")
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


@app.command()
def report(
    experiment: Experiment,
    run: Annotated[str | None, typer.Option("--run", help="Default: the newest.")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="A time or day; default: the run's end.")
    ] = None,
    html: HtmlOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report a run again."""
    from armlift.errors import InputError
    from armlift.report import make_report
    from armlift.runs import latest
    from armlift.store.database import open_database

    check_html(html)
    opened = open_lab(lab, database)
    engine = open_database(opened)
    try:
        at = opened.calendar.parse(as_of) if as_of is not None else None
    except InputError as error:
        raise InputError(f"--as-of: {error}") from error
    with engine.connect() as connection:
        try:
            found = latest(connection, experiment, run)
        except InputError:
            # What the lab does not know may have runs; where there is none, it is the name that is wrong.
            if run is None:
                opened.experiment(experiment)
            raise
    if not found.finished:
        raise InputError(
            f"run {found.run} of {experiment!r} was broken off; start its "
            f"{'replay' if found.replayed else 'import'} again to finish it"
        )
    show(make_report(engine, found, opened.calendar, as_of=at), as_json=as_json, html=html)


def replay_logs(
    lab: "Lab",
    experiment: str,
    logs: list[Path],
    *,
    mode: Literal["rerank", "match"],
    paired: bool,
    k: int,
    seed: int,
    users: Path | None = None,
) -> "Report":
    """Replay log files through an experiment, with a progress bar, and give the report."""
    from armlift.logs.reader import open_log
    from armlift.logs.users import read_users
    from armlift.replay import replay as replay_log
    from armlift.replayer import ReplayOptions
    from armlift.report import make_report
    from armlift.store.database import open_database

    found = lab.experiment(experiment)
    audience = found.parsed_audience
    table = read_users(users, audience.attributes if audience else ()) if users is not None else None
    log = open_log(logs)
    if log.ignored:
        say(f"columns not known and not read: {', '.join(log.ignored)}")
    engine = open_database(lab, create=True)
    with open_stream(lab) as stream, progress_bar(f"replaying {experiment}") as tell:
        options = ReplayOptions(mode=mode, paired=paired, k=k, seed=seed)
        run = replay_log(
            lab, found, log, engine, stream, options, users=table, progress=tell, watch=training_progress
        )
    return make_report(engine, run, lab.calendar)


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
