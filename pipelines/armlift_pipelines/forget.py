"""The command that erases a unit from all a lab stores: forget."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    StreamOption,
    open_lab,
    say,
    who,
    write_json,
)
from armlift.days import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from armlift_pipelines.forgetting import Forgetting, Found

app = typer.Typer()


@app.command()
def forget(
    unit: Annotated[str | None, typer.Argument(help="The unit's id, or one that was merged into it.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Erase again what was ever forgotten: after a restore.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who does it; default: who is logged in.")] = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a unit, with all ids that are one with it, from all that is stored; exit code 1 where none was.

    Without --yes it shows what there is, and asks.
    """
    from armlift.errors import InputError
    from armlift.store.database import open_database
    from armlift_pipelines.forgetting import Forgetting

    if again == (unit is not None):
        raise InputError("forget: must be given a unit, or --again, and not both")
    opened = open_lab(lab, database, stream)
    forgetting = Forgetting(opened, open_database(opened), by=who(by), at=utc_now())
    if unit is None:
        _again(forgetting, as_json=as_json)
        return
    if not yes:
        found = forgetting.find(_checked(unit))
        _show(found, unit)
        _ask(found)
    found = forgetting.forget(_checked(unit))
    if as_json:
        write_json(
            {"unit": unit, "ids": len(found.ids), "erased": found.counts, "named_by": found.definitions}
        )
    elif yes:
        _show(found, unit)
    done = "erased, and recorded" if found.counts else "recorded"
    say(f"{done}, so that what comes late is not taken in")
    if not found.counts:
        raise typer.Exit(1)


def _again(forgetting: "Forgetting", *, as_json: bool) -> None:
    done = forgetting.again()
    if as_json:
        write_json({"recorded": done.recorded, "ids": done.ids, "erased": done.counts})
    else:
        print(
            f"{done.recorded:,} erasures are recorded; {done.ids:,} ids had come back: {_rows(done.counts)}"
        )


def _show(found: "Found", unit: str) -> None:
    """Say on stderr what there is of a unit, or was."""
    if found.counts:
        say(f"unit {unit!r}, {'1 id' if len(found.ids) == 1 else f'{len(found.ids):,} ids'}:")
    else:
        say(f"nothing of unit {unit!r} was found")
    for place, rows in found.counts.items():
        say(f"  {rows:>12,}  {place}")
    for name in found.definitions:
        say(
            f"experiment {name}: its `forced` names the unit, and stays as people wrote it; take it out there"
        )


def _ask(found: "Found") -> None:
    """Ask whether to go on; ends the command where the answer is no, and where there is nothing to erase."""
    from armlift.errors import InputError

    if found.counts and not sys.stdin.isatty():
        raise InputError("forget: nobody can be asked here, must be given --yes to erase this")
    if not found.counts or not typer.confirm("Erase all of it, for good?", err=True):
        raise typer.Exit(1)


def _rows(counts: "Mapping[str, int]") -> str:
    return ", ".join(f"{rows:,} {place}" for place, rows in counts.items()) or "nothing"


def _checked(unit: str) -> str:
    from armlift.errors import InputError

    if not 0 < len(unit) <= 200 or "\0" in unit or not unit.isprintable():
        raise InputError(f"unit {unit!r}: must have 1 to 200 characters that can be printed")
    return unit
