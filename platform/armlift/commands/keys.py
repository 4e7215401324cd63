"""Commands on API keys: keys create, list, rotate, revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    milliseconds_of,
    open_lab,
    say,
    who,
    write_json,
)
from armlift.days import utc_now

if TYPE_CHECKING:
    from armlift.days import Calendar
    from armlift.keys import NewKey, StoredKey

app = typer.Typer()
keys = typer.Typer(help="Make, list, renew and end the keys that `armlift serve` asks for.")
app.add_typer(keys, name="keys")

ByOption = Annotated[str | None, typer.Option("--by", help="Who does it; default: who is logged in.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as shop-frontend.")],
    scopes: Annotated[
        str,
        typer.Option(
            "--scopes",
            help="What it opens, with commas between: recommend, assignments, events, items, experiments, "
            "metrics, simulate.",
        ),
    ],
    expires: Annotated[
        str | None, typer.Option("--expires", help="After how long it ends, like 90d; default: never.")
    ] = None,
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: nobody can read it again."""
    from armlift import keys
    from armlift.store.database import open_database, writing

    at = utc_now()
    ends = None if expires is None else at + milliseconds_of("--expires", expires)
    named = [one.strip() for one in scopes.split(",") if one.strip()]
    opened = open_lab(lab, database)
    with writing(open_database(opened, create=True)) as connection:
        made = keys.create(connection, name, named, by=who(by), at=at, expires=ends)
    _show_new(made, opened.calendar, as_json)


@keys.command("list")
def list_keys(lab: LabOption = None, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the keys there are and were, by name, the oldest first; without their secrets."""
    from armlift import keys
    from armlift.store.database import open_existing, reading

    opened, at = open_lab(lab, database), utc_now()
    engine, found = open_existing(opened), []
    if engine is not None:
        with reading(engine) as connection:
            found = keys.stored(connection)
    if as_json:
        write_json({"keys": [{**one.summary(), "state": one.state(at)} for one in found]})
        return
    for one in found:
        print(_line(one, opened.calendar, at))
    if not found:
        say(f"{opened.folder}: has no keys; `armlift keys create` makes one")


@keys.command()
def rotate(
    name: Annotated[str, typer.Argument(help="The key.")],
    grace: Annotated[
        str, typer.Option("--grace", help="How long the key before stays valid; 0: it ends at once.")
    ] = "24h",
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key in the place of one, for the same scopes, and print it, once."""
    from armlift import keys
    from armlift.store.database import open_database, writing

    lasts = 0 if grace == "0" else milliseconds_of("--grace", grace)
    opened = open_lab(lab, database)
    with writing(open_database(opened)) as connection:
        made = keys.rotate(connection, name, by=who(by), at=utc_now(), grace=lasts)
    _show_new(made, opened.calendar, as_json)
    say("the key before has ended" if not lasts else f"the key before ends in {grace}")


@keys.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME|ID", help="All keys of a name, or the one of an id.")],
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """End keys for good; whoever serves takes them for at most 5 seconds more."""
    from armlift import keys
    from armlift.store.database import open_database, writing

    opened, at = open_lab(lab, database), utc_now()
    with writing(open_database(opened)) as connection:
        ended = keys.revoke(connection, which, by=who(by), at=at)
    for one in ended:
        print(_line(one, opened.calendar, at))


def _show_new(made: "NewKey", calendar: "Calendar", as_json: bool) -> None:
    """Print a key alone on stdout, or in the one document there."""
    if as_json:
        write_json({**made.key.summary(), "key": made.text})
        return
    say(f"{_line(made.key, calendar, made.key.created)}; it is shown this once:")
    print(made.text)


def _line(key: "StoredKey", calendar: "Calendar", at: int) -> str:
    """Say in a line how a key stands."""
    state = key.state(at)
    if key.ends is None:
        until = "never ends"
    else:
        until = f"{'ends' if at < key.ends else 'ended'} {calendar.show(key.ends)}"
    return f"key {key.name}  {key.id}  {state}, {until}, opens {', '.join(key.scopes)}"
