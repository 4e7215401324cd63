"""Nights of an arm: what each came to, however often its steps were tried."""

from typing import Any

from sqlalchemy import Engine

from armlift_dashboards.arm_nights import FIGURES, ArmNight, figures_of, newest_run, nights
from armlift_pipelines.job_runs import FAILED, SUCCEEDED, JobRun, Key, Record

GATE: dict[str, Any] = {"passed": True, "reasons": []}
REFUSED: dict[str, Any] = {"passed": False, "reasons": ["too slow", "worse"]}
LIFT = {"status": "ok", "lift": 0.1, "low": -0.1, "high": 0.3, "difference": 0.05}


def begun(
    engine: Engine, night: str, step: str, *, arm: str = "mine", run: str = "live", **inputs: Any
) -> JobRun:
    key = Key("nightly", f"{run}/{night}", step, arm, "*" if arm else "")
    return Record(engine).begin(key, inputs)


def done(engine: Engine, night: str, step: str, outputs: dict[str, Any], **inputs: Any) -> None:
    Record(engine).end(begun(engine, night, step, **inputs), SUCCEEDED, outputs)


def failed(engine: Engine, night: str, step: str, **inputs: Any) -> None:
    Record(engine).end(begun(engine, night, step, **inputs), FAILED, {}, "it broke")


def evaluated(engine: Engine, night: str, value: float, **inputs: Any) -> None:
    found = {
        "asked": 12,
        "metrics": {"HR@10": value},
        "promoted": {"HR@10": 0.5},
        "compared": {"HR@10": LIFT},
    }
    done(engine, night, "retrain", {"candidate": "new"}, **inputs)
    done(engine, night, "evaluate", {"evaluation": found}, candidate="new", parent="old", **inputs)


def read(engine: Engine, arm: str = "mine", scope: str = "*") -> dict[str, ArmNight]:
    with engine.connect() as connection:
        found = nights(connection, arm, scope)
    assert [one.night for one in found if one.run == "live"] == sorted(
        one.night for one in found if one.run == "live"
    )
    return {one.night: one for one in found}


def test_nights_say_what_became_of_each_candidate(engine: Engine) -> None:
    evaluated(engine, "2022-04-20", 0.6)
    done(engine, "2022-04-20", "gate", GATE)
    done(engine, "2022-04-20", "promote", {"serving": "new", "promoted": True})
    evaluated(engine, "2022-04-21", 0.4)
    done(engine, "2022-04-21", "gate", REFUSED)
    done(engine, "2022-04-21", "promote", {"serving": "old", "promoted": False})
    evaluated(engine, "2022-04-22", 0.5)
    failed(engine, "2022-04-22", "gate")
    failed(engine, "2022-04-23", "retrain")
    begun(engine, "2022-04-24", "retrain")
    evaluated(engine, "2022-04-25", 0.5)
    evaluated(engine, "2022-04-26", 0.5)
    done(engine, "2022-04-26", "gate", GATE)
    found = read(engine)
    assert {night: (one.state, one.why) for night, one in found.items()} == {
        "2022-04-20": ("promoted", ""),
        "2022-04-21": ("refused", "too slow; worse"),
        "2022-04-22": ("failed", "gate: it broke"),
        "2022-04-23": ("failed", "retrain: it broke"),
        "2022-04-24": ("running", ""),
        "2022-04-25": ("trained", ""),
        "2022-04-26": ("passed", ""),
    }
    assert found["2022-04-21"][3:9] == ("new", "old", 12, {"HR@10": 0.4}, {"HR@10": 0.5}, {"HR@10": LIFT})
    assert found["2022-04-23"][3:9] == (None, None, 0, {}, {}, {})
    assert read(engine, "other") == {}
    assert read(engine, scope="demo") == {}


def test_the_last_attempt_counts(engine: Engine) -> None:
    failed(engine, "2022-04-20", "build_dataset", arm="")
    failed(engine, "2022-04-20", "retrain")
    evaluated(engine, "2022-04-20", 0.6)
    done(engine, "2022-04-20", "gate", GATE)
    assert read(engine)["2022-04-20"].state == "passed"


def test_a_night_without_data_failed_for_every_arm_of_its_run(engine: Engine) -> None:
    evaluated(engine, "2022-04-20", 0.6)
    failed(engine, "2022-04-21", "build_dataset", arm="")
    failed(engine, "2022-04-21", "build_dataset", arm="", run="elsewhere")
    found = read(engine)
    assert {night: (one.run, one.state, one.why) for night, one in found.items()} == {
        "2022-04-20": ("live", "trained", ""),
        "2022-04-21": ("live", "failed", "build_dataset: it broke"),
    }


def test_figures_are_those_that_nights_have(engine: Engine) -> None:
    evaluated(engine, "2022-04-20", 0.6)
    evaluated(engine, "2022-04-19", 0.6, run="rehearsed")
    with engine.connect() as connection:
        found = nights(connection, "mine", "*")
    assert newest_run(found) == "live"
    assert [one.run for one in found] == ["live", "rehearsed"]
    odd = found[0]._replace(
        metrics={"HR@10": 0.1, "mine@7": 0.2, "rerank_NDCG@10": 0.3}, before={"milliseconds": 1.0}
    )
    assert [one.name for one in figures_of([odd])] == ["rerank_NDCG@10", "HR@10", "milliseconds", "mine@7"]
    assert figures_of([]) == []
    assert len({one.name for one in FIGURES}) == len(FIGURES)
