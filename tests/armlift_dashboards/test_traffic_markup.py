"""Ingest, events and assignments as markup, in each state."""

from armlift.check import Check
from armlift.ingest_metrics import Figures
from armlift.ingest_status import Progress, Status
from armlift.ingesters import State
from armlift_dashboards import traffic_markup
from armlift_dashboards.ingest_watch import Look
from armlift_dashboards.series import Arrived
from armlift_dashboards.traffic import ArmShare, Events, Split

RECENT = {"records": 10.0, "events": 500.0, "batches": 1.0, "batch_seconds": 0.2, "seconds": 5.0}
EVER = Figures(40, 2000, 3, 1900, 4, 0.8, {"stream": 2, "database": 0}, "torn \x1b[31m <b>")
ALIVE = State("host", 17, 130.0, 2.0, EVER, RECENT)
GONE = State("host", 18, 7500.0, 40.0, EVER, RECENT)


def test_all_is_well() -> None:
    status = Status("s", [Progress(0, 1000, 1000, 0)], [ALIVE], 0, 0, {})
    written = traffic_markup.ingest(Look(status, missing=False, trouble=None))
    for said in (
        "0 records",
        "1 running",
        "100 events/s lately",
        "all was stored",
        "host:17",
        "2 min 10 s ago",
    ):
        assert said in written
    assert "2 stream; the last: torn \\x1b[31m &lt;b&gt;" in written
    assert "dead-letters" not in written


def test_what_is_behind_gone_and_bad() -> None:
    status = Status(
        "s", [Progress(0, 10, 40, 30), Progress(1, 5, 10, 5)], [GONE], 7, 14, {"no <kind>\x00": 12}
    )
    written = traffic_markup.ingest(Look(status, missing=False, trouble=None))
    for said in ("35 records", "none running", "1 gone without a word", "7 marks", "no &lt;kind&gt;\\x00"):
        assert said in written
    assert "<td>other reasons" not in written
    assert 'other reasons</td><td class="number">2</td>' in written
    assert "armlift dead-letters list" in written
    assert "2 h 5 min ago" in written


def test_without_the_stream_its_lag_is_unknown() -> None:
    status = Status("", [], [], 0, 0, {})
    for look in (Look(status, missing=True, trouble=None), Look(status, missing=False, trouble="away")):
        written = traffic_markup.ingest(look)
        assert "unknown" in written
        assert "<table" not in written


def test_events_are_rows_by_day() -> None:
    found = [Events("live", 20_455, 1200, 24, 100.0), Events("old", 20_454, 48, None, 2.0)]
    table = traffic_markup.events_table(found, {"live": "live (demo)"})
    assert "02 Jan 2026" in table
    assert "live (demo)" in table
    assert '<td class="number">24 (2.00%)</td>' in table
    assert '<td class="number">-</td>' in table


def test_shares_stand_beside_what_was_planned() -> None:
    checks = [
        Check("srm", "fail", 1e-6, "the split is off"),
        Check("srm_always_valid", "no_data", None, "none"),
    ]
    found = Split(0, [ArmShare("a", 30, 25.0), ArmShare("b", 70, 75.0)], checks, [])
    written = traffic_markup.split(found, "as of noon")
    assert "100 units, as of noon" in written
    assert '<td class="number">30</td><td class="number">30.0%</td>' in written
    assert '<td class="number">25</td><td class="number">25.0%</td>' in written
    assert "Sample ratio (p = 1e-06)" in written
    assert '<span class="badge fail">' in written
    empty = traffic_markup.split(found._replace(arms=[ArmShare("a", 0, 0.0)], checks=[]), "as of noon")
    assert "unknown" in empty


def test_days_are_rows_with_a_column_an_arm() -> None:
    days = [Arrived("a", 20_454, 3), Arrived("a", 20_455, 5), Arrived("b", 20_455, 6)]
    table = traffic_markup.days_table(days, ["a", "b"])
    assert table.index("02 Jan 2026") < table.index("01 Jan 2026")
    assert '<td class="number">5</td><td class="number">6</td><td class="number">11</td>' in table
    assert '<td class="number">3</td><td class="number">0</td><td class="number">3</td>' in table


def test_a_part_has_its_heading() -> None:
    assert "<h2" in traffic_markup.heading("Events by day", "said", "events")
