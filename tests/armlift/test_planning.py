"""Plans from runs and from numbers, and reports that know their plan."""

from math import sqrt
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from statsmodels.stats.power import TTestIndPower

from armlift.aggregates import Question
from armlift.answers import Answers
from armlift.comparisons import compare_arms
from armlift.days import DAY_MS, Calendar
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.forecasts import arrivals_of
from armlift.metric import METRICS
from armlift.planning import Aim, Baseline, Plan, plan_given, plan_run
from armlift.report import Report, make_report
from armlift.runs import Run, begin, definition_of
from armlift.stats.results import Effect
from armlift.store.database import writing
from armlift.store.tables import exposures, impressions, unit_days

CALENDAR = Calendar("UTC")
FIRST = 19_000
METRIC_TEXT = {
    "clicks": {"kind": "mean", "of": {"event": "click"}},
    "rate": {
        "kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"},
        "direction": "decrease", "margin": 0.05,
    },
    "early": {"kind": "proportion", "window": "3d", "of": {"event": "click"}},
    "watch": {"kind": "mean", "of": {"event": "play"}},
}  # fmt: skip
METRICS_ASKED = METRICS.validate_python(METRIC_TEXT)


def experiment(**changed: Any) -> Experiment:
    plain: dict[str, Any] = {
        "name": "hand", "arms": {"old": 1, "new": 1}, "control": "old", "metrics": {"primary": ["clicks"]},
    }  # fmt: skip
    return Experiment.model_validate(plain | changed)


