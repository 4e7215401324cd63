"""Analyses of frames: their numbers against tea-tasting, SciPy, NumPy, and an import of the same units."""

import doctest
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tea_tasting import Experiment as TeaExperiment
from tea_tasting import Mean, RatioOfMeans

import armlift
from armlift import Analysis, analysis, analyze
from armlift.effects import MIN_EVENTS
from armlift.errors import InputError
from armlift.imports import Import
from armlift.lab import Lab, init_lab
from armlift.mapping import Mapping
from armlift.report import make_report
from armlift.stats.multiplicity import benjamini_hochberg
from armlift.store.database import connect
from armlift.store.tables import metadata
from armlift.tabular import open_table

SEEDS = st.integers(0, 2**32)
METRICS: dict[str, Any] = {
    "spend": {"kind": "mean", "value": "purchase", "covariate": "purchase_before"},
    "plain": {"kind": "mean", "value": "play", "role": "guardrail"},
    "capped": {"kind": "mean", "value": "purchase", "winsorise": 0.9, "role": "guardrail"},
    "clicked": {"kind": "proportion", "value": "click", "role": "guardrail", "margin": 0.1},
    "rate": {"kind": "ratio", "numerator": "play", "denominator": "rating", "role": "guardrail"},
    "past_rate": {
        "kind": "ratio",
        "numerator": "play",
        "denominator": "rating",
        "covariate": {"numerator": "play_before", "denominator": "rating_before"},
        "role": "guardrail",
    },
    "upper": {"kind": "quantile", "value": "purchase", "quantile": 0.75, "role": "guardrail"},
}
PAST = ("purchase_before", "play_before", "rating_before")


def random_frame(seed: int, *, least: int = 30, gaps: bool = False) -> pl.DataFrame:
    """Draw units of two arms; with gaps some have no past, and some did nothing."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2 * least, 2 * least + 150))
    busy = rng.gamma(2.0, 1.0, n)
    rating, before = 1.0 + rng.poisson(4 * busy), 1.0 + rng.poisson(4 * busy)
    frame = pl.DataFrame(
        {
            "unit_id": [f"u{number}" for number in rng.permutation(n)],
            "arm": rng.permutation(["old", "new"] * least + list(rng.choice(["old", "new"], n - 2 * least))),
            "phase": rng.integers(0, 2, n),
            "country": pl.Series(rng.choice(["de", "fr", ""], n, p=[0.5, 0.4, 0.1])),
            "purchase": rng.exponential(10 * busy),
            "play": rng.binomial(rating.astype(int), 0.4).astype(float),
            "rating": rating,
            "click": rng.random(n) < 0.4,
            "purchase_before": rng.exponential(10 * busy),
            "play_before": rng.binomial(before.astype(int), 0.4).astype(float),
            "rating_before": before,
        }
    )
    if gaps:
        idle, fresh = pl.Series(rng.random(n) < 0.2), pl.Series(rng.random(n) < 0.3)
        frame = frame.with_columns(pl.when(~idle).then(pl.col("purchase", "play", "rating")).otherwise(0.0))
        frame = frame.with_columns(pl.when(~fresh).then(pl.col(PAST)))
    return frame


def of(found: Analysis, metric: str) -> dict[str, Any]:
    """Give the whole's comparison in a metric."""
    return next(one for one in found.report["comparisons"] if one["metric"] == metric and not one["segment"])


@settings(max_examples=50, deadline=None)  # of four metrics each
@given(SEEDS)
def test_means_and_ratios_with_and_without_a_covariate_equal_tea_tasting(seed: int) -> None:
    frame = random_frame(seed)
    alpha = float(np.random.default_rng(seed).uniform(0.001, 0.3))
    few = {name: METRICS[name] for name in ("spend", "plain", "rate", "past_rate")}
    found = analyze(frame, few, control="old", alpha=alpha)
    level: Any = {"confidence_level": 1 - alpha, "equal_var": False, "use_t": True}
    asked = {
        "spend": Mean("purchase", "purchase_before", **level),
        "plain": Mean("play", **level),
        "rate": RatioOfMeans("play", "rating", **level),
        "past_rate": RatioOfMeans("play", "rating", "play_before", "rating_before", **level),
    }
    theirs = TeaExperiment(asked, variant="arm").analyze(frame, control="old")
    for name in asked:
        one, their = of(found, name), theirs[name]
        assert one["status"] == "ok"
        assert [one["lift"], one["lift_low"], one["lift_high"], one["p_value"]] == pytest.approx(
            [
                their.rel_effect_size,
                their.rel_effect_size_ci_lower,
                their.rel_effect_size_ci_upper,
                their.pvalue,
            ],
            rel=1e-9,
        )


