"""Stored prompts: written in one go, read by unit, and placed in the history of today."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from armlift import prompts
from armlift.arm import Behaviour, Prompt
from armlift.prompts import StoredPrompt, Told
from armlift.store.database import writing

AT = 1_700_000_000_000
CLICKS = ("click",)


def said(position: int, item: str, answered: str = "a", ts: int = AT, step: int = 0) -> StoredPrompt:
    return StoredPrompt(position, step, item, 0.5, answered, ts)


def click(item: str, ts: int, kind: str = "click") -> Behaviour:
    return Behaviour(item, kind, 1.0, AT + ts)


def places(found: list[Prompt]) -> list[tuple[int, str]]:
    assert all(one.stored for one in found)
    return [(one.position, one.item) for one in found]


def test_prompts_replace_those_of_their_units(engine: Engine) -> None:
    with writing(engine) as connection:
        assert prompts.last_written(connection, "mine", "v") is None
        units = {f"u{number}": Told("h", [said(0, "x"), said(3, "y", step=1)]) for number in range(1200)}
        prompts.write(connection, "mine", "v", units, written=AT)
        prompts.write(connection, "mine", "w", {"u1": Told("h", [said(0, "z")])}, written=AT + 1)
    with writing(engine) as connection:
        changed = {"u1": Told("i", [said(2, "é")]), "u2": Told("i", []), "new": Told("i", [said(0, "q")])}
        prompts.write(connection, "mine", "v", changed, written=AT + 5)
        assert prompts.last_written(connection, "mine", "v") == AT + 5
        assert prompts.last_written(connection, "mine", "w") == AT + 1
        found = prompts.of_units(connection, "mine", "v", [*units, "new", "nobody"])
    assert found["u1"] == [said(2, "é")]
    assert found["u2"] == found["nobody"] == []
    assert found["new"] == [said(0, "q")]
    assert found["u0"] == found["u1199"] == [said(0, "x"), said(3, "y", step=1)]
    assert len(found) == 1202


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_units_are_found_by_the_key_after_a_night(engine: Engine) -> None:
    units = {f"u{number}": Told("h", [said(0, "x"), said(3, "y")]) for number in range(prompts.MANY // 2)}
    with writing(engine) as connection:
        prompts.write(connection, "mine", "v", units, written=AT)
        where = "arm = 'mine' AND version = 'v' AND unit_id IN ('u1', 'u2')"
        plan = connection.execute(text(f"EXPLAIN DELETE FROM prompts WHERE {where}")).scalars().all()
        last = connection.execute(
            text("EXPLAIN SELECT max(written) FROM prompts WHERE arm = 'mine' AND version = 'v'")
        )
        assert "using pk_prompts" in "\n".join(plan)
        assert "using ix_prompts_written" in "\n".join(last.scalars())


def test_prompts_of_other_versions_are_deleted(engine: Engine) -> None:
    with writing(engine) as connection:
        for version in ("u", "v", "w"):
            prompts.write(connection, "mine", version, {"u1": Told("h", [said(0, "x")])}, written=AT)
        prompts.write(connection, "other", "u", {"u1": Told("h", [said(0, "x")])}, written=AT)
        assert prompts.delete_but(connection, "mine", {"v"}) == 2
        assert prompts.of_units(connection, "mine", "u", ["u1"]) == {"u1": []}
        assert prompts.of_units(connection, "mine", "v", ["u1"]) == {"u1": [said(0, "x")]}
        assert prompts.delete_but(connection, "mine", ()) == 1
        assert prompts.of_units(connection, "other", "u", ["u1"]) == {"u1": [said(0, "x")]}


def test_what_is_stored_of_a_slate_tells_what_it_answers() -> None:
    history = [click("a", 0), click("b", 5)]
    made = prompts.told([Prompt(1, 0, "x", 2.5), Prompt(1, 1, "y", 1.5)], history)
    assert made.prompts == [
        StoredPrompt(1, 0, "x", 2.5, "b", AT + 5),
        StoredPrompt(1, 1, "y", 1.5, "b", AT + 5),
    ]
    assert made.history_hash == prompts.history_hash(history)
    assert len({prompts.history_hash(history[:n]) for n in range(3)}) == 3


NIGHT = [click("a", 0), click("b", 1), click("b", 2), click("c", 3)]
STORED = prompts.told([Prompt(0, 0, "x"), Prompt(1, 0, "y"), Prompt(3, 0, "z")], NIGHT).prompts


@pytest.mark.parametrize(
    ("history", "found"),
    [
        (NIGHT, [(0, "x"), (1, "y"), (3, "z")]),
        ([*NIGHT, click("d", 4)], [(0, "x"), (1, "y"), (3, "z")]),
        ([*NIGHT[1:], click("d", 4)], [(0, "y"), (2, "z")]),
        # The first of the run it answered is gone.
        (NIGHT[2:], [(1, "z")]),
        # What is of no kind of the arm's stands between, and before with the same time.
        (
            [click("a", 0, "play"), NIGHT[0], click("a", 0, "play"), NIGHT[1], NIGHT[3]],
            [(1, "x"), (3, "y"), (4, "z")],
        ),
        ([click("a", 9)], []),
        ([], []),
    ],
)
def test_prompts_are_placed_in_the_history_of_today(
    history: list[Behaviour], found: list[tuple[int, str]]
) -> None:
    assert places(prompts.placed(STORED, history, CLICKS)) == found


def test_behaviours_of_one_time_are_told_apart_from_the_end() -> None:
    night = [click("a", 0), click("b", 0), click("a", 0), click("c", 0), click("a", 0)]
    every = prompts.told([Prompt(0, 0, "x"), Prompt(2, 0, "y"), Prompt(4, 0, "z")], night).prompts
    assert places(prompts.placed(every, night, CLICKS)) == [(0, "x"), (2, "y"), (4, "z")]
    assert places(prompts.placed(every, night[1:], CLICKS)) == [(1, "y"), (3, "z")]
    # An arm that knows neither b nor c answers the first alone; one that does, with `tail`, the last.
    assert places(prompts.placed(every[:1], night, CLICKS)) == [(0, "x"), (2, "x"), (4, "x")]
    assert places(prompts.placed(every[-1:], night, CLICKS)) == [(0, "z"), (2, "z"), (4, "z")]


@st.composite
def nights(draw: st.DrawFn) -> tuple[list[Behaviour], set[str], int, list[Behaviour]]:
    """Draw a history, the items an arm knows, how many of the oldest are lost, and what comes after."""
    kinds = st.sampled_from(["click", "play"])
    pairs = draw(st.lists(st.tuples(st.sampled_from("abcd"), kinds), max_size=14))
    history = [click(item, at, kind) for at, (item, kind) in enumerate(pairs)]
    known = draw(st.sets(st.sampled_from("abcd"), min_size=1))
    cut = draw(st.integers(0, len(history)))
    later = [
        click(item, 100 + at) for at, item in enumerate(draw(st.lists(st.sampled_from("abcd"), max_size=4)))
    ]
    return history, known, cut, later


def tokens(history: list[Behaviour], known: set[str]) -> list[int]:
    """Give the positions that a neural arm answers: known items, what repeats at once counts once."""
    found, last = [], None
    for position, behaviour in enumerate(history):
        if behaviour.kind == "click" and behaviour.item in known and behaviour.item != last:
            last = behaviour.item
            found.append(position)
    return found


@given(nights())
def test_what_an_arm_still_answers_has_its_prompt(
    drawn: tuple[list[Behaviour], set[str], int, list[Behaviour]],
) -> None:
    history, known, cut, later = drawn
    stored = prompts.told([Prompt(at, 0, f"to {at}") for at in tokens(history, known)], history).prompts
    today = [*history[cut:], *later]
    found = {one.position: one.item for one in prompts.placed(stored, today, CLICKS)}
    night, now = set(tokens(history, known)), tokens(today, known)
    for position in now:
        then = position + cut
        assert found.get(position) == (f"to {then}" if then in night and then < len(history) else None)
