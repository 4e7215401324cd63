"""The guard finds what is surely wrong, by the tests of reports, and acts on it once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_guard import answers_of
from guarded import HOUR, SHOWN, START, make_lab, start_all
from sqlalchemy import Engine, select

from armlift import running
from armlift.answers import Answers
from armlift.guard import Act, Breach, act, inspect, judge
from armlift.lab import Lab
from armlift.nightly import MonitorSettings
from armlift.running import RunningExperiment
from armlift.runs import Run
from armlift.store.database import reading, scratch, writing
from armlift.store.tables import audit_log

HARM = Breach("guardrail", "one", "new", "click_rate", "clicks fell", {})
SPLIT = Breach("srm", "one", None, None, "the split is off", {})
ERRORS = Breach("error_rate", "one", "new", None, "half are fallbacks", {})


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path / "lab")


@pytest.fixture
def one(lab: Lab) -> tuple[RunningExperiment, Run]:
    """Give a started experiment and its run; its database is not needed any more."""
    with scratch() as engine:
        start_all(lab, engine)
        with reading(engine) as connection:
            (found,) = running.running(connection)
            run = running.run_of(connection, found)
    return found, run


def units(n: int, rate: float) -> Any:
    """Give the clicks of n units, of which this share clicks on everything and the others on nothing."""
    clicks = np.zeros(n)
    clicks[: round(n * rate)] = SHOWN
    return clicks


def judged(one: tuple[RunningExperiment, Run], answers: Answers, **settings: Any) -> list[Breach]:
    return judge(*one, answers, MonitorSettings(**settings))


def test_a_guardrail_surely_past_its_margin_is_a_breach(one: tuple[RunningExperiment, Run]) -> None:
    (found,) = judged(one, answers_of({"old": units(1000, 0.5), "new": units(1000, 0.4)}))
    assert (found.kind, found.arm, found.metric) == ("guardrail", "new", "click_rate")
    low, high = found.details["low"], found.details["high"]
    assert low < found.details["lift"] < high < -0.02
    assert found.details["lift"] == pytest.approx(-0.2, abs=0.001)
    assert found.text == (
        "one, arm new: guardrail click_rate is past its margin of 2.0%: "
        f"-20.0% [{low:+.1%}, {high:+.1%}] against old, with 1,000 and 1,000 units"
    )


def test_what_may_be_within_the_margin_is_none(one: tuple[RunningExperiment, Run]) -> None:
    assert judged(one, answers_of({"old": units(1000, 0.5), "new": units(1000, 0.495)})) == []
    assert judged(one, answers_of({"old": units(1000, 0.4), "new": units(1000, 0.5)})) == [], "it is better"
    few = answers_of({"old": units(99, 0.9), "new": units(99, 0.3)})
    assert judged(one, few) == []
    assert len(judged(one, few, minimum_units=99)) == 1


def test_a_lower_alpha_asks_for_more(one: tuple[RunningExperiment, Run]) -> None:
    answers = answers_of({"old": units(500, 0.5), "new": units(500, 0.4)})
    (loose,) = judged(one, answers, guardrail_alpha=0.4)
    assert judged(one, answers, guardrail_alpha=1e-12) == []
    assert loose.details["alpha"] == 0.4


@pytest.mark.parametrize(
    ("held", "breached"),
    [((500, 500), False), ((540, 460), False), ((600, 400), True), ((600, 0), True), ((120, 0), False)],
)
def test_the_split_is_judged_by_the_units_promised(
    one: tuple[RunningExperiment, Run], held: tuple[int, int], breached: bool
) -> None:
    same = units(50, 0.5)
    found = judged(one, answers_of({"old": same, "new": same}, held))
    assert [breach.kind for breach in found] == ["srm"] * breached
    if breached:
        promised = sum(held) / 2
        assert found[0].details["expected"] == [promised, promised]
        assert f"hold {held[0]} : {held[1]} units where the weights promise {promised:g} : " in found[0].text
        assert (found[0].arm, found[0].metric) == (None, None)


def test_without_guardrails_or_events_nothing_is_found(lab: Lab, engine: Engine) -> None:
    path = lab.folder / "experiments" / "one.yaml"
    path.write_text(path.read_text().replace(", guardrails: [click_rate]", ""))
    start_all(lab, engine)
    with reading(engine) as connection:
        (one,) = running.running(connection)
        run = running.run_of(connection, one)
    assert inspect(engine, one, run, lab.calendar, MonitorSettings(), START + HOUR) == []


def acted(engine: Engine, breaches: list[Breach], action: str = "pause", at: int = START + 9) -> list[Act]:
    with writing(engine) as connection:
        return act(connection, breaches, action, at=at)


def state(engine: Engine) -> RunningExperiment:
    with reading(engine) as connection:
        found = running.find(connection, "one")
    assert found is not None
    return found


def test_it_pauses_once_and_says_why(lab: Lab, engine: Engine) -> None:
    start_all(lab, engine)
    assert acted(engine, []) == acted(engine, [HARM], "alert") == []
    assert acted(engine, [HARM, SPLIT]) == [Act("one", "pause", "clicks fell")]
    assert state(engine).state == "paused"
    assert acted(engine, [HARM, SPLIT]) == []
    with reading(engine) as connection:
        rows = connection.execute(select(audit_log).order_by(audit_log.c.number)).all()
    assert [(row.by, row.action) for row in rows] == [("ada", "start"), ("monitor", "pause")]
    assert rows[1].at == START + 9
    assert rows[1].details["reason"] == "clicks fell"
    assert rows[1].details["breaches"] == [["guardrail", "new", "click_rate"], ["srm", None, None]]


def test_what_people_went_on_with_is_not_stopped_again(lab: Lab, engine: Engine) -> None:
    start_all(lab, engine)
    acted(engine, [HARM, ERRORS])
    with writing(engine) as connection:
        running.resume(connection, "one", reason="we know", by="ada", at=START + 20)
    assert acted(engine, [HARM]) == []
    assert acted(engine, [HARM, SPLIT]) == [Act("one", "pause", "the split is off")]
    with writing(engine) as connection:
        running.resume(connection, "one", reason="mended", by="ada", at=START + 30)
    assert acted(engine, [HARM, SPLIT]) == []
    assert acted(engine, [ERRORS]) == [Act("one", "pause", "half are fallbacks")], "errors come anew"


def test_it_ramps_down_once(lab: Lab, engine: Engine) -> None:
    start_all(lab, engine)
    assert acted(engine, [HARM], "ramp_down") == [Act("one", "ramp_down", "clicks fell")]
    one = state(engine)
    assert (one.state, [phase.traffic for phase in one.experiment.phases]) == ("running", [1.0, 0.0])
    assert acted(engine, [HARM, SPLIT], "ramp_down") == []
    with writing(engine) as connection:
        running.ramp(connection, "one", 0.5, reason="we know", by="ada", at=START + 20)
    assert acted(engine, [HARM], "ramp_down", START + 30) == []
    assert len(acted(engine, [HARM, SPLIT], "ramp_down", START + 30)) == 1


def test_what_is_stopped_or_unknown_is_left_alone(lab: Lab, engine: Engine) -> None:
    start_all(lab, engine)
    with writing(engine) as connection:
        running.stop(connection, "one", reason="enough", by="ada", at=START + 1)
    assert acted(engine, [HARM, HARM._replace(experiment="two")]) == []
    assert state(engine).state == "stopped"
