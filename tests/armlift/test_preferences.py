"""Interleaved replays: drafts and credits against plain code over the tables, and what the report says."""

import csv
from collections import Counter, defaultdict
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from sqlalchemy import Engine, Table, select

from armlift.comparisons import Comparison
from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.metric import METRICS, Metric
from armlift.preferences import credits_compared, effect_of, sentence_of
from armlift.rendering.html import render
from armlift.rendering.text import print_report
from armlift.replay import replay
from armlift.replayer import NO_ARM, ReplayOptions
from armlift.report import Report, make_report
from armlift.reproduction import stored_report, take_report, verify
from armlift.runs import Run
from armlift.snapshots import named
from armlift.stats.aggregates import Aggregates
from armlift.stats.results import Rules
from armlift.store.database import open_database
from armlift.store.tables import exposures, feedback, impressions, unit_days
from armlift.streams.embedded import EmbeddedStream

LOG = GeneratorSettings(
    users=80,
    videos=120,
    days=2,
    sessions_per_day=2.0,
    rows_per_session=6.0,
    planted_lift=0.6,
    taste_drift=0.0,
    random_share=1.0,
)
K = 3
EXPERIMENT = """
name: {name}
arms: {{{arm}: 1, random: 1}}
control: random
layer: {{name: {name}}}
metrics:
  primary: [click_rate]
  secondary: [watch_time, clicks, likers]
  guardrails: [hate_rate]
replay: {{train_until: {cut}}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Make a lab with experiments of two arms: what was popular against chance, and chance against chance."""
    init_lab(tmp_path / "lab")
    arms, experiments = tmp_path / "lab" / "arms", tmp_path / "lab" / "experiments"
    text = (arms / "random.yaml").read_text()
    (arms / "dice.yaml").write_text(text.replace("name: random", "name: dice").replace("seed: 0", "seed: 5"))
    for name, arm, cut in (("planted", "popularity", "2022-04-09"), ("alike", "dice", "2022-04-08")):
        (experiments / f"{name}.yaml").write_text(EXPERIMENT.format(name=name, arm=arm, cut=cut))
    return Lab(tmp_path / "lab")


def log_of(lab: Lab, seed: int = 0) -> Path:
    path = lab.folder / f"log{seed}.csv"
    generate(LOG.model_copy(update={"seed": seed}), path)
    return path


def run_replay(lab: Lab, engine: Engine, log: Path, experiment: str) -> Run:
    with EmbeddedStream(lab.folder / "stream") as stream:
        options = ReplayOptions(mode="interleaved", k=K)
        return replay(lab, lab.experiment(experiment), open_log([log]), engine, stream, options)


@pytest.fixture
def engine(lab: Lab) -> Engine:
    return open_database(lab, create=True)


def of_run(engine: Engine, table: Table, run: Run) -> list[dict[str, object]]:
    with engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.run == run.run)).mappings()
        return [dict(row) for row in rows]


def primary_of(report: Report) -> Comparison:
    return next(one for one in report.comparisons if one.role == "primary")


def test_slates_are_drafted_and_credits_counted(lab: Lab, engine: Engine) -> None:
    log = log_of(lab)
    run = run_replay(lab, engine, log, "planted")
    assert (run.mode, run.paired, run.interleaved) == ("interleaved", True, True)
    shown = of_run(engine, impressions, run)
    met = Counter(str(row["unit_id"]) for row in of_run(engine, exposures, run))
    assert {*met.values()} == {2}, "each unit is exposed to both arms, once"
    by_request = defaultdict(list)
    for row in shown:
        by_request[row["request_id"]].append(row)
    with log.open() as rows:
        logged = {(row["user_id"], row["video_id"], int(row["time_ms"])): row for row in csv.DictReader(rows)}
    for request in by_request.values():
        items = [str(row["item_id"]) for row in request]
        assert len({*items}) == len(items) <= K
        teams = Counter(row["arm"] for row in request)
        assert {*teams} <= {"popularity", "random", NO_ARM}
        assert abs(teams["popularity"] - teams["random"]) <= 1
        assert sorted(int(str(row["position"])) for row in request) == list(range(len(request)))
    credits: dict[tuple[str, object], float] = defaultdict(float)
    plays: dict[tuple[str, object], float] = defaultdict(float)
    carriers = {str(row["unit_id"]) for row in shown if row["arm"] != NO_ARM}
    for row in shown:
        outcome = logged[str(row["unit_id"]), str(row["item_id"]), int(str(row["ts"]))]
        credits[str(row["unit_id"]), row["arm"]] += int(outcome["is_click"])
        plays[str(row["unit_id"]), row["arm"]] += int(outcome["play_time_ms"]) / 1000
    report = make_report(engine, run, lab.calendar)
    for metric, found, units in (
        ("click_rate", credits, carriers),
        ("watch_time", plays, carriers),
        ("clicks", credits, {*met}),
    ):
        own, other = (
            np.array([found[unit, arm] for unit in sorted(units)]) for arm in ("popularity", "random")
        )
        one = next(one for one in report.comparisons if one.metric == metric)
        assert (one.method, one.status, one.lift) == ("interleaved", "ok", None)
        assert (one.units, one.control_units) == (len(units), len(units))
        assert [one.mean, one.control_mean] == pytest.approx([own.mean(), other.mean()])
        assert one.preference == pytest.approx((own - other).sum() / (own + other).sum())
        assert one.p_value == pytest.approx(stats.ttest_rel(own, other).pvalue, rel=1e-6)
        assert one.preference is not None
        assert one.preference_low is not None
        assert one.preference_high is not None
        assert one.preference_low < one.preference < one.preference_high
    done = {(row["request_id"], row["item_id"]): row["arm"] for row in shown}
    assert all((row["request_id"], row["item_id"]) in done for row in of_run(engine, feedback, run))
    assert {row["arm"] for row in of_run(engine, unit_days, run)} == {"popularity", "random"}


