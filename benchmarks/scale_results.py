"""What was measured of scale, kept by size, so that what was broken off goes on; its file of costs."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from armlift.costs import Costs

UNITS = {
    "stream_bytes": "bytes/event",
    "broker_cpu": "core s/event",
    "ingest_time": "s/event",
    "ingest_cpu": "core s/event",
    "ingest_sql_cpu": "core s/event",
    "rollup_time": "s/event",
    "rollup_sql_cpu": "core s/event",
    "sql_event_bytes": "bytes/event",
    "sql_unit_day_bytes": "bytes/unit-day",
    "recommend_cpu": "core s/request",
    "accept_cpu": "core s/event",
    "follow_cpu": "core s/event",
    "archive_time": "s/event",
    "archive_bytes": "bytes/event",
    "dataset_time": "s/event",
    "report_time": "s/unit-day",
    "spark_report_cpu": "core s/event",
    "spark_dataset_cpu": "core s/event",
    "spark_dataset_time": "s/event",
    "fit": "core s/behaviour",
    "epoch": "core s/behaviour",
    "prompts": "core s/user",
    "item_memory": "bytes/item",
}


class Results:
    """Measurements of parts at sizes, a line of JSON each in a file, or in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self._found: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, part: str, size: int) -> bool:
        """Tell whether a part was measured at a size."""
        return any((one["part"], one["size"]) == (part, size) for one in self._found)

    def add(self, part: str, size: int, costs: Mapping[str, tuple[float, int]]) -> None:
        """Keep what a part came to at a size."""
        date = datetime.now(UTC).date().isoformat()
        self._found.append({"part": part, "size": size, "date": date, "costs": dict(costs)})
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._found[-1]) + "\n")

    def points(self) -> dict[str, dict[int, float]]:
        """Give each cost by the size it was measured at, the smallest first; of one size the last."""
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for one in self._found:
            for name, (value, size) in one["costs"].items():
                found[name][int(size)] = value
        return {name: dict(sorted(points.items())) for name, points in found.items()}

    def date(self, name: str) -> str:
        """Give the day a cost was last measured."""
        return str(next(one["date"] for one in reversed(self._found) if name in one["costs"]))


def costs_of(results: Results, machine: str, items: Mapping[str, int]) -> dict[str, Any]:
    """Give what a file of costs holds; `items` by the last part of the names of costs that they matter to."""
    made: dict[str, Any] = {}
    for name, points in results.points().items():
        *above, last = name.split(".")
        place = made
        for key in above:
            place = place.setdefault(key, {})
        place[last] = {
            "unit": UNITS[last],
            "measured": [{"size": size, "value": float(f"{value:.3g}")} for size, value in points.items()],
            **({"items": items[last]} if last in items else {}),
            "benchmark": "bench_scale",
            "machine": machine,
            "date": results.date(name),
        }
    return made


def write_costs(path: Path, costs: Mapping[str, Any]) -> None:
    """Write a file of costs in the order of their model, once it is complete."""
    Costs.model_validate_json(json.dumps(costs))
    ordered = {name: costs[name] for name in Costs.model_fields}
    text = yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, width=110)
    path.write_text(_HEAD + text, encoding="utf-8")


_HEAD = """\
# What an event, a request and a night of a user cost, measured by `benchmarks/bench_scale.py --costs FILE`.
# `armlift capacity` plans with the value at the largest size.
"""


class _Dumper(yaml.SafeDumper):
    """Writes a point on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mapping(dumper: _Dumper, data: dict[str, Any]) -> yaml.Node:
    flow = data.keys() == {"size", "value"}
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=flow)


_Dumper.add_representer(dict, _mapping)


def flatness(results: Results) -> Iterator[tuple[str, int, int, float]]:
    """Give each cost of an event at its largest size against its smallest: name, both sizes, ratio."""
    for name, points in results.points().items():
        if UNITS[name.rpartition(".")[2]].endswith("/event") and len(points) > 1:
            (small, first), *_, (large, last) = points.items()
            yield name, small, large, last / first
