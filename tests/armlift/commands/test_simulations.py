"""simulate: users who answer, the report, and the truth beside it."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]

SMALL = (
    "{history_days: 2, sessions_per_day: 1.0, rows_per_session: 6, videos: 200, taste_categories: 8, "
    "user_spread: 0.5}"
)
WORDS = ("simulate", "baselines", "--users", "150", "--days", "3")


@pytest.fixture
def small(lab: Path, edit: Edit) -> Path:
    """Give a lab whose simulated world is small."""
    edit(
        "experiments/baselines.yaml",
        "analysis: {alpha: 0.05}",
        f"analysis: {{minimum_units: 30}}\nsimulation: {SMALL}",
    )
    edit(
        "experiments/baselines.yaml",
        "secondary: [clicks]",
        "secondary: [clicks, active_days, day_1_retention]",
    )
    return lab


def document(lab: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert run([*WORDS, "--lab", str(lab), "--json", *more]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_users_answer_and_the_truth_stands_beside_the_lift(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = document(small, capsys)
    assert (report["mode"], report["synthetic"], report["truth"]) == ("simulated", True, [])
    assert {one["status"] for one in report["comparisons"] if one["metric"] == "active_days"} == {"ok"}
    checks = {one["name"]: one["status"] for one in report["checks"]}
    assert checks["random_exposure"] == checks["symbiosis"] == "not_applicable"
    assert checks["event_loss"] == checks["srm"] == "ok"
    assert checks["pre_exposure_bias"] != "no_data"

    told = document(small, capsys, "--truth")
    assert told["run"] == report["run"]
    assert [one["lift"] for one in told["comparisons"]] == [one["lift"] for one in report["comparisons"]]
    truth = {(one["metric"], one["arm"]): one for one in told["truth"]}
    assert set(truth) == {(one["metric"], one["arm"]) for one in told["comparisons"]}
    # Covisitation knows more than a random order, and everybody is in the truth.
    best = truth["click_rate", "covisitation"]["lift"]
    assert best > truth["click_rate", "random"]["lift"]
    assert all(100 < one["users"] <= 150 for one in truth.values())
    assert all(one["error"] > 0 for one in truth.values() if one["metric"] == "click_rate")

    html = small / "report.html"
    assert run(["report", "baselines", "--lab", str(small), "--html", str(html)]) == 0
    text = capsys.readouterr().out
    assert "The truth: the same users, all of them under one arm after another" in text
    assert 'id="truth"' in html.read_text()
    with sqlite3.connect(small / "armlift.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        arms = {arm for (arm,) in connection.execute("SELECT DISTINCT arm FROM impressions")}
    connection.close()
    # What the app's own policy showed is the users' past.
    assert arms == {"-", "popularity", "covisitation", "random"} or arms == {
        "popularity",
        "covisitation",
        "random",
    }


def test_rates_out_of_reach_are_said(small: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    # Users who hardly differ in what they like cannot be served much better than by chance.
    edit("experiments/baselines.yaml", "simulation: {", "simulation: {taste_strength: 0.2, ")
    assert run([*WORDS, "--lab", str(small)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("calibrated as near")]
    assert any("click rate under app: " in line and line.endswith(", wanted 0.451") for line in said)


def test_another_seed_is_another_run(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = document(small, capsys), document(small, capsys, "--seed", "1")
    assert first["run"] != second["run"]
    assert first["comparisons"] != second["comparisons"]


def test_runs_of_the_same_users_stand_beside_each_other(
    small: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    document(small, capsys)
    edit("experiments/baselines.yaml", "minimum_units: 30", "minimum_units: 20")
    document(small, capsys)
    with sqlite3.connect(small / "armlift.db") as connection:
        counts = {
            table: [n for (n,) in connection.execute(f"SELECT count(*) FROM {table} GROUP BY run")]
            for table in ("exposures", "impressions", "feedback", "unit_days")
        }
    connection.close()
    # The same users, arms and luck: all of it twice.
    assert all(len(found) == 2 and found[0] == found[1] > 0 for found in counts.values()), counts


def test_requests_before_the_first_phase_are_counted(
    small: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("experiments/baselines.yaml", "- traffic: 1.0", "- {start: 2022-04-23, traffic: 1.0}")
    dropped = document(small, capsys)["dropped"]
    assert dropped["request_before_first_phase"] > 50
    assert not any(name.startswith("request_") for name in dropped if name != "request_before_first_phase")


def test_nightly_retraining_warns_of_pooled_data(
    small: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("experiments/baselines.yaml", "simulation: {", "simulation: {retrain: nightly, ")
    report = document(small, capsys)
    assert {one["status"] for one in report["checks"] if one["name"] == "symbiosis"} == {"warn"}
    with sqlite3.connect(small / "armlift.db") as connection:
        versions = connection.execute(
            "SELECT arm, count(DISTINCT arm_version) FROM impressions WHERE arm <> '-' GROUP BY arm"
        ).fetchall()
    connection.close()
    # Three days, three models each.
    assert versions == [("covisitation", 3), ("popularity", 3), ("random", 3)]


def test_segments_and_audience_are_attributes_of_users(
    small: Path, edit: Edit, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("experiments/baselines.yaml", "minimum_units: 30", "segments: [user_active_degree]")
    segments = {one["segment"] for one in document(small, capsys)["comparisons"]}
    assert "user_active_degree=full_active" in segments
    edit("experiments/baselines.yaml", "[user_active_degree]", "[country]")
    line = refused(*WORDS, "--lab", small)
    says = "experiment baselines: segments: simulated users have no attribute 'country', must be one of "
    assert line == f"{says}user_active_degree, or give --attributes FILE"
    table = small / "users.csv"
    table.write_text("user_id,user_active_degree,country\n1,full_active,de\n2,low_active,fr\n")
    segments = {one["segment"] for one in document(small, capsys, "--attributes", str(table))["comparisons"]}
    assert segments == {None, "country=de", "country=fr"}


def test_what_cannot_be_simulated_is_one_line(small: Path, edit: Edit, refused: Refused) -> None:
    assert refused(*WORDS, "--lab", small, "--users", "0").startswith("--users: '0' must be ")
    path = edit("experiments/baselines.yaml", "videos: 200", "videos: 2")
    line = refused(*WORDS, "--lab", small)
    assert line.startswith(f"{path}:")
    assert "simulation.videos: 2 must be >= 20" in line.replace("greater than or equal to", ">=")
    edit("experiments/baselines.yaml", "videos: 2,", "videos: 200,")
    edit("experiments/baselines.yaml", "- traffic: 1.0", "- {start: 2030-01-01, traffic: 1.0}")
    line = refused(*WORDS, "--lab", small)
    assert line.startswith("experiment baselines: phases.0.start: 2030-01-01T00:00:00+08:00 must be before")
