"""Jobs, alerts and logs as markup: escaped, in plain words, with what is gone told as gone."""

import pytest

from armlift_dashboards import jobs_markup
from armlift_dashboards.jobs import Listing, Looks, Opened, Spent
from armlift_pipelines.alerts import Row
from armlift_pipelines.job_runs import JobRun
from armlift_pipelines.logs import Tail

NOW = 1_767_330_000_000


def run(**other: object) -> JobRun:
    values = {
        "id": "0123456789abcdef", "job": "nightly", "subject": "live/2026-01-02", "step": "", "arm": "",
        "scope": "", "attempt": 1, "status": "succeeded", "started": NOW - 90_000, "ended": NOW,
        "owner": "host:17:2.0", "seen": NOW, "inputs_hash": "abc", "inputs": {}, "outputs": {},
        "versions": {"armlift": "0.1.0"}, "log": None, "error": None,
    }  # fmt: skip
    return JobRun(**(values | other))  # type: ignore[arg-type]


def link(identity: str) -> str:
    return f"pipelines?run={identity}"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (119.94, "119.9 s"),
        (754, "12 min 34 s"),
        (7_199, "119 min 59 s"),
        (7_500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert jobs_markup.duration(seconds) == said


def test_a_running_job_says_for_how_long_and_a_lost_one_that_it_is_lost() -> None:
    going = run(status="running", ended=None)
    assert jobs_markup.took(going, frozenset(), NOW) == "90.0 s so far"
    assert "running" in jobs_markup.status(going, frozenset())
    assert jobs_markup.took(going, {going.id}, NOW) == "unknown"
    assert "its process is gone" in jobs_markup.status(going, {going.id})
    assert jobs_markup.is_going([run(), going])
    assert not jobs_markup.is_going([run()])


def test_runs_are_rows_with_links_and_errors_in_one_line() -> None:
    error = "OperationalError: <locked>\n" + "x" * 400
    looks = Looks(288, 1, run(job="monitor", subject="2026-01-02T04:55+00:00"))
    table = jobs_markup.runs_table(Listing([run(status="failed", error=error)], looks), set(), NOW, link)
    assert '<a href="pipelines?run=0123456789abcdef">night 2026-01-02, run live</a>' in table
    assert "OperationalError: &lt;locked&gt; xxx" in table
    assert "x…</td>" in table
    assert "monitor: 288 looks in the last 24 hours, 1 failed" in table
    assert 'href="pipelines?job=monitor"' in table


def test_an_opened_step_leads_back_to_its_night() -> None:
    step = run(step="gate", arm="recgpt", status="failed", error="a\nb <c>", outputs={"x": "</pre>"})
    page = jobs_markup.opened_run(Opened(step, [], run(id="f" * 32)), set(), NOW, link, "pipelines")
    assert f'<a href="pipelines?run={"f" * 32}">night 2026-01-02, run live</a>' in page
    assert "<h2" in page
    assert "Gate recgpt" in page
    assert "<pre" in page
    assert "a\nb &lt;c&gt;" in page
    assert "&lt;/pre&gt;" in page
    assert "armlift 0.1.0" in page
    assert "host:17<" in page


def test_an_opened_night_lists_its_steps() -> None:
    steps = [
        run(step="retrain", arm="recgpt", scope="*", outputs={"candidate": "v2"}),
        run(step="drift", status="failed", error="no space"),
    ]
    page = jobs_markup.opened_run(Opened(run(), steps, None), set(), NOW, link, "pipelines")
    assert "<td>every experiment</td>" in page
    assert "version v2" in page
    assert "no space" in page


def test_a_log_is_text() -> None:
    said = jobs_markup.log(Tail(["<b>", "2"], cut=True), "logs/x.log")
    assert "The last 2 lines of logs/x.log." in said
    assert "&lt;b&gt;\n2" in said
    assert "nothing was written" in jobs_markup.log(Tail([], cut=False), "logs/x.log")
    assert "logs/x.log: 1 line." in jobs_markup.log(Tail(["a"], cut=False), "logs/x.log")


def test_seconds_of_nights_are_summed() -> None:
    found = [
        Spent("2026-01-01", "data", 1.0),
        Spent("2026-01-02", "data", 2.0),
        Spent("2026-01-02", "train", 3.5),
    ]
    table = jobs_markup.spent_table(found)
    assert table.index("2026-01-02") < table.index("2026-01-01")
    assert '<td class="number">5.5</td>' in table
    assert '<td class="number">-</td>' in table


def test_alerts_say_how_often_they_were_seen_and_who_was_told() -> None:
    repeated = {"repeated": 4, "latest": {"at": NOW, "text": "older\nstill"}}
    rows = [
        Row(
            2, NOW, "stale_model", "recgpt/*", "old", repeated, {"webhook": "ok", "email": "failed: no route"}
        ),
        Row(1, NOW, "unheard_of", "x", "text", {}, {}),
    ]
    table = jobs_markup.alerts_table(rows)
    assert "model too old" in table
    assert "older still" in table
    assert '<td class="number">5</td>' in table
    assert "webhook: sent, email: not sent" in table
    assert "unheard_of" in table
    assert "nobody: no channel is set up for it" in table
