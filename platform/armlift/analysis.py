"""Analysis of a frame with one row a unit: the report's statistics and verdict, without a lab or a stream.

The units go into a scratch database as those of an import would, and the report is made from there, so that
both give the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, get_type_hints

import polars as pl
from pydantic import ValidationError
from sqlalchemy import Engine

from armlift.comparisons import Comparison
from armlift.complaints import first_complaint
from armlift.days import Calendar, utc_now
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.imported_rows import NO_VERSION, content_of, name_of, str_of
from armlift.metric import Metrics, measures
from armlift.preferences import Preferred
from armlift.report import Report, make_report
from armlift.runs import IMPORTED, Run, definition_of, run_identity
from armlift.segments import segment_name, tell
from armlift.store.database import scratch, writing
from armlift.store.sink import append
from armlift.store.tables import exposures, unit_days
from armlift.unit_frame import Columns, UnitFrame, part_name, read_frame
from armlift.unit_metrics import UnitMetrics, columns_of, metric_of, read_metrics

CALENDAR = Calendar("UTC")
SLICE = 100_000
"""Rows that are written at a time."""
_TYPES = {int: pl.Int64, str: pl.String, str | None: pl.String, float | None: pl.Float64}


@dataclass(frozen=True, repr=False)
class Analysis:
    """What an analysis found; printed it is the text report, in a notebook the HTML one."""

    made: Report

    @property
    def report(self) -> dict[str, Any]:
        """Give the report as plain data, as `armlift report --json` does."""
        return self.made.as_dict()

    @property
    def comparisons(self) -> pl.DataFrame:
        """Give a row for each metric, challenger and segment, with the report's columns."""
        hints = get_type_hints(Comparison).items()
        schema = {name: _TYPES[kind] for name, kind in hints if name not in Preferred._fields}
        return pl.DataFrame([one.as_dict(preferences=False) for one in self.made.comparisons], schema=schema)

    def __str__(self) -> str:
        from rich.console import Console

        from armlift.rendering.text import print_report

        out = StringIO()
        print_report(self.made, Console(file=out, width=80, highlight=False))
        return out.getvalue()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from armlift.rendering.html import render
        from armlift.rendering.markup import tag

        # In a frame of its own, so that neither page's styles meet the other's.
        return tag("iframe", srcdoc=render(self.made), style="width:100%;height:80vh;border:0", sandbox="")


def analyze(
    frame: Any,
    metrics: Mapping[str, Any],
    *,
    control: object,
    unit: str | None = "unit_id",
    arm: str = "arm",
    stratum: str | None = None,
    segments: Sequence[str] = (),
    weights: Mapping[Any, float] | None = None,
    alpha: float = 0.05,
    minimum_units: int = 30,
    smallest_lift: float | None = None,
    name: str = "analysis",
) -> Analysis:
    """Compare the arms of a polars or pandas frame that has one row a unit.

    `metrics` maps a metric's name to {"kind": "mean", "proportion", "ratio" or "quantile", ...}:

    - mean, proportion, quantile: `value`, a column (default: the metric's name); `covariate`, a column from
      before the experiment (mean and proportion); `winsorise`, such as 0.99 (mean); `quantile`, such as 0.9;
    - ratio: `numerator` and `denominator`, columns; `covariate`, a mapping with the same two keys;
    - all: `role` (primary, secondary, guardrail), `direction` (increase, decrease), `margin` (a fraction).

    `control` is a value of the column `arm`; in the report arms are in lower case. With `unit` None each row
    is a unit. Arms are compared within each `stratum`, and again within each value of the columns `segments`,
    whose p-values are adjusted together by Benjamini and Hochberg and move no verdict. `weights` is the
    planned share of each arm, relative to their sum; equal if not given. Values of metrics must be known;
    covariates may be null. Raises InputError, one line that names what is wrong.

    >>> frame = pl.DataFrame({"arm": ["a", "b"] * 50, "clicks": [0, 1, 1, 2] * 25})
    >>> analyze(frame, {"clicks": {"kind": "mean"}}, control="a", unit=None).report["verdict"]["status"]
    'ship'
    """
    asked = read_metrics(metrics)
    columns = Columns(unit, arm, stratum, segments)
    found = read_frame(frame, asked, columns, control=control, arms=weights or ())
    known = {str_of(one): weight for one, weight in (weights or {}).items()}
    experiment = _experiment(
        {
            "name": name,
            "arms": {slug: known.get(told, 1.0) for told, slug in found.arms.items()},
            "control": next(iter(found.arms.values())),
            "metrics": {
                part: [metric for metric, one in asked.items() if one.role == role]
                for part, role in (
                    ("primary", "primary"),
                    ("secondary", "secondary"),
                    ("guardrails", "guardrail"),
                )
            },
            "analysis": {
                "alpha": alpha,
                "minimum_units": minimum_units,
                "smallest_lift": smallest_lift,
                "segments": segments,
            },
        }
    )
    definitions = {metric: metric_of(metric, one) for metric, one in asked.items()}
    run = _describe(experiment, definitions, found, utc_now())
    with scratch() as engine:
        _store(engine, run, asked, found.units, segments)
        return Analysis(make_report(engine, run, CALENDAR))


