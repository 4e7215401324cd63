"""Trust checks, and what a report says of runs that fail them."""

from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Engine, insert

from armlift.days import DAY_MS
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
from armlift.report import Report, make_report
from armlift.runs import Run, Subjects, begin, definition_of
from armlift.store.database import open_database, writing
from armlift.store.tables import models
from armlift.streams.embedded import EmbeddedStream

TS = 1_650_000_000_000
EXPERIMENT = """
name: hand
arms: {old: 1, new: 1}
control: old
metrics: {primary: [click_rate], secondary: [clicks, likers, active_days, follow_rate]}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "lab"
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "hand.yaml").write_text(EXPERIMENT)
    for arm in ("old", "new"):
        (folder / "arms" / f"{arm}.yaml").write_text(f"name: {arm}\nmodel: random\n")
    return Lab(folder)


@pytest.fixture
def engine(lab: Lab) -> Engine:
    return open_database(lab, create=True)


def unit_events(unit: str, arm: str, *, shown: int = 2, clicks: int = 1, forced: bool = False) -> list[Event]:
    """Give a unit's exposure, its impressions and its clicks."""
    request = request_identity(TS, f"{unit}|{arm}")
    exposure = exposure_identity(TS, "run", unit, "hand", arm)
    events: list[Event] = [Exposure(exposure, "run", TS, unit, "hand", 0, 0, arm, "v", forced)]
    for item in map(str, range(shown)):
        what = (request, unit, arm, "v", item, int(item), 0, 0.0, 1.0)
        events.append(Impression(impression_identity(request, item), "run", TS, *what))
    for item in map(str, range(clicks)):
        identity = feedback_identity(request, item, "click", 0)
        events.append(Feedback(identity, "run", TS, request, unit, item, "click", 1.0))
    return events


def report_of(
    lab: Lab,
    engine: Engine,
    messages: list[list[Event]],
    *,
    random_rows: int | None = 100,
    mode: str = "rerank",
    arrived: int = TS,
) -> Report:
    """Store a run and its events as a replay does, and report it."""
    experiment = lab.experiment("hand")
    log = {"last_ts": TS, "kinds": ["click", "like"]}
    compared = {"compared": 10, "differing": 5, "differing_by_arm": {"new": 5}}
    run = Run(
        "run", 0, "hand", mode, False, 2, 0, "finished", False,
        definition_of(experiment, lab.metrics_of(experiment)), {"old": "v", "new": "v"}, log,
        {**compared, "rows": 100, "random_rows": random_rows}, {},
    )  # fmt: skip
    with writing(engine) as connection:
        stored = begin(connection, run)
    codec = Codec(lab.settings.kinds.names)
    with EmbeddedStream(lab.folder / "stream") as stream:
        for events in messages:
            stream.publish(events[0].unit_id, codec.encode(events))
        stream.flush()
        Ingester(engine, stream, codec, lab.calendar, Subjects(), clock=lambda: arrived).drain()
    return make_report(engine, stored, lab.calendar)


def statuses(report: Report) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def split(old: int, new: int) -> list[list[Event]]:
    return [unit_events(f"o{n}", "old", clicks=n % 3) for n in range(old)] + [
        unit_events(f"n{n}", "new", clicks=n % 2) for n in range(new)
    ]


def test_a_fair_run_passes(lab: Lab, engine: Engine) -> None:
    report = report_of(lab, engine, split(60, 55))
    assert statuses(report) == {
        "random_exposure": "ok", "srm": "ok", "srm_always_valid": "ok", "several_exposures": "ok",
        "exclusions": "not_applicable", "pre_exposure_bias": "no_data", "heavy_tails": "ok",
        "event_loss": "ok", "fallbacks": "ok", "stale_model": "not_applicable", "symbiosis": "not_applicable",
        "lateness": "not_applicable", "merged_ids": "not_applicable",
    }  # fmt: skip
    by_metric = {one.metric: one for one in report.comparisons}
    assert by_metric["click_rate"].units == 55
    assert by_metric["click_rate"].mean == pytest.approx(27 / 110)
    assert by_metric["clicks"].control_mean == pytest.approx(1.0)
    assert by_metric["likers"].status == "zero_variance"
    assert by_metric["active_days"].status == "not_estimable"
    assert by_metric["follow_rate"].status == "no_data"
    assert by_metric["follow_rate"].mean is None


RULES = "analysis: {exclusions: {bots: {metric: shown, above: 9, per: day}}}\n"


