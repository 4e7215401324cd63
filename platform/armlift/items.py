"""Items: what is known of the catalogue: whether each may be shown, and its attributes."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import NamedTuple

from sqlalchemy import Connection, select

from armlift.errors import InputError
from armlift.store.sink import insert_or
from armlift.store.tables import items

MOST_TEXT = 200
"""Characters that an item's id, an attribute's name and its text may have."""

Attribute = str | int | float | bool


class Item(NamedTuple):
    """An item of the catalogue, whether it may be shown, and when (UTC ms) this was so."""

    item_id: str
    available: bool
    attributes: Mapping[str, Attribute]
    updated: int


def put(connection: Connection, rows: Iterable[Item]) -> int:
    """Store items, in place of all that was known of each, unless that is newer; tells how many were given.

    Of rows that are as new as each other the later one counts. Raises InputError for the first that is none,
    see `check`, and stores nothing then.
    """
    newest: dict[str, Item] = {}
    for one in rows:
        check(one)
        if one.item_id not in newest or newest[one.item_id].updated <= one.updated:
            newest[one.item_id] = one
    insert = insert_or(connection, items)
    new = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=["item_id"],
        set_={"available": new.available, "attributes": new.attributes, "updated": new.updated},
        where=items.c.updated <= new.updated,
    )
    if newest:
        # In the order of their ids, so that two who write the same ones do not wait for each other for ever.
        values = [newest[name]._replace(attributes=dict(newest[name].attributes)) for name in sorted(newest)]
        connection.execute(statement, [one._asdict() for one in values])
    return len(newest)


def read(connection: Connection, since: int | None = None) -> list[Item]:
    """Read the items by id: all, or those whose `updated` is `since` (UTC ms) or later."""
    i = items.c
    query = select(i.item_id, i.available, i.attributes, i.updated).order_by(i.item_id)
    if since is not None:
        query = query.where(i.updated >= since)
    return [Item(*row) for row in connection.execute(query)]


def check(item: Item) -> None:
    """Raise InputError unless ids, names and texts have 1 to 200 characters, and numbers are finite.

    A text that is an attribute's value may be empty. None may hold NUL, which databases do not take.
    """
    if not _is_text(item.item_id, least=1):
        raise InputError(f"item_id {_short(item.item_id)}: must be a text of 1 to {MOST_TEXT} characters")
    about = f"item {_short(item.item_id)}"
    if not isinstance(item.available, bool):
        raise InputError(f"{about}: available is {_short(item.available)}, must be true or false")
    for name, value in item.attributes.items():
        if not _is_text(name, least=1):
            raise InputError(
                f"{about}: attribute name {_short(name)} must be a text of 1 to {MOST_TEXT} characters"
            )
        if not _is_value(value):
            raise InputError(
                f"{about}: {name} is {_short(value)}, must be a text of at most {MOST_TEXT} characters, a "
                "finite number, or true or false"
            )


def _is_value(value: object) -> bool:
    if isinstance(value, int | float):
        try:
            return isfinite(value)
        except OverflowError:  # a whole number beyond all floating point ones
            return False
    return _is_text(value, least=0)


def _is_text(value: object, *, least: int) -> bool:
    """Tell whether a value is a text of a good length that every database takes."""
    if not isinstance(value, str) or not least <= len(value) <= MOST_TEXT or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of too many digits
        return "too large a number"
    return text if len(text) <= 60 else f"{text[:57]}..."
