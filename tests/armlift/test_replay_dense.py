"""The dense mode on generated matrices: against NumPy over the arrays, against the truth, thinned out."""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_matrix import DAY_MS, FIRST, DenseMatrix, write_matrix
from rich.console import Console
from scipy import stats
from sqlalchemy import select

from armlift.lab import Lab, init_lab
from armlift.logs.reader import open_log
from armlift.rendering.html import render
from armlift.rendering.text import print_report
from armlift.replay import replay
from armlift.replayer import ReplayOptions
from armlift.report import Report, make_report
from armlift.splitter import assign_many
from armlift.store.database import open_database
from armlift.store.tables import impressions
from armlift.streams.embedded import EmbeddedStream
from armlift.training import Trainer

CUT = FIRST + 5 * DAY_MS
ARMS = {"old": "[play]", "new": "[long_view]"}
EXPERIMENT = """
name: matrix
layer: {name: matrix}
arms: {old: 1, new: 1}
control: old
metrics: {primary: [long_view_rate], secondary: [watched, active_days]}
replay: {train_until: 2020-07-10}
"""
WATCHED = "watched: {kind: mean, of: {event: play, aggregate: sum}}\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("dense") / "lab"
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "matrix.yaml").write_text(EXPERIMENT)
    metrics = folder / "metrics.yaml"
    metrics.write_text(metrics.read_text() + WATCHED)
    for arm, kinds in ARMS.items():
        text = f"name: {arm}\nmodel: popularity\nhalf_life_days: 1000000\nhistory_kinds: {kinds}\n"
        (folder / "arms" / f"{arm}.yaml").write_text(text)
    return Lab(folder)


def run_dense(lab: Lab, log: Path, *, paired: bool, k: int = 3, name: str = "matrix") -> Report:
    engine = open_database(lab, create=True)
    with EmbeddedStream(lab.folder / "stream") as stream:
        options = ReplayOptions("dense", paired, k, 0)
        run = replay(lab, lab.experiment(name), open_log([log]), engine, stream, options)
    return make_report(engine, run, lab.calendar)


