"""One version of an arm serves in a scope, whoever promotes, and what served before can serve again."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select

from armlift import promotions
from armlift.errors import InputError
from armlift.promotions import ModelRow
from armlift.store.database import connect, writing
from armlift.store.tables import audit_log

AT = 1_700_000_000_000


def add(connection: Connection, *versions: str, arm: str = "mine", scope: str = "*") -> None:
    for number, version in enumerate(versions):
        promotions.add_candidate(
            connection, arm, scope, version,
            data_hash="d", data_until=AT + number, definition_hash="f", parent=None,
        )  # fmt: skip


def promote(connection: Connection, version: str, scope: str = "*", at: int = AT, **more: bool) -> bool:
    return promotions.promote(connection, "mine", scope, version, at=at, by="ada", reason="better", **more)


def rollback(connection: Connection, at: int = AT, to: str | None = None) -> str:
    return promotions.rollback(connection, "mine", "*", at=at, by="ada", reason="worse", to=to).version


def states(connection: Connection, scope: str = "*") -> dict[str, str]:
    rows = promotions.history(connection, "mine")
    return {row.version: row.state for row in rows if row.scope == scope}


def serving(connection: Connection, experiment: str | None = None) -> str | None:
    row = promotions.serving_version(connection, "mine", experiment)
    return row and row.version


def audited(connection: Connection) -> list[tuple[str, str]]:
    rows = connection.execute(select(audit_log).order_by(audit_log.c.number)).all()
    assert {row.subject for row in rows} <= {"arm/mine"}
    return [(row.action, row.details["version"]) for row in rows]


def test_a_candidate_is_stored_once(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b")
        promote(connection, "a")
        add(connection, "a")
        assert states(connection) == {"a": "promoted", "b": "candidate"}
        (newest, oldest) = promotions.history(connection, "mine")
        assert promotions.history(connection, "other") == []
    assert newest == ModelRow("mine", "*", "b", "candidate", "d", AT + 1, "f", None, None, None)
    assert (oldest.version, oldest.promoted) == ("a", AT)


def test_one_takes_the_place_of_the_other(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b")
        assert promotions.promoted(connection, "mine", "*") is None
        assert promote(connection, "a")
        assert not promote(connection, "a", at=AT + 5)
        assert promote(connection, "b", at=AT + 9)
    with engine.connect() as connection:
        assert states(connection) == {"a": "retired", "b": "promoted"}
        now = promotions.promoted(connection, "mine", "*")
        assert now is not None
        assert (now.version, now.promoted) == ("b", AT + 9)
        assert audited(connection) == [("promote", "a"), ("promote", "b")]
        details = connection.execute(select(audit_log.c.details).order_by(audit_log.c.number.desc())).scalar()
    assert details == {
        "scope": "*", "version": "b", "before": "a", "reason": "better", "overridden": False,
    }  # fmt: skip


def test_an_experiments_own_version_comes_first(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b")
        add(connection, "b", scope="demo")
        assert serving(connection, "demo") is None
        promote(connection, "a")
        assert [serving(connection, of) for of in (None, "demo", "other")] == ["a", "a", "a"]
        promote(connection, "b", scope="demo")
        assert [serving(connection, of) for of in (None, "demo", "other")] == ["a", "b", "a"]
        assert states(connection) == {"a": "promoted", "b": "candidate"}
        assert states(connection, "demo") == {"b": "promoted"}


def test_a_failed_transaction_leaves_the_one_that_served(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b")
        promote(connection, "a")
    with engine.connect() as connection, connection.begin() as transaction:
        promote(connection, "b")
        transaction.rollback()
    with engine.connect() as connection:
        assert states(connection) == {"a": "promoted", "b": "candidate"}
        assert audited(connection) == [("promote", "a")]


def test_refused_versions_serve_by_override_alone(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b")
        assert promotions.refuse(connection, "mine", "*", "a", ["too big", "too slow"], AT, "nightly")
        assert not promotions.refuse(connection, "mine", "*", "a", ["too big", "too slow"], AT, "nightly")
        assert promotions.named(connection, "mine", "*", "a").reasons == ["too big", "too slow"]
        with pytest.raises(
            InputError, match=r"a of arm mine was refused \(too big; too slow\), must be anot"
        ):
            promote(connection, "a")
        assert serving(connection) is None
        assert promote(connection, "a", override=True)
        assert promotions.named(connection, "mine", "*", "a").reasons is None
        with pytest.raises(
            InputError, match=r"a of arm mine serves in scope '\*', must be rolled back to be"
        ):
            promotions.refuse(connection, "mine", "*", "a", ["late"], AT, "nightly")
        last = connection.execute(select(audit_log).order_by(audit_log.c.number.desc())).first()
        assert audited(connection) == [("refuse", "a"), ("promote", "a")]
        assert last is not None
        assert last.details["overridden"] is True


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda connection: promote(connection, "z"),
            "--version 'z' is not one of arm mine in scope '*', must be one of v11, v10, v09, v08, v07, v06, "
            "v05, v04, v03, v02 and 2 older",
        ),
        (
            lambda connection: promote(connection, "v00", scope="demo"),
            "--version 'v00': arm mine has no versions in scope 'demo'; `armlift train mine` or "
            "`armlift nightly` makes one",
        ),
        (
            lambda connection: promotions.refuse(connection, "mine", "*", "z", ["no"], AT, "ada"),
            "--version 'z' is not one of arm mine in scope '*', must be one of v11, v10, v09, v08, v07, v06, "
            "v05, v04, v03, v02 and 2 older",
        ),
        (rollback, "arm mine has no promoted version in scope '*', nothing can be rolled back"),
        (
            lambda connection: promotions.refuse(connection, "mine", "*", "v00", [], AT, "ada"),
            "--reason '': must not be empty",
        ),
    ],
)
def test_what_cannot_be_is_one_line(engine: Engine, call: Callable[[Connection], object], says: str) -> None:
    with writing(engine) as connection:
        add(connection, *(f"v{number:02}" for number in range(12)))
        with pytest.raises(InputError) as caught:
            call(connection)
        assert str(caught.value) == says
        assert set(states(connection).values()) == {"candidate"}
        assert audited(connection) == []


def test_rolling_back_goes_further_back_each_time(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b", "c")
        for version in "abc":
            promote(connection, version)
        assert (rollback(connection), rollback(connection)) == ("b", "a")
        with pytest.raises(
            InputError, match="has no retired version in scope '\\*' that a could be rolled b"
        ):
            rollback(connection)
        assert states(connection) == {"a": "promoted", "b": "refused", "c": "refused"}
        assert promotions.named(connection, "mine", "*", "c").reasons == ["rolled back: worse"]
        assert audited(connection)[3:] == [("rollback", "b"), ("rollback", "a")]
        # What was mended is promoted again, and what served before it is found.
        promote(connection, "c", override=True)
        promote(connection, "b", override=True)
        assert rollback(connection) == "c"


def test_the_order_of_service_holds_though_clocks_differ(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, "a", "b", "c")
        for version, at in (("a", AT), ("b", AT - 500), ("c", AT - 900)):
            promote(connection, version, at=at)
        assert rollback(connection, at=AT - 1000) == "b"
        with pytest.raises(InputError, match="another was promoted meanwhile, a served before and not c"):
            rollback(connection, to="c")
        assert rollback(connection, to="a") == "a"


def test_whoever_promotes_at_once_one_serves(engine: Engine) -> None:
    versions = [f"v{number}" for number in range(6)]
    with writing(engine) as connection:
        add(connection, *versions)
        promote(connection, "v0")
    gate, failures = threading.Barrier(len(versions)), list[BaseException]()

    def race(version: str) -> None:
        # A pool of its own, as another process has.
        own = connect(engine.url.render_as_string(hide_password=False), Path())
        try:
            for turn in range(8):
                gate.wait()
                with writing(own) as connection:
                    add(connection, f"{version}-{turn}")
                    promote(connection, f"{version}-{turn}", at=AT + turn)
        except BaseException as error:
            failures.append(error)
            gate.abort()
            raise
        finally:
            own.dispose()

    threads = [threading.Thread(target=race, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with engine.connect() as connection:
        found = states(connection)
        assert sorted(found.values()) == ["candidate"] * 5 + ["promoted"] + ["retired"] * 48
        rows = promotions.history(connection, "mine")
        now = promotions.promoted(connection, "mine", "*")
        assert now is not None
        assert audited(connection)[-1] == ("promote", now.version)
    times = [row.promoted for row in rows if row.promoted is not None]
    assert len(times) == len(set(times)) == 49
