"""Decisions rest on a snapshot: who ships against its verdict must say so, and all is recorded."""

from typing import Any

import pytest
from sqlalchemy import Engine, select

from armlift import decisions
from armlift.decisions import Decision
from armlift.errors import InputError
from armlift.snapshots import Snapshot, find, keep, named
from armlift.store.database import writing
from armlift.store.tables import audit_log

AT = 1_650_000_000_000


def snapshot(status: str = "ship", ships: tuple[str, ...] = ("new",), **changed: Any) -> Snapshot:
    made = Snapshot(
        id="5ba9e5c0ffee0001",
        run="run",
        experiment="hand",
        as_of=AT,
        created=AT + 1,
        version="1",
        definition_hash="d",
        sql="SELECT 1",
        aggregates={"run": {"definition": {"experiment": {"arms": {"old": 1, "new": 1, "other": 1}}}}},
        report={"verdict": {"status": status, "ships": list(ships)}},
    )
    return made._replace(**changed)


def ship(made: Snapshot, arm: str, **changed: Any) -> Decision:
    return decisions.ship(made, arm, **{"reason": "it lifts", "by": "ada", "at": AT, **changed})


def test_an_arm_ships_by_its_verdict() -> None:
    made = ship(snapshot(), "new")
    assert made[1:] == (
        "hand", "run", "new", "ship", "5ba9e5c0ffee0001", "it lifts", "ada", AT, "ship", False,
    )  # fmt: skip
    assert not ship(snapshot(), "new", override=True).overridden, "there was nothing to override"
    assert len({one.id for one in (made, ship(snapshot(), "new", at=AT + 1))}) == 2


@pytest.mark.parametrize(
    ("made", "arm", "says"),
    [
        (snapshot(), "other", "the verdict of snapshot 5ba9e5c0ffee0001 is ship new, must be ship for this"),
        (snapshot(), "old", "the verdict of snapshot 5ba9e5c0ffee0001 is ship new, must be ship for this"),
        (snapshot("broken", ()), "new", "the verdict of snapshot 5ba9e5c0ffee0001 is broken, must be ship"),
    ],
)
def test_against_the_verdict_an_arm_ships_by_override_alone(made: Snapshot, arm: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ship(made, arm)
    forced = ship(made, arm, override=True)
    assert forced.overridden
    assert forced.verdict_status == made.report["verdict"]["status"]


@pytest.mark.parametrize(
    ("arm", "changed", "says"),
    [
        ("nwe", {"override": True}, "--arm 'nwe' is not an arm of hand, must be one of old, new, other"),
        ("new", {"reason": " "}, "--reason ' ': must not be empty"),
        ("new", {"by": ""}, "--by '': must have 1 to 200 characters"),
        ("new", {"by": "b" * 201}, f"--by '{'b' * 201}': must have 1 to 200 characters"),
    ],
)
def test_what_is_not_a_decision_is_refused(arm: str, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        ship(snapshot(), arm, **changed)
    assert str(caught.value) == says


def test_decisions_are_recorded_and_logged(engine: Engine) -> None:
    first = ship(snapshot("cannot_tell", ()), "new", override=True)
    second = decisions.stop(snapshot(), reason="too dear", by="é", at=AT + 5)
    other = decisions.stop(snapshot(experiment="else", run="r2"), reason="no", by="bo", at=AT)
    with writing(engine) as connection:
        for one in (second, first, other):
            decisions.record(connection, one)
    with engine.connect() as connection:
        assert decisions.of_experiment(connection, "hand") == [first, second]
        assert decisions.of_run(connection, "r2", "else") == [other]
        assert decisions.of_run(connection, "r2", "hand") == []
        rows = connection.execute(select(audit_log).order_by(audit_log.c.number)).all()
    assert [row[1:5] for row in rows] == [
        (AT + 5, "é", "stop", "experiment/hand"),
        (AT, "ada", "ship", "experiment/hand"),
        (AT, "bo", "stop", "experiment/else"),
    ]
    assert [row.details for row in rows] == [second._asdict(), first._asdict(), other._asdict()]
    assert (first.overridden, second.arm) == (True, None)


def test_a_snapshot_is_kept_once_and_named(engine: Engine) -> None:
    with writing(engine) as connection:
        keep(connection, snapshot())
        keep(connection, snapshot(created=AT + 9))
        assert find(connection, snapshot().id) == snapshot()
        assert named(connection, snapshot().id, "hand") == snapshot()
        with pytest.raises(InputError, match="is of experiment 'hand', must be of 'else'"):
            named(connection, snapshot().id, "else")
        with pytest.raises(InputError, match="--snapshot 'none' is not known; `armlift report hand` makes"):
            named(connection, "none", "hand")
