"""The simulate mode: what decides outcomes, what does not, and what it says of itself."""

from pathlib import Path

import pytest
from sqlalchemy import select

from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.logs.response_fit import fit_response
from armlift.rendering.html import render
from armlift.replay import replay
from armlift.replayer import ReplayOptions
from armlift.report import Report, make_report
from armlift.store.database import open_database
from armlift.store.tables import feedback, impressions, runs
from armlift.streams.embedded import EmbeddedStream

CUT = 1_649_520_000_000  # 2022-04-10 00:00 in Asia/Shanghai
SETTINGS = GeneratorSettings(
    users=120, videos=60, days=4, sessions_per_day=1.5, rows_per_session=6, random_share=1, taste_strength=0
)
EXPERIMENT = """
name: baselines
arms: {random: 1, popularity: 1}
control: random
metrics: {primary: [click_rate], secondary: [clicks, active_days, day_1_retention]}
replay: {train_until: 2022-04-10}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    (tmp_path / "lab" / "experiments" / "baselines.yaml").write_text(EXPERIMENT)
    return Lab(tmp_path / "lab")


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    generate(SETTINGS, path)
    return path


def run_simulate(lab: Lab, log: Path, *, paired: bool = True, k: int = 5) -> Report:
    engine = open_database(lab, create=True)
    with EmbeddedStream(lab.folder / "stream") as stream:
        options = ReplayOptions("simulate", paired, k, 0)
        run = replay(lab, lab.experiment("baselines"), open_log([log]), engine, stream, options)
    return make_report(engine, run, lab.calendar)


def shown(lab: Lab, report: Report) -> dict[tuple[str, int, str, str], tuple[object, ...]]:
    """Give by unit, time, item and arm the position and what the unit did."""
    i, f = impressions.c, feedback.c
    with open_database(lab).connect() as connection:
        rows = connection.execute(
            select(i.request_id, i.unit_id, i.ts, i.item_id, i.arm, i.position).where(i.run == report.run.run)
        ).all()
        did: dict[tuple[str, str], list[tuple[str, float]]] = {}
        for request, item, kind, value in connection.execute(
            select(f.request_id, f.item_id, f.kind, f.value).where(f.run == report.run.run)
        ):
            did.setdefault((request, item), []).append((kind, value))
    return {
        (unit, ts, item, arm): (position, *sorted(did.get((request, item), [])))
        for request, unit, ts, item, arm, position in rows
    }


def test_an_item_at_a_request_has_one_outcome_under_every_arm(lab: Lab, log_file: Path) -> None:
    found = shown(lab, run_simulate(lab, log_file, k=20))
    both = [
        (found[unit, ts, item, "random"][1:], found[unit, ts, item, "popularity"][1:])
        for unit, ts, item, arm in found
        if arm == "random" and (unit, ts, item, "popularity") in found
    ]
    assert len(both) > 500
    assert all(own == other for own, other in both)


def test_the_model_knows_only_rows_before_the_cut(lab: Lab, log_file: Path, tmp_path: Path) -> None:
    lines = log_file.read_text().splitlines()
    changed = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        if int(cells[4]) >= CUT:
            cells[5], cells[11] = str(1 - int(cells[5])), "0"
        changed.append(",".join(cells))
    other = tmp_path / "other.csv"
    other.write_text("\n".join(changed) + "\n")

    def of_popularity(log: Path) -> dict[tuple[str, int, str, str], tuple[object, ...]]:
        found = shown(lab, run_simulate(lab, log))
        return {place: what for place, what in found.items() if place[3] == "popularity"}

    first = of_popularity(log_file)
    assert len(first) > 1_000
    assert of_popularity(other) == first


def test_every_impression_counts_and_the_lift_is_that_of_the_model(lab: Lab, log_file: Path) -> None:
    report = run_simulate(lab, log_file)
    found = shown(lab, report)
    matched = {arm: sum(place[3] == arm for place in found) for arm in ("random", "popularity")}
    assert {arm: own["matched"] for arm, own in report.resolution["by_arm"].items()} == matched
    rate, clicks, days, back = report.comparisons
    assert (rate.status, clicks.status) == ("ok", "ok")
    assert (days.status, back.status) == ("not_estimable", "not_estimable")
    model = fit_response(open_log([log_file]), CUT, calendar=lab.calendar)
    sums = dict.fromkeys(matched, 0.0)
    units, items = (
        model.units_of([place[0] for place in found]),
        model.items_of([place[2] for place in found]),
    )
    chances = model.click_chances(units, items)
    for (_, _, _, arm), chance in zip(found, chances.tolist(), strict=True):
        sums[arm] += chance
    expected = (sums["popularity"] / matched["popularity"]) / (sums["random"] / matched["random"]) - 1
    assert rate.lift_low is not None
    assert rate.lift_high is not None
    assert rate.lift_low < expected < rate.lift_high
    assert expected > 0.1


def test_it_says_whose_the_lift_is(lab: Lab, log_file: Path, tmp_path: Path) -> None:
    report = run_simulate(lab, log_file)
    check = next(check for check in report.checks if check.name == "random_exposure")
    assert (check.status, check.value) == ("ok", 1.0)
    assert "the lift is the model's, not the log's" in check.meaning
    assert report.sentence.startswith("In a model of users, ")
    assert "MODELLED OUTCOMES" in render(report)
    other = tmp_path / "policy.csv"
    generate(SETTINGS.model_copy(update={"random_share": 0.5}), other)
    report = run_simulate(lab, other)
    check = next(check for check in report.checks if check.name == "random_exposure")
    assert check.status == "warn"
    assert "% of the rows the model was fitted on were shown at random: lifts may be" in check.meaning
    assert report.verdict.status == "cannot_tell"
    assert report.verdict.reasons[0] == (
        "the model learned from exposure that is not random, so its lift may be biased"
    )


def test_nothing_before_the_cut_is_an_error(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    generate(SETTINGS.model_copy(update={"days": 1, "first_day": SETTINGS.first_day.replace(day=10)}), path)
    with pytest.raises(InputError, match=r"day.csv: has no row before 2022-04-.* to fit a response model on"):
        run_simulate(lab, path)
    with open_database(lab).connect() as connection:
        assert connection.execute(select(runs.c.run)).all() == []
