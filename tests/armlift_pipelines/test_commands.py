"""nightly, jobs and schedule on the command line: what they print, and with which code they end."""

import json
import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from walkers import FIRST, NIGHTLY, define, fill, make_lab

from armlift.cli import run
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift.store.tables import alerts, impressions
from armlift_pipelines.job_runs import FAILED, SUCCEEDED, Key, Record

DAY = FIRST + timedelta(days=5)
ONE_ARM = NIGHTLY + "arms: {tiny: {steps: []}}\n"
STEPS = [
    *("roll_up", "build_dataset", "retrain", "evaluate", "gate", "promote", "write_prompts"),
    *("drift", "snapshot", "retention"),
]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what commands let signals do."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Lines:
    """Commands in a lab whose first night was done by hand, and what it printed."""

    def __init__(self, folder: Path) -> None:
        make_lab(folder)
        self.folder = folder
        self.write(ONE_ARM)
        self.engine: Engine = open_database(Lab(folder), create=True)
        fill(self.engine, days=9)

    def write(self, text: str) -> None:
        (self.folder / "nightly.yaml").write_text(text)

    def __call__(self, *words: object) -> int:
        return run([*map(str, words), "--lab", str(self.folder)])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    made = Lines(tmp_path_factory.mktemp("commands") / "lab")
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def first(lab: Lines) -> str:
    """Do the first night, and give what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        assert lab("nightly", "--date", DAY) == 0
    return "\n".join(lines)


def document(lab: Lines, capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    lab(*words, "--json")
    return json.loads(capsys.readouterr().out)


def refused(lab: Lines, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Give the one line of a command whose input is wrong."""
    capsys.readouterr()
    code = lab(*words)
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("armlift: ")
    return err.removeprefix("armlift: ").strip()


def test_a_night_by_hand_tells_what_serves(lab: Lines, first: str) -> None:
    lines = first.splitlines()
    assert [one.split()[0] for one in lines[:10]] == STEPS
    assert "60 units, 960 behaviours" in lines[1]
    assert lines[10].startswith(f"night live/{DAY}: 10 of 10 steps done, ")
    assert lines[11].split()[::2] == ["popularity", "promoted"]