def totals(matrix: DenseMatrix, arm: str, k: int) -> tuple[Any, int]:
    """Give [users, 3]: long views, impressions, seconds; and the pairs asked that were not observed.

    Each day a user has rows on, the k best of what he has not met are shown to him.
    """
    before = matrix.observed & (matrix.ts < CUT)
    after = matrix.observed & ~before
    # Of equal scores the lower id comes first; ids sort as strings. The half-life is felt a little.
    weight = 2.0 ** ((matrix.ts - CUT) / (1e6 * DAY_MS))
    known = (before & matrix.long_view) if arm == "new" else before & (matrix.play > 0)
    score = np.where(known, weight, 0.0).sum(axis=0)
    found, lost = np.zeros((len(matrix.chance), 3)), 0
    for user in range(len(matrix.chance)):
        met = set(np.flatnonzero(before[user]).tolist())
        for day in np.unique((matrix.ts[user][after[user]] - FIRST) // DAY_MS).tolist():
            if day == 10:
                continue  # without a time no request comes of it
            left = [video for video in range(len(score)) if video not in met]
            slate = sorted(left, key=lambda video: (-score[video], str(video)))[:k]
            met.update(slate)
            for video in slate:
                if after[user, video]:
                    found[user] += matrix.long_view[user, video], 1, matrix.play[user, video]
                else:
                    lost += 1
    return found, lost


@pytest.mark.parametrize("paired", [False, True])
def test_figures_equal_a_plain_reading_of_the_matrix(lab: Lab, tmp_path: Path, paired: bool) -> None:
    matrix = write_matrix(tmp_path / "matrix.csv", users=80, videos=40)
    report = run_dense(lab, matrix.path, paired=paired)
    ratio, mean, days = report.comparisons
    units = sorted(map(str, range(80)))
    arm = np.empty(80, dtype=np.int64)
    arm[[int(unit) for unit in units]] = assign_many(lab.split(lab.experiment("matrix")), 0, units).arm
    (old, lost), (new, lost_too) = (totals(matrix, name, 3) for name in ARMS)
    control, own = (old, new) if paired else (old[arm == 0], new[arm == 1])
    if paired:
        assert report.dropped.get("pair_not_observed", 0) == lost + lost_too > 0
        assert "pair_met" not in report.dropped
    assert (ratio.units, ratio.control_units) == (len(own), len(control))
    assert report.resolution["by_arm"]["new"]["matched"] == own[:, 1].sum()
    rates = own[:, 0].sum() / own[:, 1].sum(), control[:, 0].sum() / control[:, 1].sum()
    assert ratio.lift == pytest.approx(rates[0] / rates[1] - 1, rel=1e-9)
    assert mean.mean == pytest.approx(own[:, 2].mean(), rel=1e-9)
    assert mean.lift == pytest.approx(own[:, 2].mean() / control[:, 2].mean() - 1, rel=1e-9)
    one, other = own[:, 2], control[:, 2]
    test = stats.ttest_rel(one, other) if paired else stats.ttest_ind(one, other, equal_var=False)
    assert mean.p_value == pytest.approx(test.pvalue, rel=1e-6)
    assert days.status == "not_estimable"


def test_intervals_hold_the_truth(lab: Lab, tmp_path: Path) -> None:
    """The truth is what the chances of the pairs shown make of it, whatever came of them.

    The arms learned once, from other users of the same videos.
    """
    learned = write_matrix(tmp_path / "learned.csv", users=200, videos=30, seed=1_000)
    trainer = Trainer(lab, open_database(lab, create=True), open_log([learned.path]), CUT)
    versions = {name: trainer.arm(lab.arm(name)).version for name in ARMS}
    trainer.close()
    text = EXPERIMENT.replace("matrix", "truth").replace("07-10}", f"07-10, versions: {versions}}}")
    (lab.folder / "experiments" / "truth.yaml").write_text(text)
    sums = {arm: np.zeros(2) for arm in ARMS}
    seen = []
    for seed in range(12):
        matrix = write_matrix(tmp_path / "matrix.csv", users=60, videos=30, missing=0, seed=seed)
        report = run_dense(lab, matrix.path, paired=True, k=2, name="truth")
        one = report.comparisons[0]
        assert one.lift_low is not None
        assert one.lift_high is not None
        seen.append((one.lift_low, one.lift_high))
        i = impressions.c
        with open_database(lab).connect() as connection:
            rows = connection.execute(select(i.arm, i.unit_id, i.item_id).where(i.run == report.run.run))
            for arm, unit, item in rows:
                sums[arm] += matrix.chance[int(unit), int(item)], 1
    truth = (sums["new"][0] / sums["new"][1]) / (sums["old"][0] / sums["old"][1]) - 1
    assert truth > 0.1, "the arms must differ"
    assert sum(low <= truth <= high for low, high in seen) >= 10


@pytest.mark.parametrize(("missing", "status"), [(0.004, "ok"), (0.3, "warn")])
def test_too_few_answers_are_warned_of_and_decide_nothing(
    lab: Lab, tmp_path: Path, missing: float, status: str
) -> None:
    matrix = write_matrix(tmp_path / "matrix.csv", users=80, videos=40, missing=missing, spread=2)
    report = run_dense(lab, matrix.path, paired=True)
    check = next(check for check in report.checks if check.name == "answered_pairs")
    assert check.status == status
    lost = [totals(matrix, arm, 3) for arm in ARMS]
    shares = [found[:, 1].sum() / (found[:, 1].sum() + missed) for found, missed in lost]
    assert check.value == pytest.approx(min(shares), rel=1e-12)
    assert "Pairs answered" in render(report)
    printed = StringIO()
    print_report(report, Console(width=100, file=printed))
    assert printed.getvalue().count("of what it asked was answered") == 2
    by_arm = {arm: own["answered"] for arm, own in report.resolution["by_arm"].items()}
    assert by_arm == pytest.approx(dict(zip(ARMS, shares, strict=True)))
    assert report.resolution["answered"] == pytest.approx(min(shares))
    assert report.dropped["pair_not_observed"] == sum(missed for _, missed in lost)
    random = next(check for check in report.checks if check.name == "random_exposure")
    assert random.status == "not_applicable"
    ruling = next(ruling for ruling in report.verdict.trace if ruling.rule == "random_exposure")
    if status == "warn":
        assert (report.verdict.status, ruling.outcome) == ("cannot_tell", "decided")
        assert "the log lacks too much of what arms asked for" in ruling.sentence
    else:
        assert (report.verdict.status, ruling.outcome) == ("ship", "passed")


def test_pairs_without_a_time_answer(lab: Lab, tmp_path: Path) -> None:
    """As KuaiRec's do that users were made to see."""
    matrix = write_matrix(tmp_path / "matrix.csv", users=80, videos=40, missing=0, forced=0.25)
    report = run_dense(lab, matrix.path, paired=True)
    forced = int((matrix.ts == FIRST + 10 * DAY_MS).sum())
    assert forced > 700
    assert report.dropped["blank_time"] == report.dropped["pair_without_time"] == forced
    assert "pair_not_observed" not in report.dropped
    assert report.resolution["answered"] == 1.0
    (old, _), (new, _) = (totals(matrix, name, 3) for name in ARMS)
    assert report.comparisons[1].lift == pytest.approx(new[:, 2].mean() / old[:, 2].mean() - 1, rel=1e-9)


def test_rows_of_a_pair_beyond_the_first_are_counted(lab: Lab, tmp_path: Path) -> None:
    matrix = write_matrix(tmp_path / "matrix.csv", users=30, videos=20, missing=0)
    whole = run_dense(lab, matrix.path, paired=True)
    lines = matrix.path.read_text().splitlines()
    last = lines[-1].split(",")
    again = ",".join([*last[:2], "1", *last[3:6], str(float(last[6]) + 1), ""])
    matrix.path.write_text("\n".join([*lines, again]) + "\n")
    report = run_dense(lab, matrix.path, paired=True)
    assert report.dropped["repeat_of_pair"] == 1
    assert [one.lift for one in report.comparisons] == [one.lift for one in whole.comparisons]
