"""Running experiments: started from their file, then ramped, paused, resumed and stopped in SQL.

A definition in YAML is a draft. What was started is read from SQL alone (see `started`): its definition, in
versions, the phases as they went, and the state. Every change is a transaction with a row in the audit log.
"""

from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Connection, delete, select, text

from armlift import decisions, runs
from armlift.complaints import first_complaint
from armlift.days import utc_text
from armlift.errors import InputError
from armlift.experiment import Experiment, Phase, Weights
from armlift.lab import Lab
from armlift.metric import Metrics
from armlift.revisions import changes, periods
from armlift.rollup import rebuild
from armlift.runs import LIVE, Run, definition_of
from armlift.started import (
    RunningExperiment,
    State,
    add_phase,
    every,
    find,
    keep_version,
    run_of,
    running,
    set_state,
)
from armlift.store.tables import exposures, phases

__all__ = [
    "RunningExperiment", "Started", "end", "every", "find", "lock", "pause", "ramp", "resume", "run_of",
    "running", "start", "stop",
]  # fmt: skip

PROMOTED = "promoted"
"""The version of a live run's arms: whichever is promoted, night by night; exposures bear the true one."""


class Started(NamedTuple):
    """What `start` did: the experiment, and a line for each key that a new version of it changes.

    `new` tells whether there is a new version; there is none where its file is as it was.
    """

    running: RunningExperiment
    changes: list[str]
    new: bool


def start(
    connection: Connection, lab: Lab, name: str, *,
    reason: str, by: str, at: int, begins: int | None = None, run: str = LIVE,
) -> Started:  # fmt: skip
    """Start an experiment of a lab, or take up what has changed in the file of one that was started.

    It begins at `begins` (UTC milliseconds; default `at`, now), or later where its first phase says so; its
    events bear `run`, which it may share with other live experiments. Raises InputError for a key that is
    frozen, a stopped experiment, a slice of a layer that another one owns, and phases that lie behind.
    """
    decisions.check_told(reason, by)
    experiment = lab.experiment(name)
    metrics = lab.metrics_of(experiment)
    lab.split(experiment)
    lock(connection)
    before = find(connection, name)
    if before is not None:
        return _revise(connection, lab, before, (experiment, metrics), reason=reason, by=by, at=at)
    _check_layer(connection, experiment)
    starts = _starts(lab, experiment, at if begins is None else begins)
    _begin_run(connection, lab, experiment, metrics, run, starts[0])
    keep_version(connection, (experiment, metrics), 1, run=run, state="running", by=by, at=at)
    for number, (begin, phase) in enumerate(zip(starts, experiment.phases, strict=True)):
        add_phase(connection, name, number, begin, phase, reason, by)
    made = _changed(connection, name)
    more = {"run": run, "hash": made.hash, "changes": []}
    _log(connection, "start", None, made, reason=reason, by=by, at=at, **more)
    return Started(made, [], new=True)


def _revise(
    connection: Connection, lab: Lab, before: RunningExperiment, file: tuple[Experiment, Metrics], *,
    reason: str, by: str, at: int,
) -> Started:  # fmt: skip
    """Store a new version of an experiment that was started, where its file has changed."""
    _not_stopped(before)
    went = periods(before.experiment, lab.calendar)
    found = changes(before.definition, *file, went, lab.calendar)
    if not found:
        return Started(before, [], new=False)
    keep_version(connection, file, before.version + 1, run=before.run, state=before.state, by=by, at=at)
    made = _changed(connection, before.name)
    _log(connection, "start", before, made, reason=reason, by=by, at=at, hash=made.hash, changes=found)
    return Started(made, found, new=True)


