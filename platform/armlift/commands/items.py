"""Commands on the catalogue: items set, list."""

from pathlib import Path
from typing import Annotated

import typer

from armlift.commands.options import DatabaseOption, JsonOption, LabOption, open_lab, say, write_json
from armlift.days import utc_now

app = typer.Typer()
items = typer.Typer(help="Say which items there are, whether each may be shown, and what is known of it.")
app.add_typer(items, name="items")


@items.command("set")
def set_items(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV, or JSON lines (.jsonl), with item_id and available; further columns are attributes."
        ),
    ],
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Store the items of a file, each in place of all that was known of it; others stay as they are."""
    from armlift.item_files import read_items
    from armlift.items import put
    from armlift.store.database import open_database, writing

    opened = open_lab(lab, database)
    found = read_items(file, utc_now())
    with writing(open_database(opened, create=True)) as connection:
        put(connection, found)
    gone = sum(not one.available for one in found)
    print(f"{len(found)} items stored, {gone} of them unavailable")


@items.command("list")
def list_items(
    unavailable: Annotated[
        bool, typer.Option("--unavailable", help="Only those that may not be shown.")
    ] = False,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the items by id, with their attributes."""
    import json

    from armlift.items import read
    from armlift.store.database import open_existing, reading

    opened = open_lab(lab, database)
    engine, found = open_existing(opened), []
    if engine is not None:
        with reading(engine) as connection:
            found = read(connection)
    shown = [one for one in found if not (unavailable and one.available)]
    if as_json:
        write_json({"items": [one._asdict() for one in shown]})
        return
    for one in shown:
        state = "available" if one.available else "unavailable"
        print(f"{one.item_id}  {state}  {json.dumps(one.attributes, ensure_ascii=False)}")
    if not found:
        say(f"{opened.folder}: has no items; `armlift items set FILE` stores some")
