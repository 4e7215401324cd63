"""The overview of experiments: of each how it stands, and the lift its newest report tells."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from sqlalchemy import Engine, select

from armlift import started
from armlift.comparisons import Comparison
from armlift.days import DAY_MS
from armlift.experiment import Experiment
from armlift.lab import Lab
from armlift.rendering.reading import shown
from armlift.report import Report
from armlift.runs import Run
from armlift.store.database import reading
from armlift.store.tables import decisions
from armlift_dashboards.stored import Taken

Kind = Literal["draft", "stopped", "shipped", "no_data", "unhealthy", "ready", "days_left", "healthy"]
BADGES: Mapping[Kind, tuple[str, str, str]] = {
    "draft": ("✎", "draft", ""),
    "stopped": ("■", "stopped", ""),
    "shipped": ("✓", "shipped", "ok"),
    "no_data": ("?", "no data", ""),
    "unhealthy": ("✕", "unhealthy", "fail"),
    "ready": ("✓", "ready to ship", "ok"),
    "days_left": ("…", "{} left", "warn"),
    "healthy": ("●", "healthy", "ok"),
}
"""Symbol, words and colour of each status."""
STALE_AFTER = 2 * DAY_MS
"""Milliseconds after which the report of a live experiment is old."""


class Overview(NamedTuple):
    """An experiment at a glance; `at` is its report's time (UTC milliseconds), None without one.

    `traffic` is the share of the layer's units in the newest phase, `days` how many it has run. `leads` is
    the comparison of the first primary metric whose arm does best.
    """

    name: str
    description: str
    kind: Kind
    days_left: int | None
    mode: str | None
    synthetic: bool
    arms: Mapping[str, float]
    control: str
    traffic: float
    days: int | None
    units: int | None
    leads: Comparison | None
    at: int | None
    run: str | None
    stale: bool

    @property
    def badge(self) -> tuple[str, str, str]:
        """Give symbol, words and colour of its status."""
        symbol, words, colour = BADGES[self.kind]
        left = "" if self.days_left is None else f"{self.days_left} day{'s' if self.days_left != 1 else ''}"
        return symbol, words.format(left), colour


def overviews(
    lab: Lab,
    engine: Engine,
    runs: Sequence[Run],
    taken: Sequence[Taken],
    read: Callable[[str], Report],
    now: int,
) -> list[Overview]:
    """Tell of every experiment that has a run or a file in the lab: those that run first, drafts last.

    `runs` come newest first, `read` gives a snapshot's report, `now` is UTC milliseconds.
    """
    with reading(engine) as connection:
        states = {one.name: one.state for one in started.every(connection)}
        d = decisions.c
        shipped = set(connection.scalars(select(d.experiment).where(d.action == "ship")))
    newest: dict[str, Run] = {}
    for run in runs:
        newest.setdefault(run.experiment, run)
    found = [
        _of_run(run, states.get(name), name in shipped, taken, read, now) for name, run in newest.items()
    ]
    found += [_draft(lab.experiment(name)) for name in lab.experiment_names() if name not in newest]
    order = {"draft": 2, "stopped": 1, "shipped": 1}
    return sorted(found, key=lambda one: (order.get(one.kind, 0), one.name))


def _draft(experiment: Experiment) -> Overview:
    return Overview(
        experiment.name, experiment.description, "draft", None, None, False, experiment.arms,
        experiment.control, experiment.phases[-1].traffic, None, None, None, None, None, stale=False,
    )  # fmt: skip


def _of_run(
    run: Run,
    state: str | None,
    shipped: bool,
    taken: Sequence[Taken],
    read: Callable[[str], Report],
    now: int,
) -> Overview:
    experiment, _ = run.parsed()
    snapshot = next((one for one in taken if (one.run, one.experiment) == (run.run, run.experiment)), None)
    report = None if snapshot is None else read(snapshot.id)
    days = None
    if report is not None and snapshot is not None:
        days = max(1, round((snapshot.as_of - int(str(run.log.get("cut", run.log["first_ts"])))) / DAY_MS))
    return Overview(
        run.experiment, experiment.description, _kind(report, state, shipped),
        None if report is None else report.verdict.days_left, run.mode, run.synthetic, experiment.arms,
        experiment.control, experiment.phases[-1].traffic, days,
        None if report is None else report.progress.units, None if report is None else _leading(report),
        None if snapshot is None else snapshot.as_of, run.run, is_stale(run, snapshot, now),
    )  # fmt: skip


def is_stale(run: Run, newest: Taken | None, now: int) -> bool:
    """Tell whether a run is live, and has no report of the last two days."""
    return run.live and not run.finished and (newest is None or now - newest.as_of > STALE_AFTER)


def _kind(report: Report | None, state: str | None, shipped: bool) -> Kind:
    if shipped:
        return "shipped"
    if state == "stopped":
        return "stopped"
    if report is None or not report.progress.units:
        return "no_data"
    if report.verdict.status == "broken" or any(check.status == "fail" for check in report.checks):
        return "unhealthy"
    if report.verdict.status == "ship":
        return "ready"
    return "healthy" if report.verdict.days_left is None else "days_left"


def _leading(report: Report) -> Comparison | None:
    """Give the comparison of the first primary metric with the best lift, for its direction."""
    name = report.experiment.metrics.primary[0]
    sign = 1 if report.metrics[name].direction == "increase" else -1
    rows = [one for one in shown(report) if one.metric == name and one.segment is None]
    known = [one for one in rows if one.lift is not None]
    return max(known, key=lambda one: sign * (one.lift or 0.0)) if known else next(iter(rows), None)
