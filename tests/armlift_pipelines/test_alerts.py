"""Alerts are stored whatever becomes of them, told once in a while, and sent again where that failed."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, get_args

import numpy as np
import pytest
from sqlalchemy import Engine, select

from armlift.days import DAY_MS
from armlift.nightly import ALERTS, AlertKind, AlertSettings, EmailSettings
from armlift.store.database import writing
from armlift.store.tables import alerts as table
from armlift_pipelines.alerts import RETRIED, UNSENT, Alert, Alerts, Row, Told, counted, newest

AT = 1_764_115_200_000
HOUR = 3_600_000
ALERT = Alert("failure", "nightly/2026-11-26", "retrain failed", {"step": "retrain"})
sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
Servers = Callable[..., AbstractContextManager[Any]]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def telling(engine: Engine, clock: Clock, **settings: Any) -> Alerts:
    return Alerts(engine, AlertSettings(**settings), clock=clock, timeout=5.0, backoff=0.01)


def rows(engine: Engine) -> list[Row]:
    with engine.connect() as connection:
        return [Row(*row) for row in connection.execute(select(table).order_by(table.c.number))]


def test_an_alert_is_stored_and_told(
    engine: Engine, clock: Clock, webhook: Servers, mail_server: Servers
) -> None:
    with webhook(500, 200) as hook, mail_server() as (server, box):
        email = EmailSettings(server=server, sender="a@example.org", to=("b@example.org",))
        told = telling(engine, clock, webhook=hook.url, email=email).tell(ALERT)
    assert told == Told(told.number, True, 0, {"webhook": "ok", "email": "ok"})
    row = ("failure", "nightly/2026-11-26", "retrain failed", {"step": "retrain"})
    assert rows(engine) == [Row(told.number, AT, *row, told.deliveries)]
    assert [one["details"] for one in hook.got] == [{"step": "retrain"}] * 2
    assert box.mails[0]["Subject"] == "[armlift] failure: nightly/2026-11-26"


@sqlite
def test_a_failure_is_kept_and_raises_nothing(engine: Engine, clock: Clock, closed_port: int) -> None:
    settings = {
        "webhook": f"http://ada:hunter2@127.0.0.1:{closed_port}/a",
        "email": EmailSettings(server=f"127.0.0.1:{closed_port}", sender="a@b", to=("c@d",)),
    }
    told = telling(engine, clock, **settings).tell(ALERT)
    assert {name: outcome.split(":")[:2] for name, outcome in told.deliveries.items()} == {
        "webhook": ["failed", " ConnectError"],
        "email": ["failed", " ConnectionRefusedError"],
    }
    assert rows(engine)[0].deliveries == told.deliveries
    assert "hunter2" not in str(told)


def test_the_same_is_counted_and_told_again_only_after_a_while(
    engine: Engine, clock: Clock, webhook: Servers
) -> None:
    with webhook(200) as hook:
        told = telling(engine, clock, webhook=hook.url, repeat="2h")
        first = told.tell(ALERT)
        clock.now += HOUR
        again = told.tell(Alert("failure", ALERT.subject, "another text", {"other": 1}))
        assert again == Told(first.number, False, 1, {"webhook": "ok"})
        clock.now += HOUR - 1
        assert told.tell(ALERT).repeated == 2
        others = [told.tell(Alert("failure", "else", "x")), told.tell(Alert("srm", ALERT.subject, "x"))]
        assert all(other.stored for other in others)
        clock.now += 1
        assert told.tell(ALERT).stored
    assert len(hook.got) == 4
    found = rows(engine)
    assert [row.subject for row in found] == [ALERT.subject, "else", ALERT.subject, ALERT.subject]
    assert found[0].details == {
        "step": "retrain", "repeated": 2, "latest": {"at": AT + 2 * HOUR - 1, "text": "retrain failed"},
    }  # fmt: skip
    assert found[0].text == "retrain failed"
    assert found[-1].details == {"step": "retrain"}


@sqlite
def test_kinds_that_nobody_asked_for_are_stored_only(engine: Engine, clock: Clock, webhook: Servers) -> None:
    with webhook(200) as hook:
        told = telling(engine, clock, webhook=hook.url, on=["srm"])
        kinds: tuple[AlertKind, ...] = get_args(AlertKind)
        assert kinds == ALERTS
        for kind in kinds:
            assert told.tell(Alert(kind, "s", "t")).deliveries == ({"webhook": "ok"} if kind == "srm" else {})
    assert [one["kind"] for one in hook.got] == ["srm"]
    assert {row.kind for row in rows(engine)} == set(ALERTS)


def test_what_failed_is_sent_again(engine: Engine, clock: Clock, webhook: Servers) -> None:
    with webhook(500, 500, 500, 400, 503, 200) as hook:
        told = telling(engine, clock, webhook=hook.url)
        assert told.tell(ALERT).deliveries == {"webhook": "failed: HTTP 500"}
        clock.now += 1
        assert told.tell(Alert("srm", "s", "t")).deliveries == {"webhook": "failed: HTTP 400"}
        assert [row.kind for row in told.undelivered()] == ["failure", "srm"]
        clock.now += HOUR
        down = told.retry_undelivered()
        assert [one.deliveries["webhook"] for one in down] == ["failed: HTTP 503", "failed: HTTP 400"]
        assert len(hook.got) == 5, "it is asked once, and then not for what is behind"
        assert [one.deliveries for one in told.retry_undelivered()] == [{"webhook": "ok"}] * 2
        assert told.undelivered() == []
        assert told.retry_undelivered() == []
    assert hook.got[-1]["at"] == "2025-11-26T00:00:00+00:00", "it says when it was"
    assert [row.deliveries for row in rows(engine)] == [{"webhook": "ok"}] * 2


@sqlite
def test_what_a_channel_refuses_holds_up_nothing_behind(
    engine: Engine, clock: Clock, webhook: Servers
) -> None:
    with webhook(400, 400, 400, 200) as hook:
        told = telling(engine, clock, webhook=hook.url)
        told.tell(ALERT)
        told.tell(Alert("srm", "s", "t"))
        outcomes = [one.deliveries["webhook"] for one in told.retry_undelivered()]
    assert outcomes == ["failed: HTTP 400", "ok"]


@sqlite
def test_what_took_it_is_not_asked_again(
    engine: Engine, clock: Clock, webhook: Servers, mail_server: Servers
) -> None:
    with webhook(400, 200) as hook, mail_server() as (server, box):
        email = EmailSettings(server=server, sender="a@example.org", to=("b@example.org",))
        told = telling(engine, clock, webhook=hook.url, email=email)
        assert told.tell(ALERT).deliveries == {"webhook": "failed: HTTP 400", "email": "ok"}
        (again,) = told.retry_undelivered()
    assert again.deliveries == {"webhook": "ok", "email": "ok"}
    assert len(box.mails) == 1


@sqlite
def test_a_teller_that_was_killed_has_left_its_alert(engine: Engine, clock: Clock, webhook: Servers) -> None:
    """Its row is there before anybody is told; it is sent once it is old enough to be nobody's."""
    values = {"at": AT, "kind": "failure", "subject": "s", "text": "t", "details": {}}
    with writing(engine) as connection:
        connection.execute(table.insert().values(**values, deliveries={"webhook": UNSENT}))
    with webhook(200) as hook:
        told = telling(engine, clock, webhook=hook.url)
        assert told.undelivered() == []
        clock.now += HOUR
        assert [one.deliveries for one in told.retry_undelivered()] == [{"webhook": "ok"}]