@settings(max_examples=50, deadline=None)  # of four figures each
@given(SEEDS)
def test_shares_caps_and_quantiles_equal_scipy_and_numpy(seed: int) -> None:
    frame = random_frame(seed, gaps=True)
    asked = {name: METRICS[name] for name in ("clicked", "capped", "upper")}
    found = analyze(frame, asked | {"clicked": {"kind": "proportion", "value": "click"}}, control="old")
    arms = {arm: frame.filter(pl.col("arm") == arm) for arm in ("new", "old")}
    clicked = [arm["click"].cast(pl.Float64).to_numpy() for arm in arms.values()]
    few = min(count for arm in clicked for count in (arm.sum(), len(arm) - arm.sum())) < MIN_EVENTS
    rare = None if few else pytest.approx(stats.ttest_ind(*clicked, equal_var=False).pvalue, rel=1e-9)
    assert of(found, "clicked")["p_value"] == rare
    above = np.sort(frame.filter(pl.col("purchase") > 0)["purchase"].to_numpy())
    cap = above[min(len(above) - 1, int(0.9 * len(above)))]
    capped = [np.minimum(arm["purchase"].to_numpy(), cap) for arm in arms.values()]
    one = of(found, "capped")
    assert [one["mean"], one["control_mean"], one["p_value"]] == pytest.approx(
        [capped[0].mean(), capped[1].mean(), stats.ttest_ind(*capped, equal_var=False).pvalue], rel=1e-9
    )
    one = of(found, "upper")
    if one["status"] == "ok":
        wanted = [
            np.quantile(arm["purchase"].to_numpy(), 0.75, method="inverted_cdf") for arm in arms.values()
        ]
        assert [one["mean"], one["control_mean"]] == pytest.approx(wanted, rel=1e-12)


def test_units_of_a_stratum_too_small_to_compare_are_counted() -> None:
    rows = {
        "arm": ["a", "b"] * 50 + ["a"],
        "clicks": [0, 1, 1, 2] * 25 + [9],
        "when": ["big"] * 100 + ["tiny"],
    }
    found = analyze(
        pl.DataFrame(rows), {"clicks": {"kind": "mean"}}, control="a", unit=None, stratum="when"
    ).report
    assert found["dropped"]["unit_small_stratum_clicks"] == 1
    assert found["comparisons"][0]["control_units"] == 50


EXPERIMENT = """
name: own
arms: {old: 1, new: 1}
control: old
phases: [{}, {start: 2024-01-02}]
metrics: {primary: [spend], guardrails: [plain, capped, clicked, rate, past_rate, upper]}
analysis: {segments: [country]}
"""
DEFINITIONS = """
spend: {kind: mean, of: {event: purchase, aggregate: sum}, cuped: 14d}
plain: {kind: mean, of: {event: play, aggregate: sum}}
capped: {kind: mean, of: {event: purchase, aggregate: sum}, winsorise: 0.9}
clicked: {kind: proportion, of: {event: click}, margin: 0.1}
rate: &rate
  kind: ratio
  numerator: {event: play, aggregate: sum}
  denominator: {event: rating, aggregate: sum}
past_rate: {<<: *rate, cuped: 14d}
upper: {kind: quantile, of: {event: purchase, aggregate: sum}, quantile: 0.75}
"""
DAY = 86_400_000
FIRST = 1_704_067_200_000  # 2024-01-01


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("own") / "lab"
    init_lab(folder)
    settings = (folder / "armlift.toml").read_text()
    (folder / "armlift.toml").write_text(settings.replace("Asia/Shanghai", "UTC"))
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "own.yaml").write_text(EXPERIMENT)
    (folder / "metrics.yaml").write_text(DEFINITIONS)
    for arm in ("old", "new"):
        (folder / "arms" / f"{arm}.yaml").write_text(f"name: {arm}\nmodel: random\n")
    return Lab(folder)


