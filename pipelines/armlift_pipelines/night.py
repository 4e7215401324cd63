"""A night: all steps for one day's watermark, each done once, resumed where it was broken off.

A night is of a run and of a day of the lab's calendar: it knows the events before that day. What the arms'
parents were, and what time it was, is written down when a night is first begun, so that one that is resumed
comes to the same.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine

from armlift import promotions
from armlift.durations import milliseconds
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.fitted import definition_hash
from armlift.hashing import hash_of
from armlift.lab import Lab
from armlift.nightly import Nightly, StepSettings
from armlift.promotions import EVERY_EXPERIMENT
from armlift.runs import of_name
from armlift.started import every
from armlift_pipelines import worker
from armlift_pipelines.arm_steps import OF_ARM
from armlift_pipelines.dataset import DATASETS, DataSet
from armlift_pipelines.job_runs import FAILED, SKIPPED, SUCCEEDED, Heartbeat, JobRun, Key, Record
from armlift_pipelines.step import Context, Step
from armlift_pipelines.steps import AFTER, BEFORE, STEPS
from armlift_pipelines.worker import StepError, StoppedError

JOB = "nightly"
LOGS = "logs"
"""The folder of a lab that holds what steps wrote."""

Tell = Callable[[JobRun], None]
"""Told of every step as it ends."""


class Target(NamedTuple):
    """An arm that is trained for a scope, and from whose data."""

    arm: str
    scope: str
    mode: str
    experiment: str
    experiment_arms: tuple[str, ...]


class Plan(NamedTuple):
    """What a night works on; times are UTC milliseconds."""

    run: str
    night: str
    watermark: int
    now: int
    parents: dict[str, str | None]


class Result(NamedTuple):
    """What a night came to: its own row, and those of its steps, reused ones included, in their order."""

    run: JobRun
    steps: list[JobRun]

    @property
    def refused(self) -> list[JobRun]:
        """Give the gates that refused a model."""
        return [one for one in self.steps if one.step == "gate" and one.outputs.get("passed") is False]

    @property
    def failed(self) -> list[JobRun]:
        """Give the steps that failed."""
        return [one for one in self.steps if one.status == FAILED]


class Night:
    """One night of a lab."""

    def __init__(
        self, lab: Lab, engine: Engine, day: date, *, now: int, run: str | None = None,
        experiments: Sequence[str] | None = None, stop: threading.Event | None = None,
        tell: Tell | None = None,
    ) -> None:  # fmt: skip
        """Plan the night before `day`; `run` and `experiments` stand in place of the definition's.

        Raises InputError for a day that is not over yet at `now`.
        """
        self._lab, self._engine = lab, engine
        self._nightly: Nightly = lab.nightly
        self._now, self._day = now, day
        self._stop = stop or threading.Event()
        self._tell = tell or (lambda _: None)
        self._record = Record(engine)
        self._run = run or self._nightly.run
        self._names = experiments or self._nightly.experiments
        self._scope = self._record.patiently(self._scope_of_run)
        self.key = Key(JOB, f"{self._run}/{day}")
        self.watermark = lab.calendar.parse(day)
        if self.watermark > now:
            raise InputError(
                f"night {day}: begins {lab.calendar.show(self.watermark)}, must not lie in the future"
            )

    def targets(self) -> list[Target]:
        """List the arms to train, once a scope.

        That is `*`, or an experiment's own where its arms must not learn from each other. What learns from
        simulated users serves in their run alone.
        """
        lab, found = self._lab, dict[tuple[str, str], Target]()
        for name, experiment in self._experiments().items():
            pooled = experiment.training_data == "pooled"
            for arm in experiment.arms:
                target = Target(
                    arm,
                    self._scope or (EVERY_EXPERIMENT if pooled else name),
                    experiment.training_data,
                    "" if pooled else name,
                    () if pooled else tuple(experiment.arms),
                )
                found.setdefault((arm, target.scope), target)
        default = Target(lab.settings.default_arm, self._scope or EVERY_EXPERIMENT, "pooled", "", ())
        found.setdefault((default.arm, default.scope), default)
        return [one for one in found.values() if self._nightly.of_arm(one.arm).steps]

    def _experiments(self) -> dict[str, Experiment]:
        """Give the experiments whose arms are trained: those of the lab, and those that run, as they run."""
        lab = self._lab
        with self._engine.connect() as connection:
            started = {one.name: one for one in every(connection)}
        begun = [name for name, one in started.items() if one.state != "stopped"]
        names = self._names or dict.fromkeys([*lab.experiment_names(), *begun])
        found: dict[str, Experiment] = {}
        for name in names:
            one = started.get(name)
            if one is None or self._scope is not None:
                found[name] = lab.experiment(name)
            elif one.state != "stopped":
                found[name] = one.experiment
        return found

    def _scope_of_run(self) -> str | None:
        with self._engine.connect() as connection:
            simulated = any(one.simulated for one in of_name(connection, self._run))
        return self._run if simulated else None

    def done(self) -> bool:
        """Tell whether the night has succeeded before."""
        newest = self._record.newest(self.key)
        return newest is not None and newest.status == SUCCEEDED

    def run(self) -> Result:
        """Do what of the night is not done yet.

        Raises BusyError where another process does it, and StoppedError once it was told to stop.
        """
        targets, plan = self._record.patiently(self._plan)
        mine = self._record.begin(self.key, plan._asdict())
        steps: list[JobRun] = []
        served: dict[str, str | None] = {}
        try:
            with Heartbeat(self._record, mine):
                for one in self._steps(plan, targets, served):
                    steps.append(one)
                    self._tell(one)
        except BaseException as error:
            stopped = isinstance(error, StoppedError | KeyboardInterrupt)
            self._record.end(mine, FAILED, {}, "stopped" if stopped else f"{type(error).__name__}: {error}")
            raise
        failed = [str(one.key) for one in steps if one.status == FAILED]
        outputs = {"steps": len(steps), "failed": failed, "served": served}
        line = f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}" if failed else None
        return Result(self._record.end(mine, FAILED if failed else SUCCEEDED, outputs, line), steps)

    def _plan(self) -> tuple[list[Target], Plan]:
        """Plan the night as it was planned when it was first begun, with what was added to the lab since."""
        targets = self.targets()
        parents: dict[str, str | None] = {}
        with self._engine.connect() as connection:
            for one in targets:
                asked = promotions.promoted if self._scope else promotions.serving_version
                serving = asked(connection, one.arm, one.scope)
                parents[name_of(one.arm, one.scope)] = None if serving is None else serving.version
        plan = Plan(self._run, str(self._day), self.watermark, self._now, parents)
        first = self._record.first(self.key)
        if first is None or first.status == SKIPPED:
            return targets, plan
        kept = {name: version for name, version in first.inputs["parents"].items() if name in parents}
        return targets, plan._replace(now=first.inputs["now"], parents=parents | kept)

    def _steps(
        self, plan: Plan, targets: Sequence[Target], served: dict[str, str | None]
    ) -> Iterator[JobRun]:
        """Do all steps; writes into `served` what serves after them."""
        nightly, data = self._nightly, self._nightly.data
        values: dict[str, Any] = {
            "run": plan.run,
            "night": plan.night,
            "watermark": plan.watermark,
            "now": plan.now,
            "engine": data.engine,
            "until": plan.watermark - milliseconds(data.holdout),
            "first": plan.watermark - milliseconds(data.window),
            "active_from": plan.watermark - milliseconds(data.active),
            "history_limit": self._lab.settings.history_limit,
            "short_history": nightly.gate.short_history,
            "minimum_units": nightly.gate.minimum_units,
            "alpha": nightly.gate.alpha,
            "gate": nightly.gate.model_dump(mode="json"),
            "archive": None if nightly.archive is None else nightly.archive.model_dump(mode="json"),
            "retention": nightly.retention.model_dump(mode="json"),
        }
        before, failed = yield from self._chain(BEFORE, values)
        for target in targets:
            parent = plan.parents[name_of(target.arm, target.scope)]
            if failed:
                break
            chain = [step for step in OF_ARM if step.name in nightly.of_arm(target.arm).steps]
            found, _ = yield from self._chain(chain, values | before | self._of_target(target, parent))
            served[name_of(target.arm, target.scope)] = found.get("serving", parent)
        if not failed:
            yield from self._chain(self._after(), values | before, go_on=True)

    def _after(self) -> list[Step]:
        """List the steps after the arms."""
        # A rehearsal that is broken off meets its days anew, with the models and prompts they had.
        left_out = {"archive", "retention"} if self._scope is not None else set[str]()
        if self._nightly.archive is None:
            left_out.add("archive")
        return [step for step in AFTER if step.name not in left_out]

    def _of_target(self, target: Target, parent: str | None) -> dict[str, Any]:
        config = self._lab.arm(target.arm)
        return {
            **target._asdict(),
            "experiment_arms": list(target.experiment_arms),
            "definition": definition_hash(config),
            "warm": self._nightly.of_arm(target.arm).warm,
            "processes": self._nightly.of_arm(target.arm).processes,
            "parent": parent,
            "serving": parent,
        }

    def _chain(
        self, steps: Sequence[Step], values: dict[str, Any], *, go_on: bool = False
    ) -> Generator[JobRun, None, tuple[dict[str, Any], bool]]:
        """Do steps one after another, each with what those before it gave; gives all that, and if one failed.

        After a step that failed the next ones are not done, but with `go_on` they are.
        """
        given: dict[str, Any] = {}
        failed = False
        for step in steps:
            if failed and not go_on:
                break
            done = self._step(step, values | given)
            given |= {name: done.outputs[name] for name in step.gives if name in done.outputs}
            failed = failed or done.status == FAILED
            yield done
        return given, failed

    def _step(self, step: Step, values: Mapping[str, Any]) -> JobRun:
        """Do a step, unless it has succeeded on the same inputs before, with its retries."""
        inputs = {name: values[name] for name in step.needs}
        key = self.key._replace(step=step.name, arm=values.get("arm", ""), scope=values.get("scope", ""))
        known = self._record.done(key, hash_of(inputs))
        if known is not None and not self._lost(known):
            return known
        settings = self._nightly.of_step(step.name)
        wait = milliseconds(settings.backoff) / 1000.0
        for retry in range(settings.retries + 1):
            done, lasting = self._attempt(step, key, inputs, settings)
            if done.status == SUCCEEDED or lasting or retry == settings.retries:
                break
            if self._stop.wait(wait * 2**retry):
                raise StoppedError("stopped")
        return done

    def _lost(self, known: JobRun) -> bool:
        """Tell whether the data set that a step gave is gone, or no more what it was."""
        name = known.outputs.get("dataset")
        if name is None:
            return False
        try:
            data = DataSet(self._lab.folder / DATASETS / name)
        except InputError:
            return True
        built: str = known.outputs["data_hash"]
        return data.meta.data_hash != built

    def _attempt(
        self, step: Step, key: Key, inputs: Mapping[str, Any], settings: StepSettings
    ) -> tuple[JobRun, bool]:
        log = self._log_of(key)
        mine = self._record.begin(key, inputs, log=str(log.relative_to(self._lab.folder)))
        arguments = {"step": step.name, "lab": str(self._lab.folder), **self._urls(), "inputs": dict(inputs)}
        try:
            number = inputs.get("processes", 1)
            work = worker.run(do, arguments, settings, log, self._stop, number=number)
        except StepError as error:
            outputs = {"step_megabytes": round(error.megabytes, 1)}
            return self._record.end(mine, FAILED, outputs, str(error)), error.lasting
        except BaseException:
            self._record.end(mine, FAILED, {}, "stopped")
            raise
        outputs = {**work.outputs, "step_megabytes": round(work.megabytes, 1)}
        return self._record.end(mine, SUCCEEDED, outputs), False

    def _log_of(self, key: Key) -> Path:
        parts = [key.step, key.arm, "" if key.scope == EVERY_EXPERIMENT else key.scope]
        folder = self._lab.folder / LOGS / key.subject.replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{'-'.join(filter(None, parts))}.log"

    def _urls(self) -> dict[str, str]:
        """Give the URLs in force, also where a command was given others than the settings'."""
        settings = self._lab.settings
        return {"database": settings.database_url, "stream": settings.stream_url}


def do(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do a step in the process it has for itself."""
    from armlift.store.database import open_database

    lab = Lab(Path(arguments["lab"]), database=arguments["database"], stream=arguments["stream"])
    engine = open_database(lab)
    try:
        return STEPS[arguments["step"]].do(Context(lab, engine), arguments["inputs"])
    finally:
        engine.dispose()


def served_after(engine: Engine, run: str, night: str) -> dict[str, str | None]:
    """Give the version of each arm that serves after a night, by `name_of`; nothing before it."""
    newest = Record(engine).newest(Key(JOB, f"{run}/{night}"))
    return {} if newest is None else dict(newest.outputs.get("served", {}))


def name_of(arm: str, scope: str) -> str:
    """Name an arm in a scope."""
    return f"{arm}/{scope}"