def store(
    engine: Engine, asked: Experiment, *, mode: str = "live", days: int = 10, a_day: int = 126, lift: int = 0
) -> Run:
    """Store a run to which the same number of units comes every day; arms differ by `lift` clicks a unit.

    Units click 1, 2 or 3 times; every sixth is shown nothing that `rate` counts.
    """
    last = (FIRST + days) * DAY_MS - 1
    run = Run(
        "run", 0, "hand", mode, False, 2, 0, "finished", False,
        definition_of(asked, {name: METRICS_ASKED[name] for name in asked.metrics.roles}),
        dict.fromkeys(asked.arms, "v"), {"last_ts": last, "kinds": ["click"]},
        {"rows": 1, "random_rows": 1, "compared": 0, "differing": 0, "differing_by_arm": {}}, {},
    )  # fmt: skip
    exposed, shown, did = [], [], []
    for n in range(days * a_day):
        day, unit = FIRST + n // a_day, f"u{n:06}"
        arm = list(asked.arms)[n % len(asked.arms)]
        clicks = 1 + n // 6 % 3 + (lift if arm == "new" else 0)
        event = {"request_day": day, "event_id": f"{n:032x}", "run": "run", "day": day, "ts": day * DAY_MS}
        event |= {"unit_id": unit, "arm": arm, "arm_version": "v", "fallback": False}
        exposed.append(event | {"experiment": "hand", "generation": 0, "phase": 0, "forced": False})
        place = {"item_id": "i", "position": 0, "step": 0, "score": 0.0, "propensity": 1.0}
        shown.append(event | place | {"request_id": f"{n:032x}"})
        for metric in asked.metrics.roles:
            row = {"run": "run", "experiment": "hand", "unit_id": unit, "day": day, "metric": metric}
            row |= {"side": "post", "arm": arm, "num": clicks, "den": 4 if n // 6 % 6 else 0, "num_sq": 0}
            did.append(row)
    with writing(engine) as connection:
        for table, rows in ((exposures, exposed), (impressions, shown), (unit_days, did)):
            connection.execute(insert(table), rows)
        return begin(connection, run)


def planned(engine: Engine, run: Run, aim: Aim) -> dict[str, Plan]:
    asked, metrics = run.parsed()
    at = int(str(run.log["last_ts"]))
    question = Question(run.run, "hand", run.paired, at, CALENDAR.day(at))
    with engine.connect() as connection:
        totals = Answers.from_database(connection, question, metrics)
        arrivals = arrivals_of(totals, question, CALENDAR)
        found = compare_arms(run, asked, metrics, totals)
        return {one.metric: one for one in plan_run(found, asked, metrics, totals, arrivals, aim)}


def needed_by_statsmodels(lift: float, mean: float, sd: float, comparisons: int = 1) -> float:
    size = TTestIndPower().solve_power(lift * mean / sd, alpha=0.05 / comparisons, power=0.8)
    return 2 * float(size)


def test_a_plan_equals_statsmodels(engine: Engine) -> None:
    found = planned(engine, store(engine, experiment()), Aim(0.05, days=10))["clicks"]
    assert (found.units, found.status, found.comparisons, found.control_mean) == (1260, "ok", 1, 2.0)
    sd = sqrt(2 / 3 * 630 / 629)
    expected = needed_by_statsmodels(0.05, 2.0, sd)
    assert found.units_needed == pytest.approx(expected, abs=2)
    assert found.all_units_needed == found.units_needed
    smallest = (1.959964 + 0.841621) * sd * sqrt(2 / 630) / 2
    assert found.smallest_lift == pytest.approx(smallest, rel=1e-6)
    assert found.reached is False
    assert found.wait is not None
    assert found.wait.status == "ok"
    assert found.wait.days == pytest.approx((expected - 1260) / 126, rel=0.25)
    assert found.smallest_later == pytest.approx(smallest / sqrt(2), rel=0.05)


def test_metrics_in_which_not_every_unit_counts(engine: Engine) -> None:
    """Five units in six have a denominator; units of the last two days are too young."""
    roles = {"primary": ["early", "clicks"], "secondary": ["watch"], "guardrails": ["rate"]}
    found = planned(engine, store(engine, experiment(metrics=roles)), Aim(0.02))
    rate = found["rate"]
    assert (rate.units, rate.lift, rate.comparisons) == (1050, 0.05, 1)
    assert rate.units_needed is not None
    assert rate.all_units_needed == pytest.approx(1.2 * rate.units_needed, abs=1)
    assert found["early"].status == "zero_variance"
    assert (found["early"].units_needed, found["early"].wait) == (None, None)
    assert found["early"].units == 126 * 8
    assert (found["clicks"].comparisons, found["watch"].status) == (2, "no_data")
    assert found["watch"].smallest_lift is None
    expected = needed_by_statsmodels(0.02, 2.0, sqrt(2 / 3 * 630 / 629), comparisons=2)
    assert found["clicks"].units_needed == pytest.approx(expected, abs=2)


def test_other_arms_take_units_too(engine: Engine) -> None:
    arms = {"old": 1, "new": 1, "other": 1}
    found = planned(engine, store(engine, experiment(arms=arms)), Aim(0.5))["clicks"]
    assert (found.units, found.comparisons, found.reached) == (840, 2, True)
    assert found.units_needed is not None
    assert found.all_units_needed == pytest.approx(1.5 * found.units_needed, abs=1)
    assert found.wait is not None
    assert (found.wait.status, found.wait.days) == ("reached", 0)


def report(engine: Engine, *, mode: str = "live", lift: int = 0, days: int = 10, **plan: Any) -> Report:
    run = store(engine, experiment(analysis=plan), mode=mode, lift=lift, days=days)
    return make_report(engine, run, CALENDAR)


def test_a_live_run_keeps_running_until_its_planned_units_are_there(engine: Engine) -> None:
    verdict = (found := report(engine, planned_units=2520)).verdict
    assert verdict.status == "keep_running"
    assert verdict.days_left == pytest.approx(10, abs=3)
    assert f"Keep running for about {verdict.days_left} more days: " in found.sentence
    assert found.as_dict()["verdict"]["days_left"] == verdict.days_left
    assert verdict.trace[-1].sentence.endswith(f"there are enough units in {verdict.days_left} days")


def test_the_smallest_lift_makes_a_plan_of_its_own(engine: Engine) -> None:
    verdict = report(engine, planned_units=1890, smallest_lift=0.05).verdict
    assert verdict.status == "keep_running"
    expected = (needed_by_statsmodels(0.05, 2.0, sqrt(2 / 3)) - 1260) / 126
    assert expected > 6  # the later of both is told
    assert verdict.days_left == pytest.approx(expected, rel=0.3)
    assert any("not enough units yet to find a lift of 5.0%" in one.sentence for one in verdict.trace)


def test_a_powered_run_without_the_lift_does_not_ship(engine: Engine) -> None:
    found = report(engine, planned_units=1260, smallest_lift=0.1)
    assert found.verdict.status == "do_not_ship"
    assert found.verdict.rule == "no_lift"
    assert found.verdict.days_left is None
    assert found.verdict.reasons[0].startswith("no lift of at least 10.0% is there to be found in clicks")


def test_a_plan_that_is_fulfilled_reads_plain_intervals(engine: Engine) -> None:
    found = report(engine, planned_units=1260, lift=1)
    assert found.verdict.status == "ship"
    assert any("at the planned number of units" in one.sentence for one in found.verdict.trace)


def test_a_replay_has_no_days_left(engine: Engine) -> None:
    found = report(engine, mode="rerank", planned_units=2520, smallest_lift=0.05)
    assert (found.verdict.status, found.verdict.days_left) == ("cannot_tell", None)


def test_too_few_days_leave_the_days_unknown(engine: Engine) -> None:
    found = report(engine, planned_units=2520, days=2)
    assert (found.verdict.status, found.verdict.days_left) == ("keep_running", None)


def test_pairs_are_planned_by_their_own_error(engine: Engine) -> None:
    """Where 600 pairs detect 4 %, four times as many detect 2 %."""
    run = store(engine, experiment())
    asked, metrics = run.parsed()
    question = Question("run", "hand", False, int(str(run.log["last_ts"])), FIRST + 9)
    with engine.connect() as connection:
        totals = Answers.from_database(connection, question, metrics)
        (one,) = compare_arms(run, asked, metrics, totals)
        pair = Effect.unknown("paired", "ok", alpha=0.05, n=600, control_n=600, control_mean=2.0)
        pair = type(pair)(**{**vars(pair), "standard_error": 2.0 * 0.04 / (1.959963985 + 0.841621234)})
        (found,) = plan_run([one._replace(effect=pair)], asked, metrics, totals, [400, 400, 400], Aim(0.02))
    assert found.smallest_lift == pytest.approx(0.04)
    assert found.units_needed == pytest.approx(2400, abs=1)
    assert (found.units, found.reached) == (600, False)


def test_a_plan_from_numbers_equals_statsmodels() -> None:
    (found,) = plan_given(experiment(), Baseline(2.0, 3.0, units_per_day=500.0), Aim(0.05, days=20))
    expected = needed_by_statsmodels(0.05, 2.0, 3.0)
    assert found.units_needed == pytest.approx(expected, abs=2)
    assert found.wait is not None
    assert found.wait.days == -(-int(expected) // 500)
    smallest = (1.959964 + 0.841621) * 3.0 * sqrt(2 / 5000) / 2.0
    assert found.smallest_later == pytest.approx(smallest, rel=1e-6)


def test_a_plan_from_numbers_knows_weights_and_comparisons() -> None:
    three = experiment(arms={"old": 2, "new": 1, "other": 1})
    found = plan_given(three, Baseline.of_rate(0.1), Aim(0.1))
    assert [one.arm for one in found] == ["new", "other"]
    assert [one.comparisons for one in found] == [2, 2]
    needed, wanted = found[0].units_needed, found[0].all_units_needed
    assert needed is not None
    assert wanted == -(-needed * 4 // 3)
    assert found[0].wait is None
    # Two proportions by the normal rule: units of the arm at a share of one in three.
    variance = 0.11 * 0.89 / (1 / 3) + 0.1 * 0.9 / (2 / 3)
    assert needed == pytest.approx((2.241403 + 0.841621) ** 2 * variance / 0.01**2, rel=0.002)
    later = experiment(phases=[{}, {"start": "2030-01-01", "weights": {"old": 0, "new": 1}}])
    with pytest.raises(InputError, match="weight 0"):
        plan_given(later, Baseline.of_rate(0.1), Aim(0.1))
