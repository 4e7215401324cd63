"""What jobs did, written out: long times, long names and errors of several lines fit 80 columns."""

import time

from armlift.days import Calendar
from armlift_pipelines.history import came_to, line, render
from armlift_pipelines.job_runs import FAILED, RUNNING, SUCCEEDED, JobRun

NOW = time.time_ns() // 1_000_000


def run(status: str = SUCCEEDED, **other: object) -> JobRun:
    values = {
        "id": "0123456789abcdef", "job": "nightly", "subject": "0123456789abcdef/2022-04-22", "step": "",
        "arm": "", "scope": "", "attempt": 1, "status": status, "started": NOW - 500_000_000, "ended": NOW,
        "owner": "host:1:2.0", "seen": NOW, "inputs_hash": "", "inputs": {}, "outputs": {}, "versions": {},
        "log": None, "error": None,
    }  # fmt: skip
    return JobRun(**(values | other))  # type: ignore[arg-type]


def test_rows_fit_eighty_columns() -> None:
    error = (
        "OperationalError: (sqlite3.OperationalError) database is locked\n[SQL: UPDATE job_runs\n  SET x]" * 3
    )
    runs = [
        run(),
        run(RUNNING, started=NOW - 90_000_000, ended=None),
        run(FAILED, error=error, started=NOW - 999),
        run(step="write_prompts", arm="a" * 63, scope="0123456789abcdef"),
    ]
    lines = render(runs, {"nightly": "2022-04-23T03:30:00+08:00"}, Calendar("Asia/Shanghai")).splitlines()
    assert len(lines) == 1 + len(runs) + 1 + 1
    assert max(map(len, lines)) <= 80
    assert "nightly 0123456789abcdef/2022-04-22 012345" in lines[1]
    assert lines[1].split()[2:4] == ["500,000", "s"]
    assert lines[2].split()[3:5] == ["s…", "running"]
    assert lines[3].split()[2:4] == ["1.0", "s"]
    assert lines[4].startswith(
        "  OperationalError: (sqlite3.OperationalError) database is locked [SQL: UPDATE"
    )
    assert lines[-1] == "next nightly: 2022-04-23T03:30:00+08:00"
    assert render([], {}, Calendar("UTC")) == "no job was done yet"


def test_a_step_is_a_line_as_it_ends() -> None:
    outputs = {"prompts": 1_200, "prompted": 600}
    said = line(run(step="write_prompts", arm="recgpt", scope="e", outputs=outputs, started=NOW - 1_500))
    assert said.split("  ")[0] == "write_prompts recgpt (e)"
    assert said.endswith("succeeded in 1.5 s: 1,200 prompts to 600 units")
    assert line(run(FAILED, step="drift", error="it broke", started=NOW)).endswith(
        "failed in 0.0 s: it broke"
    )


def test_steps_say_what_they_came_to() -> None:
    assert came_to(run(step="drift", outputs={"drift": {"status": "fail"}})) == "large drift"
    assert came_to(run(step="roll_up")) == ""
    assert came_to(run(FAILED, step="drift")) == ""
