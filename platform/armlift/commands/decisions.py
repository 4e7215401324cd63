"""Commands that decide on a snapshot: experiment ship, stop, decisions."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    open_lab,
    say,
    who,
    write_json,
)
from armlift.commands.running import line_of
from armlift.days import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from armlift.decisions import Decision
    from armlift.lab import Lab

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The experiment.")]
SnapshotOption = Annotated[str, typer.Option("--snapshot", help="The report it rests on, by its snapshot.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides; default: who is logged in.")]


@app.command()
def ship(
    name: Name,
    arm: Annotated[str, typer.Option("--arm", help="The arm that ships.")],
    snapshot: SnapshotOption,
    reason: ReasonOption,
    by: ByOption = None,
    override: Annotated[
        bool, typer.Option("--override", help="Ship against the verdict; that is recorded.")
    ] = False,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Record that an arm ships; one that runs ends. Refused unless the snapshot's verdict is to ship it."""
    from armlift import decisions
    from armlift.snapshots import named
    from armlift.store.database import open_database, writing

    opened = open_lab(lab, database)
    with writing(open_database(opened)) as connection:
        made = decisions.ship(
            named(connection, snapshot, name), arm, reason=reason, by=who(by), at=utc_now(), override=override
        )
        done = _end(connection, made)
        decisions.record(connection, made, done)
    print(_line(made))
    if done:
        _say_default(opened, arm)


@app.command()
def stop(
    name: Name,
    reason: ReasonOption,
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", help="The report it rests on; not needed where the experiment runs."),
    ] = None,
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Record that an experiment is stopped and no arm ships; one that runs ends for good."""
    from armlift import decisions, running
    from armlift.errors import InputError
    from armlift.snapshots import named
    from armlift.store.database import open_database, writing

    opened = open_lab(lab, database)
    with writing(open_database(opened)) as connection:
        if snapshot is not None:
            made = decisions.stop(named(connection, snapshot, name), reason=reason, by=who(by), at=utc_now())
            decisions.record(connection, made, _end(connection, made))
            print(_line(made))
            return
        found = running.find(connection, name)
        if found is None or found.state == "stopped":
            state = "was not started" if found is None else "is stopped"
            raise InputError(
                f"--snapshot: is missing and experiment {name} {state}; only one that runs or is paused is "
                "stopped without"
            )
        print(line_of(opened, running.stop(connection, name, reason=reason, by=who(by), at=utc_now())))


def _end(connection: "Connection", decision: "Decision") -> dict[str, Any]:
    """End the experiment that a decision is of, where it runs; gives what that changed."""
    from armlift import running

    found = running.find(connection, decision.experiment)
    if found is None or found.state == "stopped":
        return {}
    before, after = running.end(
        connection, decision.experiment, reason=decision.reason, by=decision.by, at=decision.at
    )
    return {"before": before.summary(), "after": after.summary()}


def _say_default(lab: "Lab", arm: str) -> None:
    """Say what is left to do for everybody to meet the arm that ships."""
    default = lab.settings.default_arm
    if arm != default:
        say(f"everybody now gets default_arm, {default}; set it to {arm} in armlift.toml")


@app.command("decisions")
def list_decisions(
    name: Name, lab: LabOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """List an experiment's decisions, the oldest first."""
    from armlift.decisions import of_experiment
    from armlift.store.database import open_database, reading

    opened = open_lab(lab, database)
    with reading(open_database(opened)) as connection:
        found = of_experiment(connection, name)
    if not found and name not in opened.experiment_names():
        opened.experiment(name)  # says that there is none of this name
    if as_json:
        write_json({"experiment": name, "decisions": [one._asdict() for one in found]})
        return
    print("\n".join(map(_line, found)) or f"experiment {name}: nothing was decided")


def _line(decision: "Decision") -> str:
    from armlift.rendering.words import decided

    return decided(decision)
