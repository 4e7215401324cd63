"""Commands that decide on a snapshot: experiment ship, stop, decisions."""

from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import DatabaseOption, JsonOption, LabOption, now, open_lab, who, write_json

if TYPE_CHECKING:
    from armlift.decisions import Decision

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
    """Record that an arm ships; refused where the snapshot's verdict is not to ship it."""
    from armlift import decisions
    from armlift.snapshots import named
    from armlift.store.database import open_database, writing

    with writing(open_database(open_lab(lab, database))) as connection:
        made = decisions.ship(
            named(connection, snapshot, name), arm, reason=reason, by=who(by), at=now(), override=override
        )
        decisions.record(connection, made)
    print(_line(made))


@app.command()
def stop(
    name: Name,
    snapshot: SnapshotOption,
    reason: ReasonOption,
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Record that an experiment is stopped and no arm ships."""
    from armlift import decisions
    from armlift.snapshots import named
    from armlift.store.database import open_database, writing

    with writing(open_database(open_lab(lab, database))) as connection:
        made = decisions.stop(named(connection, snapshot, name), reason=reason, by=who(by), at=now())
        decisions.record(connection, made)
    print(_line(made))


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
