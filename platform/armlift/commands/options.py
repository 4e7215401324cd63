"""What the commands share: their options, and how they write."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.lab import Lab
    from armlift.runs import Run

LabOption = Annotated[
    Path | None, typer.Option("--lab", help="The lab folder; default: the nearest parent with armlift.toml.")
]
DatabaseOption = Annotated[str | None, typer.Option("--database", help="Instead of database_url.")]
StreamOption = Annotated[str | None, typer.Option("--stream", help="Instead of stream_url.")]
MAX_SEED = 2**63 - 1
"""The largest whole number that every database holds."""
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def open_lab(lab: Path | None, database: str | None = None, stream: str | None = None) -> "Lab":
    """Open the lab a command works in."""
    from armlift.lab import Lab, find_lab

    return Lab(find_lab(lab), database=database, stream=stream)


def who(by: str | None) -> str:
    """Give who decides: as told by --by, else who is logged in."""
    import getpass

    from armlift.errors import InputError

    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise InputError("--by: nobody is logged in, must name who decides") from error


def milliseconds_of(option: str, text: str) -> int:
    """Read a duration; raises InputError that names the option."""
    from pydantic import TypeAdapter, ValidationError

    from armlift.complaints import first_complaint
    from armlift.durations import Duration, milliseconds
    from armlift.errors import InputError

    try:
        return milliseconds(TypeAdapter(Duration).validate_python(text))
    except ValidationError as error:
        raise InputError(f"{option}: {first_complaint(error, None, None).text}") from error


def stored_run(lab: "Lab", engine: "Engine", experiment: str, run: str | None) -> "Run":
    """Give a finished or live run of an experiment, the newest when none is named."""
    from armlift.errors import InputError
    from armlift.runs import latest

    with engine.connect() as connection:
        try:
            found = latest(connection, experiment, run)
        except InputError:
            # What the lab does not know may have runs; where there is none, it is the name that is wrong.
            if run is None:
                lab.experiment(experiment)
            raise
    if not found.finished and not found.live:
        raise InputError(
            f"run {found.run} of {experiment!r} was broken off; start its "
            f"{'replay' if found.replayed else 'simulation' if found.simulated else 'import'} "
            f"again to finish it"
        )
    return found


def check_html(html: Path | None) -> None:
    """Refuse, before any work is done, a file that cannot be written for want of its folder."""
    from armlift.errors import InputError

    if html is not None and not html.parent.is_dir():
        raise InputError(f"--html {html}: there is no folder {html.parent}, must be in one that exists")
    if html is not None and html.is_dir():
        raise InputError(f"--html {html}: is a folder, must be a file")


def say(text: str) -> None:
    """Write a line for people, on stderr."""
    print(text, file=sys.stderr)


def write_json(document: Any) -> None:
    """Write the one document of a command, on stdout."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")