def test_a_night_that_is_done_is_left_alone_and_given_as_a_document(
    lab: Lines, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(lab, capsys, "nightly", "--date", DAY)
    assert (found["night"], found["status"], found["attempt"]) == (str(DAY), SUCCEEDED, 2)
    assert [one["step"] for one in found["steps"]] == STEPS
    assert {one["attempt"] for one in found["steps"]} == {1}
    assert found["outputs"]["served"] == {"popularity/*": found["steps"][5]["outputs"]["serving"]}


def test_what_was_refused_or_failed_is_the_answer_no(
    lab: Lines, first: str, capsys: pytest.CaptureFixture[str], faulty: None
) -> None:
    lab.write(ONE_ARM.replace("minimum_units: 20", "minimum_units: 5000"))
    capsys.readouterr()
    assert lab("nightly", "--date", DAY + timedelta(days=1)) == 1
    out = capsys.readouterr().out
    assert "  refused: popularity: 60 units can be asked, must be at least 5000" in out.splitlines()
    lab.write(ONE_ARM)
    (lab.folder / "arms" / "bad.yaml").write_text("name: bad\nmodel: faulty\nfault: crash\n")
    define(lab.folder, "popularity", "bad")
    try:
        assert lab("nightly", "--date", DAY + timedelta(days=2)) == 1
    finally:
        define(lab.folder, "popularity", "tiny")
        (lab.folder / "arms" / "bad.yaml").unlink()
    out = capsys.readouterr().out
    assert (
        f"  failed: nightly live/{DAY + timedelta(days=2)} retrain bad: ZeroDivisionError: by nothing" in out
    )
    with lab.engine.connect() as connection:
        kinds = connection.execute(select(alerts.c.kind).order_by(alerts.c.number)).scalars().all()
    assert kinds == ["refused", "failure"]
    found = document(lab, capsys, "jobs", "--date", DAY + timedelta(days=2))
    failed = [one for one in found["runs"] if one["status"] == FAILED and one["step"]]
    assert [(one["step"], one["arm"]) for one in failed] == [("retrain", "bad")]
    assert lab("jobs", "--log", failed[0]["id"][:12]) == 0
    log = capsys.readouterr().out
    assert log.startswith("failed: ZeroDivisionError: by nothing\n")
    assert "Traceback (most recent call last):" in log


def test_the_night_of_today_is_the_default(lab: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    began = datetime.now(UTC).date()
    found = document(lab, capsys, "nightly")
    assert began <= date.fromisoformat(found["night"]) <= datetime.now(UTC).date()


def test_nights_that_cannot_be_are_refused(lab: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(lab, capsys, "nightly", "--date", "2026-13-01")
    assert line == "--date '2026-13-01' is no day, must be YYYY-MM-DD"
    line = refused(lab, capsys, "nightly", "--date", "2999-01-01")
    assert line == "night 2999-01-01: begins 2999-01-01T00:00:00+00:00, must not lie in the future"
    record, day = Record(lab.engine), FIRST + timedelta(days=2)
    mine = record.begin(Key("nightly", f"live/{day}"), {"now": 0, "parents": {}})
    line = refused(lab, capsys, "nightly", "--date", day)
    assert line == f"nightly live/{day}: {mine.owner} is doing it; wait for it, or end it first"
    record.end(mine, FAILED, {}, "stopped")
    lab.write("gate: {margn: 1}\n")
    try:
        assert "nightly.yaml:1: gate.margn: " in refused(lab, capsys, "nightly", "--date", DAY)
    finally:
        lab.write(ONE_ARM)


def test_jobs_fit_eighty_columns(lab: Lines, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["jobs"], ["jobs", "--steps", "--limit", "100"], ["jobs", "--date", DAY]):
        capsys.readouterr()
        assert lab(*words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].split() == ["started", "took", "status", "what", "id"]
        assert any(f"succeeded nightly live/{DAY}" in one for one in lines)
        assert any("  retrain popularity" in one for one in lines) == (len(words) > 1)


def test_jobs_as_a_document(lab: Lines, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(lab, capsys, "jobs", "--date", DAY, "--limit", "1000")
    assert set(found) == {"runs", "next"}
    assert {(one["job"], one["subject"]) for one in found["runs"]} == {("nightly", f"live/{DAY}")}
    steps = [one["step"] for one in reversed(found["runs"]) if one["step"]]
    assert steps == STEPS
    one = found["runs"][-1]
    assert one["seconds"] == (one["ended"] - one["started"]) / 1000
    assert {"status", "owner", "inputs", "outputs", "versions", "log", "error"} <= one.keys()
    assert document(lab, capsys, "jobs", "--job", "monitor")["runs"] == []
    assert {one["step"] for one in document(lab, capsys, "jobs")["runs"]} == {""}


def test_a_log_is_printed_by_the_beginning_of_its_id(
    lab: Lines, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = document(lab, capsys, "jobs", "--date", DAY)["runs"]
    (gate,) = [one for one in runs if one["step"] == "gate"]
    assert lab("jobs", "--log", gate["id"]) == 0
    assert "units: 60 units can be asked, at least 20" in capsys.readouterr().out
    says = "see `armlift jobs --steps`"
    assert refused(lab, capsys, "jobs", "--log", "nobody") == f"--log 'nobody' names no run; {says}"
    assert refused(lab, capsys, "jobs", "--log", "") == f"--log '' names several runs; {says}"
    (lab.folder / gate["log"]).unlink()
    assert refused(lab, capsys, "jobs", "--log", gate["id"]).endswith(
        "cannot be read: No such file or directory"
    )


def test_a_schedule_that_is_none_is_refused(lab: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    for text, line, key in (
        ('run: live\nschedule: {cron: "61 3 * * *"}\n', 2, "schedule"),
        ('monitor:\n  schedule: {cron: "* *"}\n', 2, "monitor.schedule"),
        ("schedule: {cron: 30 3 * * *, timezone: Mars/Olympus}\n", 1, "schedule"),
    ):
        lab.write(text)
        try:
            says = refused(lab, capsys, "schedule")
        finally:
            lab.write(ONE_ARM)
        assert says.startswith(f"{lab.folder}/nightly.yaml:{line}: {key}: ")
        assert "is no schedule" in says


def test_a_rehearsal_ends_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lab"
    make_lab(folder)
    define(
        folder, "popularity", "random",
        more="simulation: {history_days: 2, videos: 60, taste_categories: 6, rows_per_session: 8}\n",
    )  # fmt: skip
    lenient = "gate: {minimum_units: 5, minimum_behaviours: 20, margin: 0.99, alpha: 0.001,\n"
    more = "       most_lost_recall: 0.99, most_short_histories: 1}\n"
    (folder / "nightly.yaml").write_text(lenient + more)
    words = ["schedule", "--simulate", "e", "--users", "30", "--days", "1", "--lab", str(folder)]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "click_rate" in out
    assert "promote popularity" in err
    assert run([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["experiment"], report["mode"]) == ("e", "simulated")
    assert run(["jobs", "--json", "--lab", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["subject"] for one in found["runs"]] == [
        f"{report['run']}/2022-04-23",
        f"{report['run']}/2022-04-22",
    ]
    assert found["next"] == {}, "a rehearsal leaves the timetable alone"
    engine = open_database(Lab(folder))
    with engine.connect() as connection:
        versions = connection.execute(
            select(impressions.c.arm, impressions.c.arm_version).where(impressions.c.arm != "-").distinct()
        ).all()
    engine.dispose()
    assert len(versions) == 2