def ramp(
    connection: Connection, name: str, traffic: float, weights: Weights | None = None, *,
    reason: str, by: str, at: int, **more: Any,
) -> RunningExperiment:  # fmt: skip
    """Begin a new phase now, at `at` (UTC milliseconds), in place of any that were planned for later.

    Units that have met an arm keep it. New weights start a new generation. `more` is added to the audit log.
    Raises InputError unless traffic is a share, weights name all arms, and the experiment has begun and is
    not stopped.
    """
    decisions.check_told(reason, by)
    lock(connection)
    before = _started(connection, name)
    _not_stopped(before)
    phase = _phase(before.experiment, traffic, weights)
    if before.phase_at(at) is None:
        raise InputError(
            f"experiment {name}: begins at {utc_text(before.starts[0])}, must have begun to be ramped"
        )
    dropped = _next_phase(connection, before, phase, reason, by, at)
    made = _changed(connection, name)
    _log(connection, "ramp", before, made, reason=reason, by=by, at=at, dropped=dropped, **more)
    return made


def pause(
    connection: Connection, name: str, *, reason: str, by: str, at: int, **more: Any
) -> RunningExperiment:
    """Let nobody meet the arms until `resume`; `more` is added to the audit log."""
    return _turn(connection, name, "pause", "running", "paused", reason=reason, by=by, at=at, **more)


def resume(connection: Connection, name: str, *, reason: str, by: str, at: int) -> RunningExperiment:
    """Let a paused experiment go on as before: units keep their arms."""
    return _turn(connection, name, "resume", "paused", "running", reason=reason, by=by, at=at)


def stop(connection: Connection, name: str, *, reason: str, by: str, at: int) -> RunningExperiment:
    """End an experiment for good: nobody meets the arms any more, and its run is finished."""
    decisions.check_told(reason, by)
    before, made = end(connection, name, reason=reason, by=by, at=at)
    _log(connection, "stop", before, made, reason=reason, by=by, at=at)
    return made


def end(
    connection: Connection, name: str, *, reason: str, by: str, at: int
) -> tuple[RunningExperiment, RunningExperiment]:
    """End an experiment for good; gives it before and after, for whoever writes the audit log."""
    lock(connection)
    before = _started(connection, name)
    _not_stopped(before)
    if before.phase_at(at) is not None:
        _next_phase(connection, before, Phase(traffic=0.0), reason, by, at)
    set_state(connection, before, "stopped")
    run = run_of(connection, before)
    runs.change(connection, run, state="finished", log={**run.log, "last_ts": max(at, before.starts[0])})
    return before, _changed(connection, name)


def _turn(
    connection: Connection, name: str, action: str, old: State, new: State, *,
    reason: str, by: str, at: int, **more: Any,
) -> RunningExperiment:  # fmt: skip
    decisions.check_told(reason, by)
    lock(connection)
    before = _started(connection, name)
    if before.state != old:
        raise InputError(f"experiment {name}: is {before.state}, must be {old}")
    set_state(connection, before, new)
    made = _changed(connection, name)
    _log(connection, action, before, made, reason=reason, by=by, at=at, **more)
    return made


