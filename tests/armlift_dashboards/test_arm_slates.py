"""Slates of a unit: every arm answers as in service, and one that cannot says why."""

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from armlift import prompts
from armlift.arm import Arm, Prompt, Slate
from armlift.errors import ArmliftError
from armlift.lab import Lab
from armlift.prompts import StoredPrompt, Told
from armlift.runs import Run
from armlift.store.database import writing
from armlift_dashboards.arm_slates import Column, answered, columns, last_prompts, load, request_of
from armlift_dashboards.run_units import Unit, find_unit

AT = 1_700_000_000_000
Walkers = tuple[Lab, Engine, Run, str]


def ask(walkers: Walkers, unit: str = "unit004") -> tuple[Unit, dict[str, Column]]:
    lab, engine, run, _ = walkers
    with engine.connect() as connection:
        found = find_unit(connection, run, unit, 200)
    return found, {one.arm: one for one in columns(engine, lab, run, found, lambda arm, v: load(lab, arm, v))}


def test_each_arm_answers_or_says_why_not(walkers: Walkers) -> None:
    unit, found = ask(walkers)
    assert list(found) == ["recgpt", "recgpt1", "comirec"], "the experiment's order"
    slate, trouble = found["recgpt"].slate, found["recgpt1"].trouble
    assert slate is not None
    assert len(slate.items) == 5, "as many as the run asks for"
    assert not {*slate.items} & {one.item for one in unit.history}
    assert trouble is not None
    assert "recgpt1" in trouble
    assert found["recgpt1"].slate is None
    assert (found["comirec"].answering, found["comirec"].prompts) == (None, ())
    assert str(found["comirec"].trouble).startswith("has no version that can answer")
    assert ask(walkers)[1]["recgpt"].slate == slate, "asking again gives the same"


def test_prompts_in_view_are_generated_or_read(walkers: Walkers) -> None:
    _, engine, _, version = walkers
    unit, found = ask(walkers)
    said = found["recgpt"].prompts
    assert [one.stored for one in said] == [False] * 3
    assert {answered(one, unit.history) for one in said} == {"item11"}
    last = unit.history[-2]
    kept = [StoredPrompt(14, step, f"item{step:02}", 0.5, last.item, last.ts) for step in range(3)]
    with writing(engine) as connection:
        prompts.write(connection, "recgpt", version, {unit.unit: Told("h", kept)}, written=AT)
    slate = ask(walkers)[1]["recgpt"].slate
    assert slate is not None
    assert [(one.item, one.stored) for one in slate.prompts] == [
        (f"item{step:02}", True) for step in range(3)
    ]
    assert last_prompts(slate) == ["item00", "item01", "item02"]


def test_the_prompts_that_count_are_those_to_the_last_behaviour() -> None:
    said = [Prompt(3, 1, "b"), Prompt(1, 0, "x"), Prompt(3, 0, "a"), Prompt(3, 2, "b")]
    assert last_prompts(Slate([], [], [], [], prompts=said)) == ["a", "b"]
    assert last_prompts(Slate([], [], [], [])) == []
    assert answered(Prompt(3, 0, "a"), []) == ""


def test_a_unit_that_did_nothing_is_asked_for_when_it_was_met(walkers: Walkers) -> None:
    _, _, run, _ = walkers
    request = request_of(run._replace(k=0), Unit("new", "new", "recgpt", AT, ()))
    assert (request.ts, request.k, request.unit, list(request.history)) == (AT, 10, "new", [])


def test_whatever_a_model_raises_becomes_one_line(walkers: Walkers) -> None:
    lab, engine, run, _ = walkers
    with engine.connect() as connection:
        unit = find_unit(connection, run, "unit004", 200)

    def give(arm: str, version: str) -> Arm:
        found = load(lab, "recgpt", version)

        def refuse(_: Sequence[object]) -> list[Slate]:
            raise RuntimeError("no\nmemory")

        found.recommend = refuse  # type: ignore[method-assign, assignment]
        return found

    found = {one.arm: one for one in columns(engine, lab, run, unit, give)}
    assert found["recgpt"].trouble == "recgpt cannot answer: RuntimeError: no memory"
    with pytest.raises(ArmliftError, match="there is no such artefact"):
        load(lab, "recgpt", "0" * 12)