@sqlite
def test_the_row_is_there_while_a_channel_is_asked(engine: Engine, clock: Clock, webhook: Servers) -> None:
    with webhook(0) as hook, ThreadPoolExecutor(1) as pool:
        telling_now = pool.submit(telling(engine, clock, webhook=hook.url).tell, ALERT)
        arrived = threading.Event()
        while not hook.got:
            arrived.wait(0.01)
        assert [row.deliveries for row in rows(engine)] == [{"webhook": UNSENT}]
        hook.answers[:] = [200]
        hook.over.set()
        assert telling_now.result(10).deliveries == {"webhook": "ok"}


@sqlite
def test_old_news_and_channels_that_are_gone_are_left_alone(
    engine: Engine, clock: Clock, closed_port: int
) -> None:
    told = telling(engine, clock, webhook=f"http://127.0.0.1:{closed_port}/")
    before = told.tell(ALERT).deliveries
    clock.now += HOUR
    gone = telling(engine, clock)
    assert [one.deliveries for one in gone.retry_undelivered()] == [before]
    clock.now = AT + RETRIED + 1
    assert told.undelivered() == []
    assert [row.deliveries for row in rows(engine)] == [before]


def test_many_who_tell_the_same_at_once_tell_it_once(engine: Engine, clock: Clock, webhook: Servers) -> None:
    with webhook(200) as hook, ThreadPoolExecutor(4) as pool:
        told = [*pool.map(lambda _: telling(engine, clock, webhook=hook.url).tell(ALERT), range(8))]
    assert len(hook.got) == 1
    assert sorted(one.repeated for one in told) == [*range(8)]
    assert [row.details["repeated"] for row in rows(engine)] == [7]


