"""Commands on experiments that run: experiment start, ramp, pause, resume."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands.options import DatabaseOption, LabOption, open_lab, say, who
from armlift.days import utc_now

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.started import RunningExperiment

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The experiment.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it; default: who is logged in.")]
BY_HAND = "by hand"
"""The reason of whoever gives none."""


@app.command()
def start(
    name: Name,
    reason: ReasonOption = BY_HAND,
    by: ByOption = None,
    run: Annotated[str, typer.Option("--run", help="The run that its events bear.")] = "live",
    at: Annotated[str | None, typer.Option("--at", help="When it begins; default: now.")] = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Start an experiment; of one that was started, take up what may change in its file."""
    from armlift import running
    from armlift.errors import InputError
    from armlift.store.database import open_database, writing

    opened = open_lab(lab, database)
    try:
        begins = None if at is None else opened.calendar.parse(at)
    except InputError as error:
        raise InputError(f"--at: {error}") from error
    _check_run(run)
    with writing(open_database(opened, create=True)) as connection:
        done = running.start(
            connection, opened, name, reason=reason, by=who(by), at=utc_now(), begins=begins, run=run
        )
    if not done.new:
        say(f"experiment {name}: its file is as it was started, nothing changes")
    for line in done.changes:
        print(f"  {line}")
    print(line_of(opened, done.running))


@app.command()
def ramp(
    name: Name,
    traffic: Annotated[
        float, typer.Option("--traffic", help="Share of the eligible units that take part from now on.")
    ],
    weights: Annotated[
        str | None, typer.Option("--weights", help="New weights of all arms, as ARM=WEIGHT,ARM=WEIGHT.")
    ] = None,
    reason: ReasonOption = BY_HAND,
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Begin a new phase of an experiment now; units that met an arm keep it."""
    from armlift import running

    found = None if weights is None else _weights(weights)
    _do(lab, database, running.ramp, name, traffic, found, reason=reason, by=who(by), at=utc_now())


@app.command()
def pause(
    name: Name,
    reason: ReasonOption = BY_HAND,
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Let nobody meet the arms of an experiment until it is resumed; all get the default arm."""
    from armlift import running

    _do(lab, database, running.pause, name, reason=reason, by=who(by), at=utc_now())


@app.command()
def resume(
    name: Name,
    reason: ReasonOption = BY_HAND,
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Let a paused experiment go on as before."""
    from armlift import running

    _do(lab, database, running.resume, name, reason=reason, by=who(by), at=utc_now())


def _do(lab: Any, database: str | None, change: Any, *words: Any, **options: Any) -> None:
    """Make a change in one transaction, and say how the experiment stands."""
    from armlift.store.database import open_database, writing

    opened = open_lab(lab, database)
    with writing(open_database(opened)) as connection:
        made = change(connection, *words, **options)
    print(line_of(opened, made))


def line_of(lab: "Lab", one: "RunningExperiment") -> str:
    """Say in a line how an experiment stands."""
    last, begins = one.experiment.phases[-1], lab.calendar.show(one.starts[-1])
    about = f"phase {len(one.starts) - 1} from {begins}, traffic {last.traffic:g}"
    return f"experiment {one.name}: {one.state}, version {one.version}, run {one.run}, {about}"


def find_started(lab: "Lab", name: str) -> "RunningExperiment | None":
    """Read an experiment that was started; None for a draft, and where the lab has no database yet."""
    from armlift.started import find
    from armlift.store.database import open_existing, reading

    engine = open_existing(lab)
    if engine is None:
        return None
    with reading(engine) as connection:
        return find(connection, name)


def states(lab: "Lab") -> dict[str, str]:
    """Give the state of every experiment that was started, by name."""
    from armlift.started import every
    from armlift.store.database import open_existing, reading

    engine = open_existing(lab)
    if engine is None:
        return {}
    with reading(engine) as connection:
        return {one.name: one.state for one in every(connection)}


def _weights(text: str) -> dict[str, float]:
    from armlift.errors import InputError

    found = {}
    for part in text.split(","):
        arm, sign, weight = part.strip().partition("=")
        try:
            if not sign or not arm or arm in found:
                raise ValueError
            found[arm] = float(weight)
        except ValueError as error:
            raise InputError(
                f"--weights {text!r} is not understood, must be ARM=WEIGHT,ARM=WEIGHT with each arm once"
            ) from error
    return found


def _check_run(run: str) -> None:
    import re

    from armlift.errors import InputError

    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", run):
        raise InputError(
            f"--run {run!r}: must be 1 to 63 lower-case letters, digits, _ and -, the first no _ or -"
        )
