"""Live experiments: what changes is assigned by within a second, also without a database."""

from pathlib import Path

import pytest
from serving_lab import wait_for
from sqlalchemy import Engine, text

from armlift import running
from armlift.days import DAY_MS
from armlift.lab import Lab, init_lab
from armlift.serving.live import BEFORE, UNKNOWN, LiveExperiments
from armlift.splitter import Assignment
from armlift.store.database import writing

AT = 1_700_000_000_000


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab", database=engine.url.render_as_string(hide_password=False))


def start(lab: Lab, engine: Engine, name: str = "demo") -> None:
    with writing(engine) as connection:
        running.start(connection, lab, name, reason="why", by="ada", at=AT)


def ramp(
    engine: Engine, traffic: float, weights: dict[str, float] | None = None, at: int = AT + 1000
) -> None:
    with writing(engine) as connection:
        running.ramp(connection, "demo", traffic, weights, reason="why", by="ada", at=at)


def test_changes_are_seen_soon_and_hold_without_a_database(lab: Lab, engine: Engine) -> None:
    with LiveExperiments(lab, engine, check_every=0.05) as live:
        assert (live.read, len(live.all), live.runs) == (True, 0, frozenset({"live"}))
        start(lab, engine)
        wait_for(lambda: "demo" in live.all)
        demo = live.all["demo"]
        assert demo.assign("u1", AT, {}, None).exposed
        assert demo.assign("u1", AT - 1, {}, None).rule == BEFORE
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE audit_log RENAME TO elsewhere"))
        wait_for(lambda: live.failure is not None)
        assert live.all["demo"] is demo
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_log"))
        with writing(engine) as connection:
            running.pause(connection, "demo", reason="why", by="ada", at=AT + 5)
        wait_for(lambda: live.all["demo"].running.paused)
        assert live.failure is None
        assert live.all["demo"].assign("u1", AT + 9, {}, None).rule == "paused"


def test_a_layer_gives_the_experiment_whose_slice_a_unit_falls_in(lab: Lab, engine: Engine) -> None:
    file = lab.folder / "experiments" / "demo.yaml"
    other = (lab.folder / "experiments" / "baselines.yaml").read_text()
    file.write_text(file.read_text().replace("slice: [0, 1]", "slice: [0, 0.5]"))
    assert "layer:" in other or "models" not in other
    start(lab, engine)
    with LiveExperiments(lab, engine) as live:
        found = [live.of_layer("models", f"u{number}") for number in range(1_000)]
        inside = sum(one is not None for one in found)
        assert 430 < inside < 570
        for number, one in enumerate(found):
            rule = live.all["demo"].assign(f"u{number}", AT, {}, None).rule
            assert (one is None) == (rule == "layer")
        assert live.has_layer("models")
        assert not live.has_layer("elsewhere")
        assert live.of_layer("elsewhere", "u1") is None


def test_who_may_keep_an_arm_that_nobody_can_tell_gets_the_default(lab: Lab, engine: Engine) -> None:
    start(lab, engine)
    ramp(engine, 1.0, {"recgpt": 1, "recgpt1": 1, "comirec": 4})
    with LiveExperiments(lab, engine) as live:
        demo = live.all["demo"]
        now = AT + DAY_MS
        assert not demo.looks_up(AT)
        assert demo.looks_up(now)
        kept = moved = 0
        for number in range(500):
            unit = f"u{number}"
            first = demo.assign(unit, AT, {}, None)
            fresh = demo.assign(unit, now, {}, None)
            blind = demo.assign(unit, now, {}, None, known=False)
            if first.arm == fresh.arm:
                kept += 1
                assert blind == fresh
            else:
                moved += 1
                assert blind == Assignment("popularity", False, UNKNOWN, 1, 1)
            stored = first._replace(rule="stored")
            assert demo.assign(unit, now, {}, stored) == stored
        assert min(kept, moved) > 100


def test_a_ramp_up_leaves_nobody_in_doubt(lab: Lab, engine: Engine) -> None:
    file = lab.folder / "experiments" / "demo.yaml"
    file.write_text(file.read_text().replace("traffic: 1.0", "traffic: 0.2"))
    start(lab, engine)
    ramp(engine, 0.8)
    with LiveExperiments(lab, engine) as live:
        demo = live.all["demo"]
        for number in range(300):
            unit = f"u{number}"
            fresh = demo.assign(unit, AT + DAY_MS, {}, None)
            assert demo.assign(unit, AT + DAY_MS, {}, None, known=False) == fresh
