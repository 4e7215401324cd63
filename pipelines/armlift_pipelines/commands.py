"""The commands of nights, and what shows them: nightly, schedule, jobs, demo, forget."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    StreamOption,
    open_lab,
    say,
    write_json,
)
from armlift.days import utc_now
from armlift.streams.opening import open_stream
from armlift_pipelines import demo, forget

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift_pipelines.job_runs import JobRun
    from armlift_pipelines.night import Result

app = typer.Typer()
app.add_typer(demo.app)
app.add_typer(forget.app)

RunOption = Annotated[
    str | None, typer.Option("--run", help="Learn from this run's events, instead of nightly.yaml's.")
]


@app.command()
def nightly(
    date: Annotated[
        str | None,
        typer.Option("--date", help="The night before this day, YYYY-MM-DD; default: today."),
    ] = None,
    run: RunOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do a night by hand: what of it is done is left alone, what failed is done again.

    Exit code 1 where a step failed or a new model was refused.
    """
    import signal
    import threading

    from armlift.errors import InputError
    from armlift.store.database import open_database
    from armlift_pipelines.alerts import Alerts
    from armlift_pipelines.job_runs import BusyError
    from armlift_pipelines.night import Night
    from armlift_pipelines.scheduler import tell_of
    from armlift_pipelines.worker import StoppedError

    opened, now = open_lab(lab, database), utc_now()
    day = _day(opened, date, now)
    engine = open_database(opened, create=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _got, _frame: stop.set())
    night = Night(opened, engine, day, now=now, run=run, stop=stop, tell=None if as_json else _say_step)
    try:
        result = night.run()
    except BusyError as error:
        raise InputError(f"{error}; wait for it, or end it first") from error
    except StoppedError as error:
        say(f"night {day}: stopped; start the same command again to go on")
        raise typer.Exit(130) from error
    tell_of(result, Alerts(engine, opened.nightly.alerts))
    if as_json:
        write_json(
            {"night": str(day), **_document(result.run), "steps": [_document(one) for one in result.steps]}
        )
    else:
        print("\n".join(_summary(result)))
    if result.failed or result.refused:
        raise typer.Exit(1)


@app.command()
def schedule(
    run: RunOption = None,
    simulate: Annotated[
        str | None,
        typer.Option(
            "--simulate",
            metavar="EXPERIMENT",
            help="Rehearse: simulated users live day after day, and time passes as they do.",
        ),
    ] = None,
    users: Annotated[int, typer.Option(min=1, max=10_000_000, help="With --simulate: how many.")] = 500,
    days: Annotated[int, typer.Option(min=1, max=366, help="With --simulate: how long.")] = 7,
    k: Annotated[int, typer.Option(min=1, max=100, help="With --simulate: items a slate has.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="With --simulate: of the users.")] = 0,
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do nights and watch over experiments when they are due, until stopped; missed nights are caught up."""
    import signal

    from armlift.store.database import open_database
    from armlift_pipelines.scheduler import Scheduler

    opened = open_lab(lab, database, stream)
    engine = open_database(opened, create=True)
    if simulate is not None:
        _rehearse(opened, engine, simulate, (users, days, k, seed), as_json=as_json)
        return

    scheduler = Scheduler(opened.again, engine, run=run, tell=_say_step, say=say)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _got, _frame: scheduler.stop())
    for job, moment in sorted(scheduler.timetable.next_times().items()):
        say(f"{job}: next {opened.calendar.show(round(moment.timestamp() * 1000))}")
    say("scheduling; stop with Ctrl-C")
    scheduler.serve()
    say("stopped")


def _rehearse(
    lab: "Lab", engine: Any, experiment: str, size: tuple[int, int, int, int], *, as_json: bool
) -> None:
    """Let simulated users live through days whose nights are done by a scheduler."""
    from armlift.commands.progress import progress_bar
    from armlift.commands.reports import show
    from armlift.reproduction import take_report
    from armlift.simulation.laboratory import Size
    from armlift_pipelines.rehearsal import Rehearsal

    rehearsal = Rehearsal(lab, lab.experiment(experiment), Size(*size), engine, tell=_say_step, say=say)
    with open_stream(lab) as stream, progress_bar(f"rehearsing {experiment}") as tell:
        run = rehearsal.run(stream, progress=tell)
    show(take_report(engine, run, lab.calendar), as_json=as_json, html=None)


@app.command()
def jobs(
    job: Annotated[str | None, typer.Option("--job", help="Of this job alone: nightly or monitor.")] = None,
    date: Annotated[str | None, typer.Option("--date", help="The steps of this night, YYYY-MM-DD.")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show the steps of all nights too.")] = False,
    log: Annotated[
        str | None, typer.Option("--log", metavar="ID", help="Print what the run of this id wrote.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most so many.")] = 20,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what jobs did and how long it took, the newest first, and when they run next."""
    from armlift.store.database import open_database
    from armlift_pipelines.history import next_runs, print_log, render, select_runs

    opened = open_lab(lab, database)
    engine = open_database(opened)
    if log is not None:
        print_log(opened, engine, log)
        return
    night = None if date is None else str(_day(opened, date, utc_now()))
    runs = select_runs(engine, job=job, night=night, steps=steps, limit=limit)
    nexts = next_runs(opened, engine)
    if as_json:
        write_json({"runs": [_document(one) for one in runs], "next": nexts})
    else:
        print(render(runs, nexts, opened.calendar))


def _day(lab: "Lab", text: str | None, now: int) -> Any:
    from datetime import date, timedelta

    from armlift.errors import InputError

    if text is None:
        return date(1970, 1, 1) + timedelta(days=lab.calendar.day(now))
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--date {text!r} is no day, must be YYYY-MM-DD") from error


def _document(one: "JobRun") -> dict[str, Any]:
    return {**one._asdict(), "seconds": one.seconds}


def _say_step(one: "JobRun") -> None:
    from armlift_pipelines.history import line

    say(line(one))


def _summary(result: "Result") -> list[str]:
    from armlift_pipelines.history import night_lines

    return night_lines(result)