def test_every_database_takes_what_is_told_and_no_secret_with_it(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARMLIFT_SMTP_PASSWORD", "correct horse")
    email = EmailSettings(server="127.0.0.1:1", sender="a@b", to=("c@d",), user="u")
    told = telling(engine, clock, email=email, on=["srm"])
    details = {
        "nan": float("nan"), "numpy": np.int64(3), "one": np.float64(0.5), "flag": True, "none": None,
        "nul": "a\0b", "half": "\ud83d", "deep": [{"url": "postgresql://ada:pw@db/x"}, ("t",)], 7: "key",
        "what": ValueError("password=hunter2"),
    }  # fmt: skip
    told.tell(Alert("failure", "s" * 300, "correct horse: https://ada:pw@host\0", details))  # type: ignore[arg-type]
    assert not told.tell(Alert("failure", "s" * 300, "again")).stored
    (row,) = rows(engine)
    assert (row.subject, row.text) == ("s" * 200, "***: https://***@host\\0")
    latest = {"at": AT, "text": "again"}
    assert row.details == {
        "nan": None, "numpy": 3, "one": 0.5, "flag": True, "none": None,
        "nul": "a\\0b", "half": "\\ud83d", "deep": [{"url": "postgresql://***@db/x"}, ["t"]], "7": "key",
        "what": "password=***", "repeated": 1, "latest": latest,
    }  # fmt: skip
    assert json.dumps(row.details, allow_nan=False)
    assert RETRIED == 7 * DAY_MS


def test_the_newest_are_listed_and_counted_by_kind(engine: Engine, clock: Clock) -> None:
    alerts = telling(engine, clock)
    alerts.tell(ALERT)
    clock.now += HOUR
    alerts.tell(Alert("refused", "nightly a", "worse", {}))
    clock.now += HOUR
    alerts.tell(Alert("failure", ALERT.subject, "failed again", {}))
    with engine.connect() as connection:
        found = newest(connection, 10)
        assert [one.kind for one in newest(connection, 1)] == ["refused"]
        assert counted(connection, AT) == {"failure": 1, "refused": 1}
        assert counted(connection, AT + 1) == {"refused": 1}
    assert [(one.kind, one.repeated, one.latest) for one in found] == [
        ("refused", 0, (AT + HOUR, "worse")),
        ("failure", 1, (AT + 2 * HOUR, "failed again")),
    ]