def with_rules(lab: Lab) -> Lab:
    own = lab.folder / "experiments" / "hand.yaml"
    own.write_text(own.read_text() + RULES)
    metrics = lab.folder / "metrics.yaml"
    metrics.write_text(metrics.read_text() + "\nshown: {kind: mean, of: {event: impression}}\n")
    return Lab(lab.folder)


def test_rules_leave_out_units_and_say_how_many(lab: Lab, engine: Engine) -> None:
    bots = [unit_events(f"{arm}{n}", arm, shown=10, clicks=9) for n in range(4) for arm in ("old", "new")]
    report = report_of(with_rules(lab), engine, split(60, 55) + bots)
    assert report.dropped["unit_excluded_bots"] == 8
    clicks = next(one for one in report.comparisons if one.metric == "clicks")
    assert (clicks.units, clicks.control_units, clicks.control_mean) == (55, 60, 1.0)
    assert "shown" not in {one.metric for one in report.comparisons}
    check = next(check for check in report.checks if check.name == "exclusions")
    assert check.status == "ok"
    assert check.value == pytest.approx(8 / 123)
    assert check.meaning.startswith("units that the rules leave out, 4 : 4 by arm")


def test_rules_that_leave_out_more_of_one_arm_break_the_run(lab: Lab, engine: Engine) -> None:
    bots = [unit_events(f"bot{n}", "new", shown=10) for n in range(20)]
    report = report_of(with_rules(lab), engine, split(60, 50) + bots)
    assert statuses(report) | {"srm": "ok", "exclusions": "fail"} == statuses(report)
    assert report.verdict.status == "broken"
    assert "the rules leave out more users of one group than of another" in report.sentence


def test_heavy_tails_ask_for_more_units(lab: Lab, engine: Engine) -> None:
    whale = [unit_events("whale", "new", shown=100, clicks=100)]
    report = report_of(lab, engine, split(60, 55) + whale)
    check = next(check for check in report.checks if check.name == "heavy_tails")
    assert check.status == "warn"
    assert check.meaning.startswith("most of all click_rate of new, of skewness ")
    assert check.meaning.endswith("there are 56; its interval misses more often than it says")
    assert report.verdict.status != "broken"


def test_a_skewed_split_is_broken(lab: Lab, engine: Engine) -> None:
    report = report_of(lab, engine, split(120, 50))
    assert statuses(report)["srm"] == "fail"
    assert report.verdict.status == "broken"
    assert report.verdict.reasons[0].startswith("check srm failed: the arms hold 120 : 50 units")


def test_a_live_split_is_off_only_where_it_is_at_every_look(lab: Lab, engine: Engine) -> None:
    """Daily looks at the plain test raise many an alarm; the other one decides."""
    report = report_of(lab, engine, split(155, 95), mode="live")
    found = {check.name: check for check in report.checks}
    assert found["srm"].value is not None
    assert found["srm"].value < 0.001
    assert (found["srm"].status, found["srm_always_valid"].status) == ("warn", "ok")
    report = report_of(lab, engine, [unit_events(f"x{n}", "old") for n in range(200)], mode="live")
    assert statuses(report)["srm_always_valid"] == "fail"
    assert report.verdict.status == "broken"


@pytest.mark.parametrize(("before", "status"), [(1, "ok"), (3, "fail")])
def test_arms_that_differed_before_exposure(lab: Lab, engine: Engine, before: int, status: str) -> None:
    """On the day before, all clicked one item, and units of the old arm were shown more of them."""

    def past(unit: str, shown: int) -> list[Event]:
        request = request_identity(TS - DAY_MS, unit)
        click = feedback_identity(request, "0", "click", 0)
        events: list[Event] = [Feedback(click, "run", TS - DAY_MS, request, unit, "0", "click", 1.0)]
        for place in range(shown):
            what = (request, unit, "old", "v", str(place), place, 0, 0.0, 1.0)
            events.append(Impression(impression_identity(request, str(place)), "run", TS - DAY_MS, *what))
        return events

    rows = [past(f"o{n}", before + n % 2) for n in range(60)] + [past(f"n{n}", 1 + n % 2) for n in range(55)]
    report = report_of(lab, engine, [*split(60, 55), *rows])
    check = next(check for check in report.checks if check.name == "pre_exposure_bias")
    assert check.status == status
    assert check.meaning.startswith("before first exposure click_rate of new differs most")
    assert (report.verdict.status == "broken") == (status == "fail")


