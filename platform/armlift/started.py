"""Experiments that were started, as they are in SQL: the one source for whoever serves or reports them.

What changes them stands in `running`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, insert, select, update

from armlift import runs
from armlift.experiment import Experiment, Phase
from armlift.lab import Lab
from armlift.metric import Metrics
from armlift.revisions import parsed
from armlift.runs import Run, definition_of
from armlift.splitter import Split
from armlift.store.tables import experiments, phases

State = Literal["running", "paused", "stopped"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RunningExperiment:
    """An experiment that was started, as it is in SQL.

    `experiment` has its phases as they went, `starts` are theirs in UTC milliseconds; `version`, `hash` and
    `definition` are of its file as it was started last. Its events bear the run `run`.
    """

    experiment: Experiment
    metrics: Metrics
    state: State
    starts: tuple[int, ...]
    version: int
    hash: str
    definition: Mapping[str, Any]
    run: str

    @property
    def name(self) -> str:
        """Give the experiment's name."""
        return self.experiment.name

    @property
    def paused(self) -> bool:
        """Tell whether nobody meets its arms at present."""
        return self.state != "running"

    def phase_at(self, now: int) -> int | None:
        """Give the phase at a time (UTC milliseconds); None before the first, when nobody meets the arms."""
        begun = sum(start <= now for start in self.starts)
        return begun - 1 if begun else None

    def split(self, lab: Lab) -> Split:
        """Prepare for assignment: while it is paused or stopped everybody gets the default arm, unexposed."""
        return lab.split(self.experiment, paused=self.paused)

    def summary(self) -> dict[str, Any]:
        """Say in plain data how it stands, for the audit log."""
        last = self.experiment.phases[-1]
        phase = {"number": len(self.starts) - 1, "start": self.starts[-1], "traffic": last.traffic}
        return {"state": self.state, "version": self.version, "phase": {**phase, "weights": last.weights}}


def every(connection: Connection) -> list[RunningExperiment]:
    """Read all experiments that were ever started, by name."""
    rows = connection.execute(select(experiments).order_by(experiments.c.experiment, experiments.c.version))
    newest = {row.experiment: row for row in rows}
    return [_read(connection, row) for row in newest.values()]


def running(connection: Connection) -> list[RunningExperiment]:
    """Read the experiments that run, by name: those that are neither paused nor stopped."""
    return [one for one in every(connection) if one.state == "running"]


def find(connection: Connection, name: str) -> RunningExperiment | None:
    """Read an experiment that was started, whatever its state; None for a draft."""
    same = select(experiments).where(experiments.c.experiment == name)
    row = connection.execute(same.order_by(experiments.c.version.desc()).limit(1)).first()
    return None if row is None else _read(connection, row)


def run_of(connection: Connection, one: RunningExperiment) -> Run:
    """Give the run that holds an experiment's events."""
    found = runs.find(connection, one.run, one.name)
    assert found is not None
    return found


def _read(connection: Connection, row: Row[Any]) -> RunningExperiment:
    experiment, metrics = parsed(row.definition)
    same = select(phases).where(phases.c.experiment == row.experiment).order_by(phases.c.number)
    went = connection.execute(same).all()
    found = [Phase(start=_time(one.start), traffic=one.traffic, weights=one.weights) for one in went]
    return RunningExperiment(
        experiment.model_copy(update={"phases": tuple(found)}), metrics, row.state,
        tuple(one.start for one in went), row.version, row.hash, row.definition, row.run,
    )  # fmt: skip


def _time(ts: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ts)


def keep_version(
    connection: Connection,
    file: tuple[Experiment, Metrics],
    version: int,
    *,
    run: str,
    state: State,
    by: str,
    at: int,
) -> None:
    """Store the newest version of an experiment's file."""
    row = {
        "experiment": file[0].name,
        "version": version,
        "definition": definition_of(*file),
        "hash": file[0].content_hash,
        "run": run,
        "state": state,
        "by": by,
        "at": at,
    }
    connection.execute(insert(experiments).values(row))


def add_phase(
    connection: Connection, name: str, number: int, start: int, phase: Phase, reason: str, by: str
) -> None:
    """Store a phase that begins at a time (UTC milliseconds)."""
    row = {
        "experiment": name,
        "number": number,
        "start": start,
        "traffic": phase.traffic,
        "weights": phase.weights,
        "reason": reason,
        "by": by,
    }
    connection.execute(insert(phases).values(row))


def set_state(connection: Connection, one: RunningExperiment, state: State) -> None:
    """Store an experiment's new state."""
    newest = (experiments.c.experiment == one.name, experiments.c.version == one.version)
    connection.execute(update(experiments).where(*newest).values(state=state))