def test_the_same_again_adds_nothing_and_a_snapshot_is_made_again(lab: Lab, engine: Engine) -> None:
    log = log_of(lab)
    first = run_replay(lab, engine, log, "planted")
    before = {table.name: of_run(engine, table, first) for table in (impressions, feedback, unit_days)}
    assert run_replay(lab, engine, log, "planted") == first
    assert "preference" in make_report(engine, first, lab.calendar).as_dict()["comparisons"][0]
    assert before == {t.name: of_run(engine, t, first) for t in (impressions, feedback, unit_days)}
    report = take_report(engine, first, lab.calendar)
    assert report.snapshot is not None
    with engine.connect() as connection:
        snapshot = named(connection, report.snapshot, None)
    assert verify(engine, snapshot).equal
    assert stored_report(snapshot).comparisons == report.comparisons


def test_the_planted_arm_is_preferred_and_chance_is_not(lab: Lab, engine: Engine) -> None:
    found: dict[str, list[Comparison]] = {"planted": [], "alike": []}
    for seed in range(8):
        log = log_of(lab, seed)
        for name, made in found.items():
            made.append(primary_of(make_report(engine, run_replay(lab, engine, log, name), lab.calendar)))
    planted = np.array([one.preference for one in found["planted"]], dtype=float)
    alike = np.array([one.preference for one in found["alike"]], dtype=float)
    assert planted.mean() > 4 * planted.std(ddof=1) / np.sqrt(8)
    assert sum((one.p_value or 1) < 0.05 for one in found["planted"]) >= 3
    assert abs(alike.mean()) < 4 * alike.std(ddof=1) / np.sqrt(8)
    assert sum((one.p_value or 1) < 0.05 for one in found["alike"]) <= 3


def test_the_report_says_who_is_preferred_and_no_lift(lab: Lab, engine: Engine) -> None:
    report = make_report(engine, run_replay(lab, engine, log_of(lab, 1), "planted"), lab.calendar)
    assert report.verdict.status == "cannot_tell"
    assert report.sentence.startswith("Users prefer popularity to random by click rate: preference +")
    assert report.sentence.endswith("; this is no lift.")
    assert report.verdict.why_not_ship == [
        "an interleaved run tells a preference, and no lift: an A/B test of the two arms would"
    ]
    statuses = {one.metric: one.status for one in report.comparisons}
    assert statuses["likers"] == statuses["hate_rate"] == "not_estimable"
    out = StringIO()
    print_report(report, Console(file=out, width=80))
    assert "Preference against the control" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80
    page = render(report)
    assert "Preference against random" in page
    assert "popularity: preference +" in page


def test_an_interleaved_replay_takes_two_arms(lab: Lab, engine: Engine) -> None:
    says = (
        "experiment baselines: has 3 arms, random, popularity, covisitation; an interleaved replay takes two"
    )
    with pytest.raises(InputError, match=says):
        run_replay(lab, engine, log_of(lab), "baselines")


def metric(direction: str = "increase") -> Metric:
    text = {"kind": "mean", "of": {"event": "click"}, "direction": direction}
    return METRICS.validate_python({"clicks": text})["clicks"]


def comparison(value: float, p: float) -> Comparison:
    unknown = dict.fromkeys(
        ("mean", "control_mean", "lift", "lift_low", "lift_high", "always_low", "always_high", "p_value")
    )
    return Comparison(
        metric="clicks",
        role="primary",
        arm="new",
        control="old",
        segment=None,
        method="interleaved",
        adjusted="holm",
        units=50,
        control_units=50,
        p_adjusted=p,
        status="ok",
        preference=value,
        preference_low=value - 0.1,
        preference_high=value + 0.1,
        **unknown,
    )


def test_sentences() -> None:
    interval = "preference +20.0% (between +10.0% and +30.0%)"
    assert (
        sentence_of(comparison(0.2, 0.01), metric(), 0.05) == f"users prefer new to old by clicks: {interval}"
    )
    less = sentence_of(comparison(0.2, 0.01), metric("decrease"), 0.05)
    assert less == f"users prefer old to new by clicks: {interval}"
    open_ = sentence_of(comparison(0.2, 0.2), metric(), 0.05)
    assert open_ == f"it is not sure that users prefer new or old by clicks: {interval}"


def test_too_few_units_tell_nothing() -> None:
    pairs = Aggregates.of(("num", "den", "control_num", "control_den"), np.eye(4)[:3])
    found = effect_of(credits_compared(pairs, Rules(min_units=30)))
    assert (found.method, found.status, found.n, found.units, found.p_value) == (
        "interleaved",
        "too_few",
        3,
        3,
        None,
    )