@pytest.mark.parametrize(("age", "status"), [(1, "ok"), (3, "warn"), (20, "fail")])
def test_models_that_learned_long_ago(lab: Lab, engine: Engine, age: int, status: str) -> None:
    assert statuses(report_of(lab, engine, split(60, 55), mode="live"))["stale_model"] == "no_data"
    model = {"scope": "*", "state": "promoted", "data_hash": "h", "definition_hash": "d", "version": "v"}
    with writing(engine) as connection:
        for arm, days in (("old", 0), ("new", age)):
            connection.execute(insert(models).values(arm=arm, data_until=TS - days * DAY_MS, **model))
    check = next(
        check for check in report_of(lab, engine, [], mode="live").checks if check.name == "stale_model"
    )
    assert (check.status, check.value) == (status, age)
    assert f"the model of new answered {age:.1f} days after" in check.meaning


@pytest.mark.parametrize(("training", "status"), [("pooled", "warn"), ("own", "ok")])
def test_arms_that_learn_from_each_other(lab: Lab, engine: Engine, training: str, status: str) -> None:
    path = lab.folder / "experiments" / "hand.yaml"
    path.write_text(f"{EXPERIMENT}training_data: {training}\n")
    assert statuses(report_of(Lab(lab.folder), engine, split(60, 55), mode="live"))["symbiosis"] == status


def test_shares_of_few_events_are_not_compared(lab: Lab, engine: Engine) -> None:
    """Nine likers in an arm of 55 are too few for a share to be close to normal, ten are not."""

    def likes(unit: str) -> Event:
        request = request_identity(TS, f"{unit}|{'old' if unit[0] == 'o' else 'new'}")
        identity = feedback_identity(request, "0", "like", 0)
        return Feedback(identity, "run", TS, request, unit, "0", "like", 1.0)

    rows = [[likes(f"o{n}")] for n in range(20)] + [[likes(f"n{n}")] for n in range(9)]
    report = report_of(lab, engine, [*split(60, 55), *rows])
    likers = next(one for one in report.comparisons if one.metric == "likers")
    assert (likers.status, likers.p_value) == ("too_few", None)
    assert likers.mean == pytest.approx(9 / 55)
    report = report_of(lab, engine, [[likes("n9")]])
    assert next(one for one in report.comparisons if one.metric == "likers").status == "ok"


def test_units_of_several_arms_are_left_out_and_counted(lab: Lab, engine: Engine) -> None:
    both = [unit_events("both", arm) for arm in ("old", "new")]
    report = report_of(lab, engine, [*split(60, 55), *both])
    assert statuses(report)["several_exposures"] == "ok"
    assert report.dropped["unit_several_arms"] == 1
    assert report.comparisons[0].units == 55
    many = [unit_events(f"b{n}", arm) for n in range(20) for arm in ("old", "new")]
    again = report_of(lab, engine, many)
    assert statuses(again)["several_exposures"] == "fail"
    assert again.verdict.status == "broken"


def test_forced_units_are_left_out_and_counted(lab: Lab, engine: Engine) -> None:
    forced = [unit_events(f"f{n}", "new", forced=True) for n in range(70)]
    report = report_of(lab, engine, [*split(60, 55), *forced])
    assert report.dropped["unit_forced"] == 70
    assert statuses(report)["srm"] == "ok"
    assert report.comparisons[0].units == 55


@pytest.mark.parametrize(("lost", "status"), [(1, "ok"), (4, "warn"), (40, "fail")])
def test_exposed_units_without_an_impression(lab: Lab, engine: Engine, lost: int, status: str) -> None:
    gone = [unit_events(f"g{n}", "old" if n % 2 else "new", shown=0, clicks=0) for n in range(lost)]
    report = report_of(lab, engine, [*split(60, 60), *gone])
    assert statuses(report)["event_loss"] == status


def test_exposure_that_is_not_random_warns(lab: Lab, engine: Engine) -> None:
    assert statuses(report_of(lab, engine, split(60, 55), random_rows=99))["random_exposure"] == "warn"
    assert statuses(report_of(lab, engine, [], random_rows=None))["random_exposure"] == "warn"


def test_too_few_units(lab: Lab, engine: Engine) -> None:
    report = report_of(lab, engine, split(3, 2))
    assert {one.status for one in report.comparisons} == {"too_few", "not_estimable", "no_data"}
    assert statuses(report)["srm"] == "no_data"
    assert "3 : 2 units" in next(check.meaning for check in report.checks if check.name == "srm")


