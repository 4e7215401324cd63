"""What the page Results lets people take with them: CSV, JSON and a picture."""

import csv
import io
import json
from dataclasses import asdict

import altair as alt
import pandas as pd
import vl_convert

from armlift.rendering.forest_table import Scale, all_units
from armlift.rendering.reading import read
from armlift.rendering.words import SYNTHETIC
from armlift.report import Report

COLOURS = {"better": "#0072b2", "worse": "#c44e00", "open": "#59636e"}
SHAPES = {"better": "circle", "worse": "diamond", "open": "stroke"}


def as_csv(report: Report) -> str:
    """Write every comparison in a line: all its numbers, run and snapshot, and whether it is synthetic."""
    rows = [
        {"run": report.run.run, "snapshot": report.snapshot, "as_of": report.as_of,
         "synthetic": report.run.synthetic, **asdict(one)}
        for one in report.comparisons
    ]  # fmt: skip
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(report: Report) -> str:
    """Write the report as `armlift report --json` does."""
    return json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_png(report: Report, scale: Scale) -> bytes:
    """Draw the comparisons of all units as a picture, with the verdict's sentence above; 2 pixels a point."""
    return bytes(vl_convert.vegalite_to_png(picture(report, scale).to_dict(), scale=2))


def picture(report: Report, scale: Scale) -> alt.VConcatChart:
    """Draw the comparisons of all units, a panel a metric, each with an axis of its own."""
    alpha = report.experiment.analysis.alpha
    panels = []
    for name in report.experiment.metrics.roles:
        rows = []
        for one in all_units(report, "primary", "secondary", "guardrail"):
            ends = scale.ends(one)
            if one.metric != name or ends.point is None or ends.low is None:
                continue
            effect = read(one, report.metrics[name], alpha, early=report.early).effect
            rows.append({"arm": one.arm, "effect": effect, **ends._asdict()})
        if rows:
            panels.append(_panel(name, rows, scale))
    title = [report.sentence, f"{report.experiment.name}, run {report.run.run}, as of {report.as_of}"]
    title += [SYNTHETIC] if report.run.synthetic else []
    chart: alt.VConcatChart = alt.vconcat(*panels, title=alt.TitleParams(title, anchor="start", fontSize=13))
    drawn: alt.VConcatChart = chart.configure_view(stroke=None)
    return drawn


def _panel(name: str, rows: list[dict[str, object]], scale: Scale) -> alt.LayerChart | alt.FacetChart:
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("arm:N", title=None),
        color=alt.Color(
            "effect:N", legend=None, scale=alt.Scale(domain=[*COLOURS], range=[*COLOURS.values()])
        ),
    )
    axis = alt.Axis(format="+.1%") if scale.name == "lift" else alt.Axis()
    thin = base.mark_rule(strokeWidth=1).encode(
        x=alt.X("always_low:Q", title=f"{scale.name} of {name}", axis=axis), x2="always_high:Q"
    )
    thick = base.mark_rule(strokeWidth=4).encode(x="low:Q", x2="high:Q")
    shape = alt.Shape("effect:N", legend=None, scale=alt.Scale(domain=[*SHAPES], range=[*SHAPES.values()]))
    points = base.mark_point(filled=True, size=90, opacity=1).encode(x="point:Q", shape=shape)
    words = (
        base.transform_calculate(said=f"format(datum.point, '{'+.1%' if scale.name == 'lift' else '+.4g'}')")
        .mark_text(dy=-12)
        .encode(x="point:Q", text="said:N")
    )
    zero = alt.Chart(pd.DataFrame([{"zero": 0.0}])).mark_rule(strokeDash=[4, 3]).encode(x="zero:Q")
    return alt.layer(zero, thin, thick, points, words).properties(width=620, height=alt.Step(34))


def file_name(report: Report, ending: str) -> str:
    """Name a file of a report."""
    mark = "synthetic-" if report.run.synthetic else ""
    return f"{mark}{report.experiment.name}-{report.snapshot or report.run.run}.{ending}"
