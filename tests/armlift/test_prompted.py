"""Requests without prompts get the stored ones: one query a batch, from a memory that is bounded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event, text

from armlift import forgotten, prompts
from armlift.arm import Behaviour, ItemTable, Prompt, Request, Slate, arm_class, new_arm
from armlift.prompted import PromptReader, with_prompts
from armlift.prompts import StoredPrompt, Told
from armlift.store.database import writing

AT = 1_700_000_000_000
HISTORY = [Behaviour("a", "click", 1.0, AT), Behaviour("b", "click", 1.0, AT + 1)]


def store(engine: Engine, item: str, *units: str, written: int) -> None:
    with writing(engine) as connection:
        told = Told("h", [StoredPrompt(0, 0, item, 0.5, "b", AT + 1)])
        prompts.write(connection, "mine", "v", dict.fromkeys(units, told), written=written)


def ask(unit: str, given: Sequence[Prompt] | None = None) -> Request:
    return Request(f"{unit:0>32}", unit, AT + 9, 3, HISTORY, prompts=given)


def reader_of(engine: Engine, most: int = 100) -> tuple[PromptReader, list[Exception]]:
    errors: list[Exception] = []
    reader = PromptReader(engine, "mine", "v", ("click",), on_error=errors.append, most=most)
    reader.refresh()
    return reader, errors


def items(requests: Sequence[Request]) -> list[str | None]:
    found = [one.prompts for one in requests]
    assert all(one is None or {prompt.position for prompt in one} == {1} for one in found)
    return [None if one is None else one[0].item for one in found]


@contextmanager
def queries(engine: Engine) -> Iterator[list[str]]:
    """Note the statements that ask for prompts."""
    noted: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM prompts" in statement:
            noted.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield noted
    event.remove(engine, "before_cursor_execute", note)


def test_one_query_fills_a_batch_and_then_none(engine: Engine) -> None:
    store(engine, "x", "u1", "u2", written=AT)
    reader, errors = reader_of(engine)
    batch = [ask("u1"), ask("nobody"), ask("u2"), ask("u1", [Prompt(1, 0, "mine")]), ask("u3", [])]
    with queries(engine) as noted:
        filled = reader.fill(batch)
        assert items(filled[:4]) == ["x", None, "x", "mine"]
        assert filled[4] == batch[4]
        assert filled[0].prompts == [Prompt(1, 0, "x", 0.5, True)]
        assert len(noted) == 1
        assert reader.fill(batch) == filled
        assert len(noted) == 1, "also who has none is remembered"
        assert reader.fill([]) == []
    assert errors == []


def test_the_memory_keeps_who_asked_last(engine: Engine) -> None:
    store(engine, "x", *"abcd", written=AT)
    reader, _ = reader_of(engine, most=2)
    with queries(engine) as noted:
        assert items(reader.fill([ask(unit) for unit in "abcd"])) == ["x"] * 4
        for unit in ("d", "c", "a", "c", "d"):
            reader.fill([ask(unit)])
    assert len(noted) == 1 + 2, "a took the place of d, and d that of a"


def test_rewritten_prompts_are_noticed(engine: Engine) -> None:
    store(engine, "x", "u1", "u2", written=AT)
    reader, _ = reader_of(engine)
    assert items(reader.fill([ask("u1")])) == ["x"]
    store(engine, "y", "u1", written=AT + 1)
    assert items(reader.fill([ask("u1")])) == ["x"]
    reader.refresh()
    assert items(reader.fill([ask("u1"), ask("u2")])) == ["y", "x"]
    with queries(engine) as noted:
        reader.refresh()
        reader.fill([ask("u1")])
        assert len(noted) == 1, "nothing was written, so nothing is forgotten"
        reader.forget()
        reader.fill([ask("u1")])
        assert len(noted) == 2
    with writing(engine) as connection:
        prompts.delete_but(connection, "mine", ())
    reader.refresh()
    assert items(reader.fill([ask("u1")])) == [None]


def test_a_database_that_fails_leaves_requests_as_they_are(engine: Engine) -> None:
    store(engine, "x", "u1", written=AT)
    reader, errors = reader_of(engine)
    reader.fill([ask("u1")])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE prompts RENAME TO elsewhere"))
    assert items(reader.fill([ask("u1"), ask("u2")])) == ["x", None]
    assert len(errors) == 1
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO prompts"))
    store(engine, "x", "u2", written=AT + 1)
    assert items(reader.fill([ask("u2")])) == ["x"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_an_arm_answers_filled_requests_and_stays_what_it_is(engine: Engine) -> None:
    store(engine, "x", "u1", written=AT)
    kind = arm_class("popularity")
    arm = new_arm(kind.config_class.model_validate({"name": "mine", "model": "popularity"}))
    arm.fit([], ItemTable(["x", "y"]), until=AT)
    asked: list[Sequence[Request]] = []
    answer = arm.recommend

    def noted(requests: Sequence[Request]) -> list[Slate]:
        asked.append(requests)
        return answer(requests)

    arm.recommend = noted  # type: ignore[method-assign]
    version = arm.version
    same = with_prompts(arm, reader_of(engine)[0])
    assert same is arm
    assert [list(slate.items) for slate in same.recommend([ask("u1")])] == [["x", "y"]]
    assert items(asked[0]) == ["x"]
    assert (same.version, isinstance(same, kind)) == (version, True)


def test_prompts_of_a_forgotten_unit_are_forgotten(engine: Engine) -> None:
    store(engine, "x", "u1", "u2", written=AT)
    reader, _ = reader_of(engine)
    assert items(reader.fill([ask("u1"), ask("u2")])) == ["x", "x"]
    records = forgotten.records_of(["u1"], secret=forgotten.new_secret(), at=AT + 5, by="me")
    with writing(engine) as connection:
        forgotten.write(connection, records)
        connection.execute(text("DELETE FROM prompts WHERE unit_id = 'u1'"))
    reader.refresh()
    assert items(reader.fill([ask("u1"), ask("u2")])) == [None, "x"]
    store(engine, "y", "u1", "u2", written=AT + 1)
    reader.refresh()
    assert items(reader.fill([ask("u1"), ask("u2")])) == [None, "y"], "what answers what was forgotten"
