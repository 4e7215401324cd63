"""The figures of docs/scale.md, and what the benchmark of scale keeps and writes."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
from capacity_table import DOCUMENT, filled
from scale_lab import A_REQUEST, AHEAD, DAYS, ScaleLab, messages
from scale_meter import Meter
from scale_results import UNITS, Results, costs_of, flatness, write_costs

from armlift.costs import Costs, read_costs, stock_costs
from armlift.days import DAY_MS
from armlift.events import KINDS, Codec

MEASURED_WITH = {"recommend_cpu": 12_000, "fit": 12_000, "epoch": 12_000, "prompts": 12_000}


def test_the_tables_of_the_document_are_those_of_the_stock_costs() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text, stock_costs()) == text, "run `python benchmarks/capacity_table.py --write`"


def test_every_cost_is_explained_in_the_document(root: Path) -> None:
    text = (root / "docs" / "scale.md").read_text(encoding="utf-8")
    section = text.partition("## The costs")[2].partition("## Spark")[0]
    for name in UNITS:
        family = name.partition("_")[0]
        assert f"`{name}`" in section or f"`{family}_*`" in section or f"`arms.*.{name}`" in section, name


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- plan --> must stand once"):
        filled("no tables", stock_costs())


@pytest.mark.parametrize("events", [1_200, 12_000])
def test_messages_are_distinct_events_over_all_days(events: int) -> None:
    lab = ScaleLab(None, None, "", events, 20_000 * DAY_MS)  # type: ignore[arg-type]
    codec, seen, units, days = Codec(KINDS), set[str](), Counter[str](), Counter[int]()
    for unit, raw in messages(lab):
        decoded, bad = codec.decode(raw)
        assert not bad
        assert len(decoded) == A_REQUEST
        seen.update(one.event_id for one in decoded)
        units[unit] += 1
        days[decoded[0].ts // DAY_MS - 20_000] += 1
    assert sum(units.values()) == lab.messages == AHEAD + events // A_REQUEST
    assert len(seen) == lab.all_events
    assert set(days) == set(range(DAYS))
    assert max(days.values()) - min(days.values()) <= 1
    assert 4 < lab.messages / len(units) < 8


def test_results_are_kept_by_size_and_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = Results(path)
    results.add("events", 100, {"ingest_time": (2.0, 90), "arms.a.fit": (1.0, 50)})
    results.add("events", 1000, {"ingest_time": (3.0, 900)})
    results.add("events", 1000, {"ingest_time": (2.5, 900)})
    again = Results(path)
    assert again.has("events", 100)
    assert not again.has("events", 10)
    assert not again.has("arms", 100)
    assert again.points() == {"ingest_time": {90: 2.0, 900: 2.5}, "arms.a.fit": {50: 1.0}}
    assert list(flatness(again)) == [("ingest_time", 90, 900, 1.25)]


def test_the_costs_written_are_those_measured(tmp_path: Path) -> None:
    results = Results(None)
    stock = stock_costs()
    for name, cost in stock.named():
        for point in cost.measured:
            results.add("all", point.size, {name: (point.value, point.size)})
    made = costs_of(results, "a machine", MEASURED_WITH)
    write_costs(tmp_path / "costs.yaml", made)
    found = read_costs(tmp_path / "costs.yaml")
    assert {name: cost.measured for name, cost in found.named()} == {
        name: cost.measured for name, cost in stock.named()
    }
    assert found.recommend_cpu.items == 12_000
    assert found.follow_cpu.items is None
    assert {cost.machine for _, cost in found.named()} == {"a machine"}
    made.pop("ingest_time")
    with pytest.raises(ValueError, match="ingest_time"):
        write_costs(tmp_path / "costs.yaml", made)


def test_every_cost_has_a_unit_in_the_benchmark() -> None:
    last = {name.rpartition(".")[2] for name, _ in stock_costs().named()}
    assert last == UNITS.keys()
    assert set(Costs.model_fields) - {"arms"} <= UNITS.keys()


def test_a_meter_counts_what_a_process_and_those_it_started_took() -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {json.dumps(busy)}])\ninput()"
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE) as process:
        meter = Meter(it=psutil.Process(process.pid))
        while meter.cpu("it") < 0.3 and meter.seconds < 60:
            pass
        assert meter.cpu("it") >= 0.3
        meter.set_back()
        assert meter.cpu("it") < 0.2
        assert process.stdin is not None
        process.stdin.close()