def lock(connection: Connection) -> None:
    """Let one process at a time change experiments; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE experiments IN SHARE ROW EXCLUSIVE MODE"))


def _started(connection: Connection, name: str) -> RunningExperiment:
    found = find(connection, name)
    if found is None:
        raise InputError(f"experiment {name}: was not started; `armlift experiment start {name}` does it")
    return found


def _not_stopped(one: RunningExperiment) -> None:
    if one.state == "stopped":
        raise InputError(
            f"experiment {one.name}: is stopped for good, must be running or paused; make a new experiment, "
            "with a name of its own"
        )


def _check_layer(connection: Connection, experiment: Experiment) -> None:
    """Refuse a slice of a layer that another started experiment has units of."""
    low, high = experiment.layer.slice
    for other in every(connection):
        start, end = other.experiment.layer.slice
        same = other.state != "stopped" and other.experiment.layer.name == experiment.layer.name
        if same and low < end and start < high:
            raise InputError(
                f"experiment {experiment.name}: layer.slice: [{low}, {high}] overlaps [{start}, {end}] of "
                f"{other.name}, which is {other.state} in layer {experiment.layer.name}, must be apart"
            )


def _starts(lab: Lab, experiment: Experiment, begins: int) -> list[int]:
    """Give the start of each phase (UTC milliseconds); all but the first must lie ahead."""
    written = [start for start, _, _ in periods(experiment, lab.calendar)]
    starts = [max(begins, written[0] or begins)]
    for number, start in enumerate(written[1:], start=1):
        assert start is not None
        if start <= starts[-1]:
            raise InputError(
                f"experiment {experiment.name}: phases.{number}.start: {lab.calendar.show(start)} must be "
                f"later than the phase before, which begins at {lab.calendar.show(starts[-1])}"
            )
        starts.append(start)
    return starts


def _phase(experiment: Experiment, traffic: float, weights: Weights | None) -> Phase:
    """Check a phase that people ask for."""
    try:
        phase = Phase(traffic=traffic, weights=weights)
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise InputError(f"--{key}: {first_complaint(error, None, None).text}") from error
    if phase.weights is not None and set(phase.weights) != set(experiment.arms):
        raise InputError(
            f"--weights: name {', '.join(phase.weights)}, must name the experiment's arms: "
            f"{', '.join(experiment.arms)}"
        )
    return phase


def _begin_run(
    connection: Connection, lab: Lab, experiment: Experiment, metrics: Metrics, name: str, begins: int
) -> None:
    """Store the run that holds an experiment's events; counts those that came before it was started."""
    for other in runs.of_name(connection, name):
        if not other.live:
            raise InputError(
                f"--run {name!r}: is a run of {other.experiment} in mode {other.mode}, must be live"
            )
    kinds = sorted(lab.settings.kinds.names)
    log = {"format": "live events", "first_ts": begins, "last_ts": begins, "kinds": kinds}
    counts = {"rows": 0, "random_rows": None, "compared": 0}
    definition, arms = definition_of(experiment, metrics), dict.fromkeys(experiment.arms, PROMOTED)
    run = Run(
        name, 0, experiment.name, LIVE, False, 0, 0, "running", False, definition, arms, log, counts, {}
    )
    begun = runs.begin(connection, run)
    there = select(exposures.c.run).where(exposures.c.run == name, exposures.c.experiment == experiment.name)
    if connection.scalar(there.limit(1)) is not None:
        rebuild(connection, runs.subject_of(begun))


def _next_phase(
    connection: Connection, one: RunningExperiment, phase: Phase, reason: str, by: str, at: int
) -> list[dict[str, Any]]:
    """Add a phase behind those that have begun; gives the planned ones it takes the place of."""
    begun = sum(start <= at for start in one.starts)
    later = zip(one.starts[begun:], one.experiment.phases[begun:], strict=True)
    dropped = [{"start": start, "traffic": p.traffic, "weights": p.weights} for start, p in later]
    connection.execute(delete(phases).where(phases.c.experiment == one.name, phases.c.number >= begun))
    add_phase(connection, one.name, begun, max(at, one.starts[begun - 1] + 1), phase, reason, by)
    return dropped


def _changed(connection: Connection, name: str) -> RunningExperiment:
    """Give an experiment as it is now, and have its run know its phases, for reports."""
    made = _started(connection, name)
    definition = definition_of(made.experiment, made.metrics)
    runs.change(connection, run_of(connection, made), definition=definition)
    return made


def _log(
    connection: Connection, action: str, before: RunningExperiment | None, made: RunningExperiment, *,
    reason: str, by: str, at: int, **more: Any,
) -> None:  # fmt: skip
    """Write to the audit log what was done, with how the experiment stood before and stands now."""
    stood = None if before is None else before.summary()
    details = {"reason": reason, "before": stood, "after": made.summary(), **more}
    decisions.log(connection, at=at, by=by, action=action, subject=f"experiment/{made.name}", details=details)
