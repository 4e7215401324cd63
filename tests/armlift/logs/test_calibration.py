from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from armlift.errors import InputError
from armlift.logs import published
from armlift.logs.calibration import Figure, measure, render
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.kuairand import COLUMNS

Measured = Callable[..., dict[str, Figure]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    def make(**changes: object) -> dict[str, Figure]:
        path = tmp_path_factory.mktemp("measured") / "log.csv"
        generate(GeneratorSettings.model_validate(changes), path)
        return {figure.name: figure for figure in measure(path)}

    return make


@pytest.fixture(scope="module")
def default(measured: Measured) -> dict[str, Figure]:
    return measured(users=300, days=3)


def test_the_default_log_is_within_every_tolerance(default: dict[str, Figure]) -> None:
    assert [figure for figure in default.values() if figure.holds is False] == []
    assert sum(figure.holds is True for figure in default.values()) == 21


@pytest.mark.parametrize(
    ("name", "at_most"),
    [
        ("click rate, standard", 0.035),
        ("long view rate, standard", 0.035),
        ("click rate, random", 0.06),
        ("sessions per user-day", 0.75),
        ("hour shares, largest difference", 0.035),
        ("tab shares, largest difference", 0.025),
    ],
)
def test_tolerances_are_tight_enough_to_mean_something(
    default: dict[str, Figure], name: str, at_most: float
) -> None:
    tolerance = default[name].tolerance
    assert tolerance is not None
    assert 0 < tolerance <= at_most


def test_what_depends_on_the_catalogue_is_for_orientation(default: dict[str, Figure]) -> None:
    loose = [figure.name for figure in default.values() if figure.tolerance is None]
    assert loose == [
        "top 1 % of videos' share, random",
        "Gini of exposures, random",
        "top 1 % of videos' share, standard",
        "Gini of exposures, standard",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"user_spread": 0.3, "taste_strength": 1.5},
        {"taste_categories": 12, "popularity_exponent": 1.0, "seed": 4},
        {"random_pool": 200, "catalogue_seed": 7},
    ],
)
def test_other_settings_land_on_the_same_rates(measured: Measured, changes: dict[str, object]) -> None:
    figures = measured(users=300, days=1, rows_per_session=40, random_share=0.3, **changes)
    for name in ("click rate", "long view rate"):
        for kind in ("random", "standard"):
            assert figures[f"{name}, {kind}"].holds, figures[f"{name}, {kind}"]


def test_a_log_that_is_off_is_told(measured: Measured) -> None:
    figures = measured(
        users=300, days=2, sessions_per_day=2, rows_per_session=20, planted_lift=0.6, planted_share=1
    )
    for name in ("sessions per user-day", "rows per user-day", "click rate, standard"):
        assert figures[name].holds is False
    assert "click rate, standard                       0.3787" in render(list(figures.values()))
    assert sum(line.endswith("  NO") for line in render(list(figures.values())).splitlines()) >= 3


def test_a_log_without_random_rows_has_no_random_figures(measured: Measured) -> None:
    figures = measured(users=20, days=1, rows_per_session=10, random_share=0)
    random = figures["click rate, random"]
    assert (random.measured, random.holds) == (None, None)
    assert "no such rows" in render([random])


def row(user: int, video: int, ts: int, *, click: int = 0, tab: int = 1) -> dict[str, int]:
    return dict.fromkeys(COLUMNS, 0) | {
        "user_id": user, "video_id": video, "time_ms": ts, "is_click": click, "tab": tab,
    }  # fmt: skip


def test_figures_of_a_log_counted_by_hand(tmp_path: Path) -> None:
    noon = 1_649_390_400_000
    gap = published.SESSION_GAP_MS
    rows = [
        row(1, 5, noon, click=1),
        row(1, 6, noon + gap),
        row(2, 5, noon + gap + 1),
        row(1, 5, noon + 2 * gap + 1),
    ]
    path = tmp_path / "hand.csv"
    pl.DataFrame(rows).select(COLUMNS).write_csv(path)
    figures = {figure.name: figure.measured for figure in measure(path)}
    assert figures["click rate, standard"] == pytest.approx(1 / 4)
    assert figures["sessions per user-day"] == pytest.approx(3 / 2)
    assert figures["rows per user-day"] == pytest.approx(4 / 2)
    assert figures["top 1 % of videos' share, standard"] == pytest.approx(3 / 4)
    assert figures["Gini of exposures, standard"] == pytest.approx(1 / 4)
    assert figures["hour shares, largest difference"] == pytest.approx(3 / 4 - published.HOUR_SHARES[12])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be measured: "),
        ("", "cannot be measured: "),
        ("user_id,video_id\n1,2\n", "cannot be measured: "),
        (",".join(COLUMNS) + "\n", "has no rows to measure"),
        (",".join(COLUMNS) + "\n" + ",".join(["x"] * 19) + "\n", "cannot be measured: "),
    ],
)
def test_what_is_not_a_log_gives_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        measure(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