def _experiment(definition: dict[str, Any]) -> Experiment:
    try:
        return Experiment.model_validate(definition)
    except ValidationError as error:
        location, text = first_complaint(error, Experiment, definition)
        raise InputError(f"{'.'.join(map(str, location))}: {text}".removeprefix("analysis.")) from error


def _describe(experiment: Experiment, metrics: Metrics, found: UnitFrame, now: int) -> Run:
    definition = definition_of(experiment, metrics)
    content = name_of(content_of(found.units))
    identity = {
        "analysis": 1,
        "definition": definition,
        "experiment": experiment.content_hash,
        "frame": content,
    }
    return Run(
        run=run_identity(identity),
        number=1,
        experiment=experiment.name,
        mode=IMPORTED,
        paired=False,
        k=0,
        seed=0,
        state="finished",
        synthetic=False,
        definition=definition,
        arms=dict.fromkeys(experiment.arms, NO_VERSION),
        log={
            "format": "frame",
            "rows": len(found.units) + sum(found.dropped.values()),
            "last_ts": now,
            "kinds": sorted(
                {measure.event for one in metrics.values() for measure in measures(one).values()}
            ),
        },
        resolution={"rows": len(found.units), "random_rows": None, "compared": 0},
        dropped=found.dropped,
    )


def _store(
    engine: Engine, run: Run, metrics: UnitMetrics, units: pl.DataFrame, segments: Sequence[str]
) -> None:
    """Write each unit's exposure, segments and totals, as an import would."""
    now = int(str(run.log["last_ts"]))
    day = CALENDAR.day(now)
    named = units.with_row_index("number").select(
        pl.lit(day).alias("request_day"),
        pl.lit(day).alias("day"),
        pl.lit(run.run) + pl.col("number").cast(pl.String).str.zfill(16),
        pl.lit(run.run).alias("run"),
        pl.lit(now).alias("ts"),
        "unit_id",
        pl.lit(run.experiment).alias("experiment"),
        pl.lit(0).alias("generation"),
        "phase",
        "arm",
        pl.lit(NO_VERSION).alias("arm_version"),
        pl.lit(False).alias("forced"),
        pl.lit(False).alias("fallback"),
    )
    with writing(engine) as connection:
        for part in named.iter_slices(SLICE):
            append(connection, exposures, part.rows())
        for attribute in segments:
            values = units.select("unit_id", pl.lit(now), segment_name(attribute))
            tell(connection, run.run, attribute, values.iter_rows())
        for name, one in metrics.items():
            there = columns_of(name, one)
            for side, prefix in (("post", ""), ("pre", "pre_")):
                if f"{prefix}num" not in there:
                    continue
                num = pl.col(part_name(name, f"{prefix}num"))
                den = pl.col(part_name(name, f"{prefix}den")) if f"{prefix}den" in there else pl.lit(0.0)
                told = units.filter(num.is_not_null(), den.is_not_null()).select(
                    pl.lit(run.run).alias("run"),
                    pl.lit(run.experiment).alias("experiment"),
                    "unit_id",
                    pl.lit(day).alias("day"),
                    pl.lit(name).alias("metric"),
                    pl.lit(side).alias("side"),
                    "arm",
                    num.alias("num"),
                    den.alias("den"),
                    (num * num).alias("num_sq"),
                )
                for part in told.iter_slices(SLICE):
                    append(connection, unit_days, part.rows())
