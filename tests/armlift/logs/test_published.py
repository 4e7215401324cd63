from pathlib import Path

import numpy as np
import polars as pl
import pytest

from armlift.logs import published


@pytest.fixture
def aggregates(shared_data: Path) -> Path:
    return shared_data / "kuairand" / "aggregates_27k"


def test_totals_agree_with_each_other() -> None:
    shares, rates = published.TAB_SHARES, published.TAB_CLICK_RATES
    assert shares.sum(axis=1) == pytest.approx([1, 1])
    assert (shares * rates).sum(axis=1) == pytest.approx([published.CLICK_STANDARD, published.CLICK_RANDOM])
    assert published.HOUR_SHARES.sum() == pytest.approx(1)
    assert round(published.ROWS_PER_SESSION, 2) == 78.95


def test_hours_and_tabs_are_those_published(aggregates: Path) -> None:
    hours = pl.read_csv(aggregates / "log_standard_hourly.csv").sort("hour")["exposures"].to_numpy()
    assert np.array_equal(published.HOUR_SHARES, hours / hours.sum())
    for row, kind in enumerate(("standard", "random")):
        tabs = pl.read_csv(aggregates / f"log_{kind}_tab_stats.csv")
        at = tabs["tab"].to_numpy()
        assert published.TAB_CLICK_RATES[row][at] == pytest.approx(tabs["ctr"].to_numpy())
        assert published.TAB_SHARES[row][at] == pytest.approx(
            tabs["exposures"].to_numpy() / tabs["exposures"].sum()
        )


def test_rates_are_those_published(aggregates: Path) -> None:
    for kind, rate in (("standard", published.CLICK_STANDARD), ("random", published.CLICK_RANDOM)):
        assert pl.read_csv(aggregates / f"log_{kind}_basic_stats.csv")["ctr"].item() == pytest.approx(rate)
    sessions = pl.read_csv(aggregates / "log_standard_session_summary.csv")["session_mean"].item()
    assert sessions == pytest.approx(published.SESSIONS_PER_USER)
    pure = pl.read_csv(aggregates.parent / "reference_random_vs_standard_aggregates.csv")
    rates = {metric: (random, standard) for metric, random, standard in pure.select(
        "metric", "random_rate", "standard_rate"
    ).iter_rows()}  # fmt: skip
    for metric, pair in {
        "long_view": (published.LONG_VIEW_RANDOM, published.LONG_VIEW_STANDARD),
        "is_hate": (published.HATE_RANDOM, published.HATE_STANDARD),
        "is_profile_enter": (published.PROFILE_RANDOM, published.PROFILE_STANDARD),
        "positive_interaction": (published.POSITIVE_RANDOM, published.POSITIVE_STANDARD),
    }.items():
        assert rates[metric] == pytest.approx(pair, abs=1e-8)
