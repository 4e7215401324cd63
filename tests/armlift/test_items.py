"""Items: the newest that is known of each counts, in whatever order and however often it comes."""

import threading
from math import inf, nan
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from armlift.errors import InputError
from armlift.items import Item, check, put, read
from armlift.store.database import scratch, writing

AT = 1_700_000_000_000


def item(item_id: str = "a", available: bool = True, updated: int = AT, **attributes: Any) -> Item:
    return Item(item_id, available, attributes, updated)


def store(engine: Engine, *rows: Item) -> int:
    with writing(engine) as connection:
        return put(connection, rows)


def held(engine: Engine, since: int | None = None) -> list[Item]:
    with engine.connect() as connection:
        return read(connection, since)


def test_items_are_kept_as_they_are_given(engine: Engine) -> None:
    rows = [
        item("a", price=12.5, stock=3, new=True, title="Ünï ’; DROP TABLE items; --", empty=""),
        item("b", available=False),
    ]
    assert store(engine, *reversed(rows)) == 2
    assert held(engine) == rows
    kinds = {name: type(value) for name, value in held(engine)[0].attributes.items()}
    assert kinds == {"price": float, "stock": int, "new": bool, "title": str, "empty": str}
    assert store(engine, *rows) == 2
    assert held(engine) == rows
    assert store(engine) == 0
    assert store(engine, Item("c", True, MappingProxyType({"x": 1}), AT)) == 1


def test_the_newest_counts_and_takes_the_place_of_all(engine: Engine) -> None:
    store(engine, item(price=1, colour="red"))
    store(engine, item(updated=AT + 2, available=False, price=2))
    assert held(engine) == [item(updated=AT + 2, available=False, price=2)]
    store(engine, item(updated=AT + 1, price=3), item("b"))
    assert held(engine) == [item(updated=AT + 2, available=False, price=2), item("b")]
    store(engine, item(updated=AT + 2, price=4))
    assert held(engine)[0] == item(updated=AT + 2, price=4), "of two as new as each other, the later one"
    store(engine, item(updated=AT + 9), item(updated=AT + 8, price=5), item(updated=AT + 9, price=6))
    assert held(engine)[0] == item(updated=AT + 9, price=6)


def test_what_changed_since_is_read_alone(engine: Engine) -> None:
    rows = [item("a", updated=AT), item("b", updated=AT + 5), item("c", updated=AT + 6)]
    store(engine, *rows)
    assert held(engine, AT + 5) == rows[1:]
    assert held(engine, AT + 7) == []


@given(
    st.lists(
        st.builds(Item, st.sampled_from("abc"), st.booleans(), st.just({}), st.integers(AT, AT + 3)),
        max_size=12,
    )
)
def test_batches_do_not_matter(rows: list[Item]) -> None:
    with scratch() as together, scratch() as apart:
        store(together, *rows)
        for one in rows:
            store(apart, one)
        store(apart, *rows)
        newest = {
            name: max(r.updated for r in rows if r.item_id == name) for name in {r.item_id for r in rows}
        }
        assert held(together) == held(apart)
        assert {one.item_id: one.updated for one in held(apart)} == newest


def test_two_who_write_the_same_items_do_not_wait_for_ever(engine: Engine) -> None:
    rows = [item(f"i{number}", updated=AT) for number in range(200)]
    failed: list[Exception] = []

    def write(some: list[Item]) -> None:
        try:
            for _ in range(5):
                store(engine, *some)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=write, args=(some,)) for some in (rows, rows[::-1])]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert failed == []
    assert len(held(engine)) == 200


@pytest.mark.parametrize("value", ["x" * 200, "", 0, -1.5, 10**300, True, "🍊" * 200])
def test_good_values_are_taken(value: object) -> None:
    check(item(value=value))


@pytest.mark.parametrize(
    "value",
    [
        "x" * 201,
        nan,
        inf,
        -inf,
        10**400,
        pytest.param(10**5000, id="5000 digits"),
        None,
        [],
        {},
        b"x",
        "a\0b",
        "\ud800",
    ],
)
def test_other_values_are_refused_and_nothing_is_stored(value: object) -> None:
    with scratch() as engine:
        with pytest.raises(InputError) as caught:
            store(engine, item("good"), item("bad", price=value))
        assert held(engine) == []
    assert str(caught.value).startswith("item 'bad': price is ")
    assert str(caught.value).endswith(
        ", must be a text of at most 200 characters, a finite number, or true or false"
    )
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Item("", True, {}, AT), "item_id '': must be a text of 1 to 200 characters"),
        (Item("x" * 201, True, {}, AT), "item_id 'xxx"),
        (Item(5, True, {}, AT), "item_id 5: must be a text"),  # type: ignore[arg-type]
        (Item("a", 1, {}, AT), "item 'a': available is 1, must be true or false"),  # type: ignore[arg-type]
        (Item("a", True, {"": 1}, AT), "item 'a': attribute name '' must be a text of 1 to 200 characters"),
    ],
)
def test_other_items_are_refused(bad: Item, says: str) -> None:
    with pytest.raises(InputError) as caught:
        check(bad)
    assert str(caught.value).startswith(says)
