"""The figures of a replay of real rows, against forty lines of NumPy over the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from armlift.lab import Lab, init_lab
from armlift.logs.reader import open_log
from armlift.replay import replay
from armlift.replayer import ReplayOptions
from armlift.report import make_report
from armlift.splitter import assign_many
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

DAY = 86_400_000
CUT = 1_649_952_000_000  # 2022-04-15 00:00 in Asia/Shanghai
KINDS = ("is_click", "label", "is_follow", "is_comment", "is_forward", "long_view")
HALF_LIVES = {"slow": 7.0, "fast": 0.5}

EXPERIMENT = """
name: reference
arms: {slow: 1, fast: 1}
control: slow
metrics: {primary: [click_rate], secondary: [clicks, likers]}
"""


def per_unit_totals(file: Path, k: int) -> tuple[list[str], dict[str, Any], Any]:
    """Give units; by arm, [units, 3]: clicks, impressions, likes of sessions' first k; and earlier clicks.

    Those are [units], of the fortnight before each unit's first exposure.
    """
    rows: Any = np.genfromtxt(file, delimiter=",", names=True, dtype=np.int64)
    old, new = rows[rows["time_ms"] < CUT], rows[rows["time_ms"] >= CUT]
    videos = np.unique(rows["video_id"])
    score = {}
    for arm, half_life in HALF_LIVES.items():
        weight = 2.0 ** (-(CUT - old["time_ms"]) / (half_life * DAY)) * sum(old[kind] > 0 for kind in KINDS)
        score[arm] = np.bincount(np.searchsorted(videos, old["video_id"]), weight, len(videos))
        score[arm][~np.isin(videos, old["video_id"])] = -1  # not in the catalogue, so behind all others
    units = np.unique(new["user_id"])
    totals = {arm: np.zeros((len(units), 3)) for arm in HALF_LIVES}
    past = np.zeros(len(units))
    for place, unit in enumerate(units):
        own, before = new[new["user_id"] == unit], old[old["user_id"] == unit]
        for session in np.split(before, np.flatnonzero(np.diff(before["time_ms"]) > 1_800_000) + 1):
            shown = session[np.unique(session["video_id"], return_index=True)[1]]
            past[place] += shown["is_click"][shown["time_ms"] >= own["time_ms"][0] - 14 * DAY].sum()
        ends = np.flatnonzero(np.diff(own["time_ms"]) > 1_800_000) + 1
        for session in np.split(own, ends):
            _, first = np.unique(session["video_id"], return_index=True)
            shown = session[first]
            ids = shown["video_id"].astype(str)
            for arm in HALF_LIVES:
                values = score[arm][np.searchsorted(videos, shown["video_id"])]
                top = shown[np.lexsort((ids, -values))[:k]]
                totals[arm][place] += top["is_click"].sum(), len(top), (top["label"] > 0).sum()
    return list(units.astype(str)), totals, past


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("reference") / "lab"
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "reference.yaml").write_text(EXPERIMENT)
    for arm, half_life in HALF_LIVES.items():
        text = f"name: {arm}\nmodel: popularity\nhalf_life_days: {half_life}\n"
        (folder / "arms" / f"{arm}.yaml").write_text(text)
    return Lab(folder)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("paired", [True, False])
def test_the_27k_extract(lab: Lab, shared_data: Path, k: int, paired: bool) -> None:
    file = shared_data / "kuairand" / "log_standard_27k_explicit.csv"
    experiment, engine = lab.experiment("reference"), open_database(lab, create=True)
    with EmbeddedStream(lab.folder / "stream") as stream:
        run = replay(lab, experiment, open_log([file]), engine, stream, ReplayOptions("rerank", paired, k, 0))
    report = make_report(engine, run, lab.calendar)
    ratio, mean, share = report.comparisons
    units, totals, past = per_unit_totals(file, k)
    arm = assign_many(lab.split(experiment), 0, units).arm
    control, new = (totals[name] if paired else totals[name][arm == i] for i, name in enumerate(HALF_LIVES))

    assert (ratio.units, ratio.control_units) == (len(new), len(control))
    assert report.resolution["by_arm"]["slow"]["matched"] == control[:, 1].sum()
    rates = new[:, 0].sum() / new[:, 1].sum(), control[:, 0].sum() / control[:, 1].sum()
    assert ratio.mean == pytest.approx(rates[0], rel=1e-9)
    assert ratio.control_mean == pytest.approx(rates[1], rel=1e-9)
    assert ratio.lift == pytest.approx(rates[0] / rates[1] - 1, rel=1e-9)
    residual_new = (new[:, 0] - rates[0] * new[:, 1]) / new[:, 1].mean()
    residual_control = (control[:, 0] - rates[1] * control[:, 1]) / control[:, 1].mean()
    if paired:
        test = stats.ttest_rel(new[:, 0], control[:, 0])
        difference = residual_new - residual_control
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        p = 2 * stats.t.sf(abs(rates[0] - rates[1]) / error, len(difference) - 1)
    else:
        place = {i: arm == i for i in (0, 1)}
        before = np.stack([past, past > 0], axis=1)
        x = np.concatenate([before[place[1]], before[place[0]]])
        y = np.concatenate([new[:, 0], control[:, 0]])
        slope = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(), rcond=None)[0]
        adjusted = y - (x - x.mean(axis=0)) @ slope
        assert adjusted.var() < 0.97 * y.var()
        test = stats.ttest_ind(adjusted[: len(new)], adjusted[len(new) :], equal_var=False)
        p = stats.ttest_ind(residual_new + rates[0], residual_control + rates[1], equal_var=False).pvalue
    assert mean.method == ("paired" if paired else "cuped")
    assert mean.p_value == pytest.approx(test.pvalue, rel=1e-9)
    assert ratio.p_value == pytest.approx(p, rel=1e-9)
    assert share.mean == pytest.approx((new[:, 2] > 0).mean(), rel=1e-9)
