"""What a lab's database gives to tell: stale models, new dead letters, splits that are off."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete

from armlift.days import DAY_MS
from armlift.lab import Lab, init_lab
from armlift.snapshots import Snapshot, keep
from armlift.store.database import writing
from armlift.store.tables import dead_letters, models
from armlift_pipelines.alerts import Alert, Alerts
from armlift_pipelines.watch import RECENT, look

NOW = 1_764_115_200_000
sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


def model(engine: Engine, arm: str, version: str, until: int, **other: str) -> None:
    row = {"arm": arm, "scope": "*", "version": version, "state": "promoted", "data_until": until} | other
    with writing(engine) as connection:
        connection.execute(models.insert().values(**row, data_hash="d", definition_hash="e"))


def letter(engine: Engine, offset: int, **other: Any) -> None:
    row = {"stream_id": "s1", "partition": 0, "offset": offset, "index": 0, "reason": "bad", "bytes": b"x"}
    with writing(engine) as connection:
        connection.execute(dead_letters.insert().values({**row, **other}))


def snapshot(engine: Engine, identity: str, created: int = NOW, **other: Any) -> None:
    checks = [
        {"name": name, "status": other.pop(name, "ok"), "value": 1e-6} for name in ("srm", "srm_always_valid")
    ]
    made = Snapshot(
        identity, "live", "demo", created, created, "1", "d", "SELECT 1", {},
        {"checks": [*checks, {"name": "event_loss", "status": "fail", "value": 0.5}]},
    )  # fmt: skip
    with writing(engine) as connection:
        keep(connection, made._replace(**other))


def told(engine: Engine, lab: Lab, now: int = NOW) -> list[Alert]:
    """Look, and tell what was found, as jobs do."""
    found = look(lab, engine, now=now)
    alerts = Alerts(engine, lab.nightly.alerts, clock=lambda: now)
    for one in found:
        alerts.tell(one)
    return found


def test_nothing_is_nothing(engine: Engine, lab: Lab) -> None:
    assert look(lab, engine, now=NOW) == []


def test_promoted_models_of_old_data_are_stale(engine: Engine, lab: Lab) -> None:
    model(engine, "sasrec", "a" * 12, NOW - 3 * DAY_MS - 1)
    model(engine, "popularity", "b" * 12, NOW - 3 * DAY_MS)
    model(engine, "recgpt", "c" * 12, NOW - 9 * DAY_MS, state="retired")
    model(engine, "recgpt", "d" * 12, NOW - 4 * DAY_MS, scope="demo")
    first, second = look(lab, engine, now=NOW)
    assert (first.kind, first.subject) == ("stale_model", "recgpt/demo")
    assert first.text == (
        "the data of recgpt dddddddddddd, which serves demo, end 4.0 days ago (2025-11-22T08:00:00+08:00), "
        "must be within 3d"
    )
    assert second.subject == "sasrec/*"
    assert "which serves every experiment" in second.text
    (lab.folder / "nightly.yaml").write_text("alerts: {stale_after: 5d}\n", encoding="utf-8")
    assert look(Lab(lab.folder), engine, now=NOW) == []


def test_dead_letters_are_told_once(engine: Engine, lab: Lab) -> None:
    for offset, reason in ((3, "kind 'x'"), (5, "kind 'x'"), (9, "ts \x1b[2J")):
        letter(engine, offset, reason=reason)
    letter(engine, 1, partition=1)
    letter(engine, 0, stream_id="s2")
    first, second = told(engine, lab)
    assert (first.kind, first.subject, second.subject) == ("dead_letters", "stream/s1", "stream/s2")
    assert first.text == "4 new dead letters of 4: 2 × kind 'x'; 1 × bad; 1 × ts \\x1b[2J"
    assert first.details["seen"] == {"0": 9, "1": 1}
    assert told(engine, lab) == []
    letter(engine, 2, partition=1, reason="worse")
    letter(engine, 1, partition=2, reason="worse")
    (third,) = told(engine, lab, NOW + 2 * DAY_MS)
    assert third.text == "2 new dead letters of 6: 2 × worse"
    assert told(engine, lab, NOW + 2 * DAY_MS) == []


@sqlite
def test_dead_letters_that_were_settled_hide_no_new_ones(engine: Engine, lab: Lab) -> None:
    for offset in range(20):
        letter(engine, offset)
    told(engine, lab)
    with writing(engine) as connection:
        connection.execute(delete(dead_letters))
    assert look(lab, engine, now=NOW) == []
    letter(engine, 20)
    assert [one.text for one in look(lab, engine, now=NOW)] == ["1 new dead letters of 1: 1 × bad"]


@sqlite
def test_dead_letters_that_come_while_nothing_is_told_again_are_told_later(engine: Engine, lab: Lab) -> None:
    letter(engine, 1)
    told(engine, lab)
    letter(engine, 2)
    told(engine, lab, NOW + DAY_MS // 2)
    (later,) = told(engine, lab, NOW + DAY_MS)
    assert later.details["new"] == 1
    assert told(engine, lab, NOW + DAY_MS) == []


def test_a_split_that_is_off_is_told_once_a_snapshot(engine: Engine, lab: Lab) -> None:
    snapshot(engine, "old", NOW - DAY_MS, srm="fail")
    snapshot(engine, "new", NOW - 5, srm="warn", srm_always_valid="fail")
    snapshot(engine, "fine", NOW, experiment="other")
    snapshot(engine, "past", NOW - 9, experiment="other", srm="fail")
    (one,) = told(engine, lab)
    assert (one.kind, one.subject) == ("srm", "demo/live")
    assert one.text == (
        "the split of demo in run live is off as of 2025-11-26T07:59:59+08:00: srm_always_valid p = 1e-06"
    )
    assert one.details == {
        "experiment": "demo", "run": "live", "snapshot": "new", "checks": {"srm_always_valid": 1e-6},
    }  # fmt: skip
    assert told(engine, lab, NOW + 2 * DAY_MS) == []
    snapshot(engine, "newer", NOW + 2 * DAY_MS, srm="fail")
    (again,) = look(lab, engine, now=NOW + 2 * DAY_MS)
    assert again.details["snapshot"] == "newer"


def test_old_snapshots_are_no_news(engine: Engine, lab: Lab) -> None:
    snapshot(engine, "old", NOW - RECENT - 1, srm="fail")
    snapshot(engine, "later", NOW + 1, run="r2", srm="fail")
    assert look(lab, engine, now=NOW) == []
    snapshot(engine, "edge", NOW - RECENT, run="r3", srm="fail", report={"checks": []})
    assert look(lab, engine, now=NOW) == []