def alias(anonymous: str, unit: str, ts: int = TS) -> list[Event]:
    return [Alias(alias_identity(ts, "run", anonymous, unit), "run", ts, unit, anonymous)]


def test_a_merged_unit_counts_once_and_not_at_all_when_it_met_two_arms(lab: Lab, engine: Engine) -> None:
    # o0 and o1 are one unit of the old arm, n0 was o2 before: it met both.
    merges = [alias("o1", "o0"), alias("n0", "o2")]
    report = report_of(lab, engine, [*merges, *split(60, 55)])
    clicks = {one.metric: one for one in report.comparisons}["clicks"]
    assert (clicks.control_units, clicks.units) == (58, 54)
    assert clicks.control_mean == pytest.approx((60 - 2) / 58)
    assert report.dropped["unit_several_arms"] == 1
    check = next(check for check in report.checks if check.name == "merged_ids")
    assert (check.status, check.value) == ("ok", 0.0)


@pytest.mark.parametrize(
    ("disputed", "status"),
    [
        ([], "ok"),
        ([("a0", "o9")], "fail"),  # claimed by two
        ([("o0", "o9")], "fail"),  # its unit is merged itself
    ],
)
def test_ids_in_doubt_are_counted(
    lab: Lab, engine: Engine, disputed: list[tuple[str, str]], status: str
) -> None:
    merges = [alias("a0", "o0"), alias("a0", "o0", TS + 1), alias("a1", "o1")]
    merges += [alias(anonymous, unit) for anonymous, unit in disputed]
    report = report_of(lab, engine, [*split(60, 55), *merges])
    check = next(check for check in report.checks if check.name == "merged_ids")
    assert check.status == status
    ids = len({"a0", "a1", *(anonymous for anonymous, _ in disputed)})
    assert check.value == pytest.approx(len(disputed) / ids)


@pytest.mark.parametrize(
    ("days_later", "late", "complete"), [(0, 0, "2022-04-12"), (2, 0, "2022-04-14"), (3, 1, "2022-04-15")]
)
def test_live_runs_tell_late_events_and_which_days_are_complete(
    lab: Lab, engine: Engine, days_later: int, late: float, complete: str
) -> None:
    """All events are of 2022-04-15, 13:20, and come some days later; two days are in time."""
    report = report_of(lab, engine, split(60, 55), mode="live", arrived=TS + days_later * DAY_MS)
    check = next(check for check in report.checks if check.name == "lateness")
    assert (check.status, check.value) == ("warn", late)
    assert f"Days up to {complete} are complete" in check.meaning
    assert ("may still grow" in check.meaning) == (complete < "2022-04-15")


def test_a_live_run_in_time_is_ok(lab: Lab, engine: Engine) -> None:
    report_of(lab, engine, split(60, 55), mode="live")
    later = TS + 3 * DAY_MS
    request = request_identity(later, "o1")
    identity = feedback_identity(request, "v", "click", 0)
    other: list[Event] = [Feedback(identity, "run", later, request, "o1", "v", "click", 1.0)]
    report = report_of(lab, engine, [other], mode="live", arrived=later)
    assert statuses(report)["lateness"] == "ok"


def test_a_live_run_without_events_has_no_lateness(lab: Lab, engine: Engine) -> None:
    assert statuses(report_of(lab, engine, [], mode="live"))["lateness"] == "no_data"


@pytest.mark.parametrize(
    ("replaced", "mode", "status"),
    [(0, "live", "ok"), (2, "live", "warn"), (2, "rerank", "warn"), (10, "live", "fail")],
)
def test_an_arm_that_another_one_answered_for_is_told(
    lab: Lab, engine: Engine, replaced: int, mode: str, status: str
) -> None:
    """Of 55 units of an arm, so many met the fallback."""
    messages = split(60, 55)
    for number in range(60, 60 + replaced):
        messages[number] = [
            event if isinstance(event, Feedback) else structs.replace(event, fallback=True)
            for event in messages[number]
        ]
    report = report_of(lab, engine, messages, mode=mode)
    check = next(check for check in report.checks if check.name == "fallbacks")
    assert check.status == status
    assert check.value == pytest.approx(replaced / 55)
    if replaced:
        assert f"in the arm's name: {replaced / 55:.1%} of new's" in check.meaning
        assert "old" not in check.meaning
    assert (report.verdict.status == "broken") == (
        status == "fail" and "fallbacks" in report.verdict.reasons[0]
    )
