"""Commands that make and read runs: replay, report."""

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
    stored_run,
    write_json,
)
from armlift.commands.progress import progress_bar, training_progress
from armlift.days import utc_now
from armlift.streams.opening import open_stream

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.asked import Mode as ReplayMode
    from armlift.lab import Lab
    from armlift.report import Report
    from armlift.snapshots import Snapshot

app = typer.Typer()

Experiment = Annotated[str, typer.Argument(help="The experiment's name.")]
Logs = Annotated[list[Path], typer.Option("--log", help="A log file; give the option again for more.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file.")]
MOST_SHOWN = 10
"""Differences that `--verify` shows to people."""


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
    opened = open_lab(lab, database)
    engine = open_database(opened)
    if snapshot is not None:
        from armlift.reproduction import stored_report
        from armlift.snapshots import named
        from armlift.store.database import reading

        with reading(engine) as connection:
            found = named(connection, snapshot, experiment)
        if verify:
            _verify(engine, found, as_json=as_json)
        elif as_json and html is None:
            write_json(dict(found.report))
        else:
            show(stored_report(found), as_json=as_json, html=html)
        return
    assert experiment is not None
    show(_report(opened, engine, experiment, run, as_of, daily=daily), as_json=as_json, html=html)


def _report(
    lab: "Lab", engine: "Engine", experiment: str, run: str | None, as_of: str | None, *, daily: bool
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
        return take_report(engine, found, lab.calendar, as_of=at)
    with progress_bar(f"reporting {experiment}") as tell:
        return take_daily(engine, found, lab.calendar, until=at, tell=tell)


def _verify(engine: "Engine", snapshot: "Snapshot", *, as_json: bool) -> None:
    """Say whether a snapshot's report is made again bit for bit; exits with 1 where not."""
    from armlift.reproduction import verify

    found = verify(engine, snapshot)
    if as_json:
        write_json({"snapshot": snapshot.id, "equal": found.equal, **found._asdict()})
    else:
        for what, differences in (
            ("report from the stored aggregates", found.report),
            ("aggregates from the database", found.aggregates),
        ):
            print(f"{what}: {f'{len(differences)} differ' if differences else 'equal, bit for bit'}")
            for line in differences[:MOST_SHOWN]:
                print(f"  {line}")
            if len(differences) > MOST_SHOWN:
                print(f"  and {len(differences) - MOST_SHOWN} more; --json has all")
        for cause in found.causes:
            print(f"since: {cause}")
    if not found.equal:
        raise typer.Exit(1)


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
