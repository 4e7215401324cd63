"""Runs: each one's identity, what it was run with, and what became of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.hashing import hash_of
from armlift.metric import METRICS, Metric, Metrics
from armlift.rollup_rows import Subject
from armlift.store.tables import runs

LIVE = "live"
"""The mode of a run whose events happen now."""
IMPORTED = "imported"
"""The mode of a run whose experiment was run elsewhere, and is over."""
SIMULATED = "simulated"
"""The mode of a run whose users are simulated."""
RERANK, MATCH, INTERLEAVED, DENSE, SIMULATE = REPLAYS = (
    "rerank",
    "match",
    "interleaved",
    "dense",
    "simulate",
)
"""The modes of a replay: arms order what a log shows, or recall; then only what a session of the log shows
counts, or all that the log holds as a matrix, or all, with outcomes of a model fitted on the log. In
`interleaved` slates are drafted of two arms'; such a run is paired, for every unit meets both."""
RERANK, MATCH, INTERLEAVED, DENSE, SIMULATE = REPLAYS


class Run(NamedTuple):
    """A row of `runs`; `definition` holds {"experiment": ..., "metrics": ...} as they were."""

    run: str
    number: int
    experiment: str
    mode: str
    paired: bool
    k: int
    seed: int
    state: str
    synthetic: bool
    definition: Mapping[str, object]
    arms: Mapping[str, str]
    log: Mapping[str, object]
    resolution: Mapping[str, Any]
    dropped: Mapping[str, int]

    @property
    def finished(self) -> bool:
        """Tell whether the run came to its end."""
        return self.state == "finished"

    @property
    def replayed(self) -> bool:
        """Tell whether the run replayed a log: then units come when the log says, whatever an arm does."""
        return self.mode in REPLAYS

    @property
    def live(self) -> bool:
        """Tell whether events happen now, and more may come."""
        return self.mode == LIVE

    @property
    def imported(self) -> bool:
        """Tell whether the experiment was run elsewhere."""
        return self.mode == IMPORTED

    @property
    def modelled(self) -> bool:
        """Tell whether a model fitted on a log answered in the units' place."""
        return self.mode == SIMULATE

    @property
    def shows_all(self) -> bool:
        """Tell whether all that an arm shows counts, so that a unit met by an arm has impressions."""
        return self.mode not in (MATCH, DENSE)

    @property
    def simulated(self) -> bool:
        """Tell whether the users are simulated: they come back, or not, as their arm pleases them."""
        return self.mode == SIMULATED

    @property
    def interleaved(self) -> bool:
        """Tell whether slates were drafted of two arms', so that the run tells a preference and no lift."""
        return self.mode == INTERLEAVED

    def parsed(self) -> tuple[Experiment, Metrics]:
        """Give the experiment and the metrics as they were."""
        experiment = Experiment.model_validate(self.definition["experiment"])
        return experiment, METRICS.validate_python(self.definition["metrics"])


def definition_of(experiment: Experiment, metrics: Mapping[str, Metric]) -> dict[str, object]:
    """Give an experiment and its metrics as plain data."""
    return {
        "experiment": experiment.model_dump(mode="json"),
        "metrics": {name: metric.model_dump(mode="json") for name, metric in metrics.items()},
    }


def run_identity(parts: Mapping[str, object]) -> str:
    """Name a run by what determines it: 16 hexadecimal digits of the hash of `parts`."""
    return hash_of(parts)[:16]


def begin(connection: Connection, run: Run) -> Run:
    """Store a run that starts, or give the stored one of the same identity."""
    found = find(connection, run.run, run.experiment)
    if found is not None:
        return found
    number = connection.execute(select(func.coalesce(func.max(runs.c.number), 0))).scalar_one() + 1
    run = run._replace(number=number)
    connection.execute(insert(runs).values(run._asdict()))
    return run


def finish(
    connection: Connection, run: Run, *, resolution: Mapping[str, object], dropped: Mapping[str, int]
) -> Run:
    """Mark a run as finished, with what it counted; gives it as it is stored now."""
    return change(connection, run, state="finished", resolution=dict(resolution), dropped=dict(dropped))


def change(connection: Connection, run: Run, **values: Any) -> Run:
    """Store new values of some of a run's columns; gives it as it is stored now."""
    same = (runs.c.run == run.run, runs.c.experiment == run.experiment)
    connection.execute(update(runs).where(*same).values(values))
    found = find(connection, run.run, run.experiment)
    assert found is not None
    return found


def find(connection: Connection, run: str, experiment: str) -> Run | None:
    """Read one run of an experiment."""
    same = (runs.c.run == run, runs.c.experiment == experiment)
    row = connection.execute(select(runs).where(*same)).first()
    return Run(*row) if row else None


def of_name(connection: Connection, run: str) -> list[Run]:
    """Read what has the events of a run: one experiment, or all that are live in it."""
    found = connection.execute(select(runs).where(runs.c.run == run).order_by(runs.c.number))
    return [Run(*row) for row in found]


def latest(connection: Connection, experiment: str, run: str | None) -> Run:
    """Give a run of an experiment, the newest when none is named; raises InputError that lists them."""
    rows = connection.execute(
        select(runs).where(runs.c.experiment == experiment).order_by(runs.c.number)
    ).all()
    found = [Run(*row) for row in rows]
    if not found:
        raise InputError(
            f"experiment {experiment!r} has no run yet; make one with `armlift replay {experiment}`"
        )
    if run is None:
        return found[-1]
    for one in found:
        if one.run == run:
            return one
    known = ", ".join(f"{one.run} ({one.mode})" for one in found)
    raise InputError(f"--run {run!r} is not a run of {experiment!r}, must be one of {known}")


class Subjects:
    """Say in which experiments and metrics a run's events count.

    It remembers what it has read, but for live runs: they may get another experiment at any time.
    """

    def __init__(self) -> None:
        self._known: dict[str, Subject] = {}

    def __call__(self, connection: Connection, names: set[str]) -> Sequence[Subject]:
        """Give the subjects of some runs; events of runs that are not stored count in no metric."""
        found: list[Subject] = []
        for name in sorted(names):
            if name in self._known:
                found.append(self._known[name])
                continue
            for run in of_name(connection, name):
                found.append(subject_of(run))
                if not run.live:
                    self._known[name] = found[-1]
        return found


def subject_of(run: Run) -> Subject:
    """Say what the rollup must know of a run."""
    _, metrics = run.parsed()
    return Subject(run.run, run.experiment, metrics, run.paired)