def write_log(frame: pl.DataFrame, folder: Path, rng: np.random.Generator) -> None:
    """Write the units as exposures and events; what a unit did may be told in two events."""
    frame = frame.with_columns(ts=FIRST + pl.col("phase") * DAY)
    frame.select("unit_id", "ts", "arm", "phase", "country").write_parquet(folder / "exposures.parquet")
    parts = []
    for kind in ("purchase", "play", "rating", "click"):
        for column, after in ((kind, 3_600_000), (f"{kind}_before", -3_600_000)):
            if column in frame.columns:
                told = frame.select(
                    "unit_id",
                    ts=pl.col("ts") + after,
                    kind=pl.lit(kind),
                    value=pl.col(column).cast(pl.Float64),
                ).drop_nulls("value")
                parts.append(told.filter(pl.col("value") != 0) if after > 0 else told)
    pl.concat(parts).sample(fraction=1, shuffle=True, seed=int(rng.integers(2**31))).write_parquet(
        folder / "events.parquet"
    )


def same(found: Any, wanted: Any, path: str = "") -> None:
    """Compare two documents, numbers to 1e-9."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), path
        for key in wanted:
            same(found[key], wanted[key], f"{path}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            same(one, other, f"{path}/{number}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12), path
    else:
        assert found == wanted, path


@settings(max_examples=20, deadline=None)  # of seven metrics each
@given(SEEDS, st.booleans())
def test_a_frame_and_an_import_of_the_same_units_say_the_same(lab: Lab, seed: int, large: bool) -> None:
    frame = random_frame(seed, least=60 if large else 3, gaps=True)
    write_log(frame, lab.folder, np.random.default_rng(seed))
    met, done = (open_table(str(lab.folder / f"{name}.parquet")) for name in ("exposures", "events"))
    engine = connect("sqlite://", lab.folder)
    metadata.create_all(engine)
    run = Import(lab, lab.experiment("own"), met, done, Mapping()).run(engine)
    wanted = make_report(engine, run, lab.calendar).as_dict()
    engine.dispose()
    found = analyze(frame, METRICS, control="old", stratum="phase", segments=["country"]).report
    for part in ("verdict", "comparisons", "checks", "resolution", "mode", "paired", "k", "seed"):
        same(found[part], wanted[part], part)


def test_order_frames_kinds_and_names_of_columns_change_nothing() -> None:
    frame = random_frame(5, gaps=True)
    wanted = analyze(frame, METRICS, control="old", stratum="phase").comparisons
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    for other in (shuffled, shuffled.lazy(), shuffled.to_pandas()):
        found = analyze(other, METRICS, control="old", stratum="phase")
        assert found.comparisons.equals(wanted)
    renamed = frame.rename({"unit_id": "who", "arm": "group"}).with_columns(
        group=pl.col("group").replace_strict({"old": "Control (A)", "new": "B"})
    )
    found = analyze(renamed, METRICS, control="Control (A)", unit="who", arm="group", stratum="phase")
    assert found.comparisons.drop("arm", "control").equals(wanted.drop("arm", "control"))
    assert set(found.comparisons["arm"]) == {"b"}
    assert found.report["run"] != analyze(frame, METRICS, control="old").report["run"]


def test_rows_without_a_unit_or_an_arm_are_counted() -> None:
    frame = random_frame(1)
    more = pl.DataFrame({"unit_id": ["x", None, None], "arm": [None, "old", None], "play": [1.0, 2.0, 3.0]})
    found = analyze(
        pl.concat([frame, more], how="diagonal"),
        {"plain": METRICS["plain"] | {"role": "primary"}},
        control="old",
    )
    assert found.report["dropped"]["row_blank_unit"] == 2
    assert found.report["dropped"]["row_blank_arm"] == 1
    assert of(found, "plain")["units"] + of(found, "plain")["control_units"] == len(frame)


def test_segments_are_analyses_of_their_units_adjusted_together() -> None:
    frame = random_frame(2, least=200).with_columns(
        country=pl.Series(np.random.default_rng(0).choice(["de", "fr"], len(random_frame(2, least=200))))
    )
    plain = {"spend": METRICS["spend"], "clicked": METRICS["clicked"]}
    found = analyze(frame, plain, control="old", segments=["country"])
    whole = analyze(frame, plain, control="old")
    assert found.comparisons.filter(pl.col("segment").is_null()).equals(whole.comparisons)
    assert found.report["verdict"] == whole.report["verdict"]
    rows = found.comparisons.filter(pl.col("segment").is_not_null())
    assert rows["segment"].to_list() == ["country=de"] * 2 + ["country=fr"] * 2
    assert rows["p_adjusted"].to_list() == pytest.approx(benjamini_hochberg(rows["p_value"].to_list()))
    for country in ("de", "fr"):
        alone = analyze(frame.filter(pl.col("country") == country), plain, control="old").comparisons
        mine = rows.filter(pl.col("segment") == f"country={country}")
        assert mine.select("units", "lift", "p_value").equals(alone.select("units", "lift", "p_value"))
    assert "spend (primary), country=de" in str(found)
    assert "Secondary metrics, country=fr" not in found._repr_html_()
    assert "Primary metrics, country=fr" in found._repr_html_()


def test_a_lift_ships_and_a_broken_split_does_not() -> None:
    rng = np.random.default_rng(3)
    arm = np.repeat(["old", "new"], 600)
    frame = pl.DataFrame({"arm": arm, "clicks": rng.poisson(np.where(arm == "new", 3, 2))})
    metrics = {"clicks": {"kind": "mean"}}
    verdict = analyze(frame, metrics, control="old", unit=None).report["verdict"]
    assert verdict["status"] == "ship"
    assert verdict["sentence"].startswith("Ship new: clicks rose by")
    assert [one["outcome"] for one in verdict["trace"][:4]] == ["passed"] * 4
    fewer = analyze(frame.head(1000), metrics, control="old", unit=None).report
    assert fewer["verdict"]["status"] == "broken"
    planned = analyze(frame.head(1000), metrics, control="old", unit=None, weights={"old": 3, "new": 2})
    assert planned.report["verdict"]["status"] == "ship"
    twice = pl.concat([frame, frame.with_columns(arm=pl.lit("old"))]).with_columns(
        unit_id=pl.int_range(pl.len()) % 1200
    )
    twice = twice.unique(["unit_id", "arm"])
    assert analyze(twice, metrics, control="old").report["verdict"]["status"] == "broken"


def test_nothing_sure_cannot_tell_for_the_data_will_not_grow() -> None:
    found = analyze(random_frame(4), {"plain": {"kind": "mean", "value": "play"}}, control="old")
    verdict = found.report["verdict"]
    assert verdict["status"] == "cannot_tell"
    assert verdict["trace"][-1]["sentence"] == "nothing is sure, and the data will not grow"
    assert "log" not in " ".join(one["sentence"] for one in verdict["trace"])
    checks = {one["name"]: one["status"] for one in found.report["checks"]}
    assert {checks[name] for name in ("random_exposure", "event_loss", "lateness")} == {"not_applicable"}
    assert found.report["resolution"]["matched"] is None


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([1.0] * 80, "zero_variance"),
        ([0.0, -1.0] * 40, "zero_control"),
        ([0.0, 1.0] * 5, "too_few"),
    ],
)
def test_degenerate_frames_have_a_status(values: list[float], status: str) -> None:
    frame = pl.DataFrame({"arm": ["a", "a", "b", "b"] * 20, "y": (values * 8)[:80]}).head(len(values))
    found = analyze(frame, {"y": {"kind": "mean"}}, control="a", unit=None)
    assert of(found, "y")["status"] == status
    assert not any(isinstance(v, float) and math.isnan(v) for v in of(found, "y").values())


def test_it_shows_itself_as_text_and_in_notebooks() -> None:
    found = analyze(random_frame(6), METRICS, control="old")
    assert str(found) == repr(found)
    assert "Verdict:" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80
    page = found._repr_html_()
    assert page.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert "&lt;svg" in page
    assert found.comparisons.schema["lift_low"] == pl.Float64


def test_the_docstrings_example_holds() -> None:
    assert doctest.testmod(analysis) == (0, 2)


def test_importing_armlift_loads_nothing_heavy() -> None:
    heavy = ("numpy", "polars", "pydantic", "scipy", "sqlalchemy")
    code = f"import sys, armlift; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert armlift.analyze is analysis.analyze
    with pytest.raises(AttributeError, match="has no attribute 'analyse'"):
        _ = armlift.analyse


FRAME = pl.DataFrame(
    {
        "unit_id": ["1", "2", "3"],
        "arm": ["a", "b", "b"],
        "y": [1.0, None, 2.0],
        "x": [1, 2, 3],
        "text": ["u", "u", "v"],
    }
)
X = {"x": {"kind": "mean"}}


def metrics(**definition: Any) -> dict[str, Any]:
    return {"metrics": {"x": {"kind": "mean"} | definition}}


def frame(**columns: pl.Series | pl.Expr) -> dict[str, Any]:
    return {"frame": FRAME.with_columns(**columns)}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (metrics(value="y"), "metrics: x: column 'y' has 1 values that are null, NaN or infinite"),
        (metrics(value="z"), "metrics: x: column 'z' must be one of unit_id, arm, y, x, text"),
        (metrics(value="text"), "metrics: x: column 'text' is String, must hold numbers"),
        (metrics(kind="meen"), "metrics: x.kind: 'meen' must be one of mean, proportion, quantile"),
        (metrics(valeu="y"), r"metrics: x.valeu: unknown key.*did you mean value\?"),
        (metrics(kind="quantile"), "metrics: x.quantile: is missing"),
        (metrics(role="guardrail"), "metrics: none has the role primary"),
        (metrics(winsorise=2), "metrics: x.winsorise: 2 must be less than 1"),
        ({"metrics": {}}, "metrics: none has the role primary"),
        ({"metrics": {"X y": {"kind": "mean"}}}, "metrics: X y: 'X y' must be lower-case letters"),
        ({"control": "c"}, "control: 'c' is not in column 'arm', must be one of a, b"),
        ({"unit": "who"}, "unit: column 'who' must be one of"),
        ({"unit": "text", "arm": "text", "control": "u"}, "text: 'u' stands twice, must be one row a unit"),
        ({"segments": ["land"]}, "segments: column 'land' must be one of"),
        ({"weights": {"a": 1}}, "weights: name no arm 'b', which column 'arm' holds"),
        ({"alpha": 0.7}, "alpha: 0.7 must be less than 0.5"),
        ({"name": "A b"}, "name: 'A b' must be lower-case letters"),
        ({"frame": FRAME.head(1)}, "arm: column 'arm' holds one arm, a, must hold two or more"),
        ({"frame": [1, 2]}, "frame is list without columns, must be a polars or pandas frame"),
        (frame(x=pl.lit(1e200)), r"metrics: x: column 'x' holds 1e\+200, must be at most"),
        (frame(arm=pl.Series(["a", "A", "b"])), "arm: 'a' cannot be told .* from 'A'"),
        (frame(arm=pl.Series(["a", "!", "b"])), "arm: '!' cannot be told"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(changed: dict[str, Any], says: str) -> None:
    given_: dict[str, Any] = {"frame": FRAME, "metrics": X, "control": "a"} | changed
    with pytest.raises(InputError, match=says) as error:
        analyze(given_.pop("frame"), given_.pop("metrics"), **given_)
    assert "\n" not in str(error.value)


def test_segments_of_many_values_are_refused() -> None:
    frame = pl.DataFrame({"arm": ["a", "b"] * 60, "x": range(120), "city": range(120)})
    with pytest.raises(InputError, match="segments: 'city' has 120 values, must have at most 50"):
        analyze(frame, X, control="a", unit=None, segments=["city"])


@pytest.mark.parametrize("control", [0, False, "0"])
def test_arms_may_be_numbers_or_truth_values(control: object) -> None:
    other: Any = True if control is False else 1 if control == 0 else "1"
    frame = pd.DataFrame({"arm": [control, other] * 50, "x": [1.0, 2.0, 3.0, 3.5] * 25})
    found = analyze(frame, X, control=control, unit=None)
    assert of(found, "x")["control_mean"] == 2.0
