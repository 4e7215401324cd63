"""Reports are made again bit for bit, from their snapshot and from the database; what differs is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, func, select, update

from armlift import forgotten, reproduction
from armlift.answers import Answers
from armlift.days import Calendar, utc_now
from armlift.erasure import erase
from armlift.events import (
    Alias,
    Codec,
    Event,
    Exposure,
    Feedback,
    Impression,
    alias_identity,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import Ingester
from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.replay import replay
from armlift.replayer import Mode, ReplayOptions
from armlift.report import Report, report_of
from armlift.reproduction import stored_report, take_daily, take_report, verify
from armlift.runs import LIVE, Run, Subjects, begin, definition_of
from armlift.snapshots import Snapshot, find
from armlift.store.database import writing
from armlift.store.tables import snapshots
from armlift.streams.embedded import EmbeddedStream

EXPERIMENT = """
name: hand
arms: {old: 1, new: 1, other: 1}
control: old
metrics: {primary: [click_rate], secondary: [clicks, clickers, most, back], guardrails: [early]}
analysis: {minimum_units: 10}
"""
METRICS = """
click_rate:
  {kind: ratio, cuped: 7d, numerator: {event: click, aggregate: sum}, denominator: {event: impression}}
clicks: {kind: mean, cuped: 7d, winsorise: 0.9, of: {event: click, aggregate: sum}}
clickers: {kind: proportion, of: {event: click}}
most: {kind: quantile, quantile: 0.8, of: {event: click, aggregate: sum}}
back: {kind: retention, day: 1}
early: {kind: mean, window: 1d, of: {event: click}}
"""
FIRST, DAYS = 19_100, 3


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "lab"
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "hand.yaml").write_text(EXPERIMENT)
    (folder / "metrics.yaml").write_text(METRICS)
    for arm in ("old", "new", "other"):
        (folder / "arms" / f"{arm}.yaml").write_text(f"name: {arm}\nmodel: random\n")
    return Lab(folder)


@pytest.fixture
def run(lab: Lab, engine: Engine) -> Run:
    """Give a live run without events."""
    experiment = lab.experiment("hand")
    made = Run(
        "run", 0, "hand", LIVE, False, 2, 0, "finished", False,
        definition_of(experiment, lab.metrics_of(experiment)), dict.fromkeys(experiment.arms, "v"),
        log_of(lab), {"rows": 0, "random_rows": None}, {},
    )  # fmt: skip
    with writing(engine) as connection:
        return begin(connection, made)


def log_of(lab: Lab) -> dict[str, object]:
    first, last = lab.calendar.start_of(FIRST), end_of(lab, DAYS - 1)
    return {"first_ts": first, "last_ts": last, "kinds": ["click"]}


def end_of(lab: Lab, day: int) -> int:
    return lab.calendar.start_of(FIRST + day + 1) - 1


def visit(unit: str, arm: str, ts: int, value: float) -> list[Event]:
    """Give what one visit leaves: an exposure, two impressions, and a click."""
    request = request_identity(ts, f"{unit}|{ts}")
    exposure = exposure_identity(ts, "run", unit, "hand", arm)
    made: list[Event] = [Exposure(exposure, "run", ts, unit, "hand", 0, 0, arm, "v", False)]
    for item in ("0", "1"):
        what = (request, unit, arm, "v", item, int(item), 0, 0.0, 1.0)
        made.append(Impression(impression_identity(request, item), "run", ts, *what))
    made.append(click(unit, request, ts, value))
    return made


def click(unit: str, request: str, ts: int, value: float) -> Feedback:
    return Feedback(
        feedback_identity(request, "0", "click", 0), "run", ts, request, unit, "0", "click", value
    )


def events_of(lab: Lab, day: int) -> list[list[Event]]:
    """Give a day of a world of 75 units: some are known before they are exposed, some meet two arms."""
    rng = np.random.default_rng(day)
    start = lab.calendar.start_of(FIRST + day)
    made: list[list[Event]] = []
    for number in range(75):
        unit, ts = f"u{number}", start + int(rng.integers(0, 80_000_000))
        value = float(rng.gamma(2.0, 1.7))
        if rng.random() < 0.3 and number != 7:
            continue
        if number % 3 and day < number % 3:
            made.append([click(unit, request_identity(ts, unit), ts, value)])  # before its first exposure
        else:
            arm = "new" if number == 7 and day == 2 else ("old", "new", "other")[number // 3 % 3]
            made.append(visit(unit, arm, ts, value))
    return made


def ingest(lab: Lab, engine: Engine, messages: list[list[Event]], *, arrived: int) -> None:
    codec = Codec(lab.settings.kinds.names)
    with EmbeddedStream(lab.folder / "stream") as stream:
        for events in messages:
            stream.publish(events[0].unit_id, codec.encode(events))
        stream.flush()
        Ingester(engine, stream, codec, lab.calendar, Subjects(), clock=lambda: arrived).drain()


def day_by_day(lab: Lab, engine: Engine, run: Run) -> list[Report]:
    """Let the days pass, and report each when it is over."""
    reports = []
    for day in range(DAYS):
        ingest(lab, engine, events_of(lab, day), arrived=end_of(lab, day))
        reports.append(take_report(engine, run, lab.calendar, as_of=end_of(lab, day)))
    return reports


def snapshot_of(engine: Engine, report: Report) -> Snapshot:
    with engine.connect() as connection:
        found = find(connection, str(report.snapshot))
    assert found is not None
    return found


def number_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(snapshots)).scalar_one()


def document(report: Report) -> dict[str, Any]:
    """Give what does not change as time goes by: lateness looks at now, and the verdict says if it warns."""
    said: dict[str, Any] = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    said["checks"] = [one for one in said["checks"] if one["name"] != "lateness"]
    assert said["verdict"]["trace"].pop(0)["rule"] == "trust_checks"
    return {key: value for key, value in said.items() if key != "snapshot"}


def test_a_report_as_of_a_past_day_is_the_one_of_that_day(lab: Lab, engine: Engine, run: Run) -> None:
    reports = day_by_day(lab, engine, run)
    assert len({report.snapshot for report in reports}) == DAYS
    methods = {one.method for report in reports for one in report.comparisons if one.lift is not None}
    assert {"cuped", "cuped_ratio", "proportion"} <= methods
    asked = {question.split("/")[0] for question in reports[-1].answers}
    assert {"by_stratum", "before", "units", "quantile", "share_at_most", "unshown", "arrived"} <= asked
    assert reports[-1].dropped["unit_several_arms"] == 1
    for day, report in enumerate(reports):
        again = take_report(engine, run, lab.calendar, as_of=end_of(lab, day))
        assert document(again) == document(report)
        assert verify(engine, snapshot_of(engine, report)) == ([], [], [])


def test_late_events_are_named(lab: Lab, engine: Engine, run: Run) -> None:
    reports = day_by_day(lab, engine, run)
    of_day_1 = end_of(lab, 1)
    late = visit("u0", "old", of_day_1 - 5, 3.25)
    ingest(lab, engine, [late], arrived=end_of(lab, DAYS + 2))
    for day, report in enumerate(reports):
        found = verify(engine, snapshot_of(engine, report))
        assert found.report == []
        assert found.equal == (day == 0)
        if day:
            assert any(one.startswith("answers/by_stratum/clicks/1/") for one in found.aggregates)
            assert found.causes == ["events of those days that arrived since: 4, of them late: 4"]
    again = take_report(engine, run, lab.calendar, as_of=of_day_1)
    assert again.snapshot != reports[1].snapshot
    assert verify(engine, snapshot_of(engine, again)).equal


def test_units_forgotten_since_are_named(lab: Lab, engine: Engine, run: Run) -> None:
    report = day_by_day(lab, engine, run)[1]
    records = forgotten.records_of(["u0"], secret=forgotten.new_secret(), at=utc_now(), by="me")
    with writing(engine) as connection:
        forgotten.write(connection, records)
    erase(engine, ["u0"], lab.calendar)
    found = verify(engine, snapshot_of(engine, report))
    assert found.report == [], "it keeps its numbers"
    assert not found.equal
    assert found.causes == ["ids of units that were forgotten since: 1; the report keeps what they counted"]
    again = take_report(engine, run, lab.calendar, as_of=end_of(lab, 1))
    (units, before) = (one.comparisons[0].units + one.comparisons[0].control_units for one in (again, report))
    assert units == before - 1
    assert verify(engine, snapshot_of(engine, again)).equal


def test_ids_merged_since_are_named(lab: Lab, engine: Engine, run: Run) -> None:
    report = day_by_day(lab, engine, run)[1]
    ts = end_of(lab, DAYS)
    merge: list[Event] = [Alias(alias_identity(ts, "run", "u3", "u0"), "run", ts, "u0", "u3")]
    ingest(lab, engine, [merge], arrived=ts)
    found = verify(engine, snapshot_of(engine, report))
    assert found.report == []
    assert not found.equal
    assert found.causes == ["ids merged since: 1"]


def test_the_same_again_adds_nothing(lab: Lab, engine: Engine, run: Run) -> None:
    ingest(lab, engine, events_of(lab, 0), arrived=end_of(lab, 0))
    first = take_report(engine, run, lab.calendar, as_of=end_of(lab, 0), clock=lambda: 1)
    second = take_report(engine, run, lab.calendar, as_of=end_of(lab, 0), clock=lambda: 2)
    assert (second.as_dict(), number_of(engine)) == (first.as_dict(), 1)
    assert snapshot_of(engine, first).created == 1
    assert len(str(first.snapshot)) == 16
    other = take_report(engine, run, lab.calendar, as_of=end_of(lab, 0) + 1)
    assert other.snapshot != first.snapshot
    assert number_of(engine) == 2


def test_a_snapshot_alone_gives_its_report(lab: Lab, engine: Engine, run: Run) -> None:
    """From JSON, without any database: the same bits."""
    report = day_by_day(lab, engine, run)[-1]
    kept = snapshot_of(engine, report)
    assert kept.report == json.loads(json.dumps(report.as_dict()))
    assert stored_report(kept).as_dict() == kept.report
    assert stored_report(kept).metrics == report.metrics
    answers = Answers(json.loads(json.dumps(kept.aggregates["answers"])), sql=kept.sql)
    again = report_of(run, Calendar(kept.aggregates["timezone"]), kept.as_of, answers)
    assert json.dumps(again.as_dict() | {"snapshot": report.snapshot}) == json.dumps(report.as_dict())


def change(engine: Engine, identity: str | None, **changed: object) -> None:
    with writing(engine) as connection:
        connection.execute(update(snapshots).where(snapshots.c.id == identity).values(**changed))


def test_a_snapshot_that_was_changed_is_found_out(lab: Lab, engine: Engine, run: Run) -> None:
    report = day_by_day(lab, engine, run)[-1]
    kept = snapshot_of(engine, report)
    told = json.loads(json.dumps(kept.report))
    lift = told["comparisons"][0]["lift"]
    told["comparisons"][0]["lift"] = float(np.nextafter(lift, 9.0))  # the last bit alone
    change(engine, kept.id, report=told)
    found = verify(engine, snapshot_of(engine, report))
    assert found.report == [f"comparisons/0/lift: was {told['comparisons'][0]['lift']!r}, is {lift!r}"]
    assert found.aggregates == []
    aggregates = json.loads(json.dumps(kept.aggregates))
    aggregates["answers"]["by_stratum/clicks"][0]["means"][0] *= 2
    change(engine, kept.id, report=kept.report, aggregates=aggregates)
    found = verify(engine, snapshot_of(engine, report))
    assert any(one.startswith("comparisons/2/") for one in found.report)
    assert len(found.aggregates) == 1
    del aggregates["answers"]["by_stratum/clicks"]
    change(engine, kept.id, aggregates=aggregates)
    found = verify(engine, snapshot_of(engine, report))
    assert found.report == ["the snapshot has no answer to by_stratum/clicks; another version made it"]


def test_another_version_is_named(
    lab: Lab, engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = day_by_day(lab, engine, run)[-1]
    kept = snapshot_of(engine, report)
    told = {key: value for key, value in kept.report.items() if key != "dropped"}
    change(engine, kept.id, report=told, sql="SELECT 1")
    monkeypatch.setattr(reproduction, "__version__", "9.9")
    found = verify(engine, snapshot_of(engine, report))
    assert all(one.startswith("dropped/") for one in found.report)
    assert found.aggregates == []
    assert found.causes == [
        f"armlift {kept.version} made the snapshot, this is 9.9",
        "the SQL that asks for units' totals is another than the stored one",
    ]
    assert take_report(engine, run, lab.calendar, as_of=kept.as_of).snapshot != kept.id


@pytest.mark.parametrize(("mode", "paired"), [("rerank", True), ("rerank", False), ("match", True)])
def test_replays_are_made_again(engine: Engine, tmp_path: Path, mode: Mode, paired: bool) -> None:
    init_lab(tmp_path / "stock")
    lab, log = Lab(tmp_path / "stock"), tmp_path / "log.csv"
    settings = GeneratorSettings(
        users=60, videos=20, days=2, sessions_per_day=2, rows_per_session=6, random_share=1, seed=3
    )
    generate(settings, log)
    with EmbeddedStream(lab.folder / "stream", 2) as stream:
        options = ReplayOptions(mode, paired, 3, 0)
        run = replay(lab, lab.experiment("baselines"), open_log([log]), engine, stream, options)
    report = take_report(engine, run, lab.calendar)
    kept = snapshot_of(engine, report)
    assert any("pairs/" in question for question in kept.aggregates["answers"]) == paired
    assert verify(engine, kept) == ([], [], [])


def test_a_report_of_each_day_is_taken_once(lab: Lab, engine: Engine, run: Run) -> None:
    for day in range(DAYS):
        ingest(lab, engine, events_of(lab, day), arrived=end_of(lab, day))
    told: list[tuple[int, int]] = []
    report = take_daily(engine, run, lab.calendar, tell=lambda done, all_: told.append((done, all_)))
    with engine.connect() as connection:
        rows = connection.execute(select(snapshots.c.as_of, snapshots.c.id).order_by(snapshots.c.as_of)).all()
    assert [row[0] for row in rows] == [end_of(lab, day) for day in range(DAYS)]
    assert rows[-1][1] == report.snapshot
    assert told == [(day + 1, DAYS) for day in range(DAYS - 1)]
    take_daily(engine, run, lab.calendar)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(snapshots)) == DAYS
    early, late = (report_at(engine, row[1]) for row in (rows[0], rows[-1]))
    assert early.progress.units < late.progress.units
    arrived = Answers(late.answers).arrivals_by_arm()
    assert sum(arrived.values()) == late.progress.units > 0
    assert {arm for arm, _ in arrived} == {"old", "new", "other"}


def report_at(engine: Engine, identity: str) -> Report:
    with engine.connect() as connection:
        found = find(connection, identity)
    assert found is not None
    return stored_report(found)
