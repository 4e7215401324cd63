"""The steps of a night: small functions that say what they need and what they give.

A step is given its inputs by name and gives its outputs by name, both plain data, so that it can run in any
process, and so that the hash of its inputs names what it does: a step that has succeeded on equal inputs is
not done again. Everything large lies in the data set, the artefacts or the database.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Engine

from armlift import promotions, prompts
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.arm import ArmConfig, Request, arm_class
from armlift.artefacts import MODEL_FILE, artefact_folder, definition_of, load_artefact, read_weights
from armlift.durations import milliseconds
from armlift.errors import StoreError
from armlift.evaluation import BATCH
from armlift.fitted import FittedArms
from armlift.lab import Lab
from armlift.nightly import ArchiveSettings, GateSettings, RetentionSettings
from armlift.reproduction import take_report
from armlift.rollup import roll_up_all
from armlift.runs import Subjects, of_name
from armlift.store.database import reading, writing
from armlift_pipelines import drift, gate, next_day, retention
from armlift_pipelines.dataset import DATASETS, DataSet, Lesson, Span
from armlift_pipelines.dataset_build import build_from_sql
from armlift_pipelines.dataset_spark import archive_and_build

BY = "nightly"
"""Whom the audit log names for what steps do."""
WRITTEN = 10_240
"""Units whose prompts are written at a time."""
_MEGABYTE = 1024 * 1024


class Context(NamedTuple):
    """Where a step works."""

    lab: Lab
    engine: Engine

    @property
    def url(self) -> str:
        """Give where artefacts are."""
        return self.lab.resolve(self.lab.settings.artefact_url)

    def data(self, name: str) -> DataSet:
        """Open a data set of the lab."""
        return DataSet(self.lab.folder / DATASETS / name)


Inputs = Mapping[str, Any]
Outputs = dict[str, Any]


class Step(NamedTuple):
    """A step: its name, the inputs it needs, the outputs it gives, and what it does."""

    name: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    do: Callable[[Context, Inputs], Outputs]


def roll_up(context: Context, inputs: Inputs) -> Outputs:
    """Compute what marked cells of the rollup count."""
    roll_up_all(context.engine, Subjects())
    return {"rolled_up": inputs["watermark"]}


def build_dataset(context: Context, inputs: Inputs) -> Outputs:
    """Read what units did up to the watermark, for all arms, by the engine that is asked for."""
    name = inputs["night"] if inputs["run"] == "live" else f"{inputs['night']}-{inputs['run']}"
    span = Span(inputs["run"], inputs["first"], inputs["until"], inputs["watermark"])
    folder = context.lab.folder / DATASETS / name
    if inputs["engine"] == "spark":
        meta = archive_and_build(context.lab, context.engine, span, folder)
    else:
        meta = build_from_sql(context.engine, span, folder)
    return {
        "dataset": name,
        "data_hash": meta.data_hash,
        "behaviours": meta.learned,
        "units": meta.units,
        "items": meta.items,
    }


def retrain(context: Context, inputs: Inputs) -> Outputs:
    """Train an arm, from the promoted version on where it can be and the definition is still the same."""
    lab, config = context.lab, context.lab.arm(inputs["arm"])
    lesson = Lesson(
        context.data(inputs["dataset"]),
        inputs["mode"],
        inputs["arm"],
        inputs["experiment"],
        inputs["experiment_arms"],
    )
    parent = inputs["parent"]
    warm = parent if inputs["warm"] and _can_go_on(context, config, parent) else None
    fitted = FittedArms(lab, context.engine, scope=inputs["scope"])
    arm = fitted.arm(config, lesson, warm=warm, parent=parent)
    with artefact_folder(context.url, config.name, arm.version) as (folder, manifest):
        _, tensors = read_weights(folder, type(config))
        finite = all(np.isfinite(one).all() for one in tensors.values() if one.dtype.kind == "f")
        size = (folder / MODEL_FILE).stat().st_size / _MEGABYTE
    return {
        "candidate": arm.version,
        "warm_from": warm,
        "figures": dict(manifest.figures),
        "model_megabytes": size,
        "finite": bool(finite),
    }


def _can_go_on(context: Context, config: ArmConfig, parent: str | None) -> bool:
    """Tell whether training can go on from a version: the model can, and it is of the same definition."""
    if parent is None or "warm" not in arm_class(config.model).capabilities:
        return False
    with artefact_folder(context.url, config.name, parent) as (_, manifest):
        return dict(manifest.definition) == definition_of(config)


def evaluate(context: Context, inputs: Inputs) -> Outputs:
    """Ask the candidate and the version that serves for what units took in the time held out."""
    data, name = context.data(inputs["dataset"]), inputs["arm"]
    arm, _ = load_artefact(context.url, name, inputs["candidate"])
    test = next_day.held_out(
        data, name, arm.config.history_kinds, inputs["history_limit"], inputs["minimum_units"]
    )
    parent = inputs["parent"]
    found: Outputs = {
        "units": test.units,
        "asked": len(test.asked),
        "reranked": sum(one.reranked is not None for one in test.asked),
        "neutral": test.neutral,
        "short_histories": _short_histories(test, inputs["short_history"], arm.config.history_kinds),
        "metrics": {},
        "promoted": {},
        "compared": {},
    }
    if test.asked:
        measured = next_day.measure(arm, data, test)
        found["metrics"] = measured.metrics
        if parent is not None and parent != inputs["candidate"]:
            other, manifest = load_artefact(context.url, name, parent)
            before = next_day.measure(other, data, test)
            effects = next_day.compared(measured, before, inputs["alpha"])
            found["promoted"] = before.metrics
            found["promoted_until"] = manifest.data_until
            found["compared"] = {
                metric: {
                    "status": effect.status,
                    "lift": effect.lift,
                    "low": effect.lift_low,
                    "high": effect.lift_high,
                    "difference": effect.difference,
                }
                for metric, effect in effects.items()
            }
    return {"evaluation": found}


def _short_histories(test: next_day.Test, short: int, kinds: tuple[str, ...]) -> float:
    """Give the share of units whose history has fewer behaviours than `short`."""
    sizes = [sum(one.kind in kinds for one in asked.request.history) for asked in test.asked]
    return float(np.mean([size < short for size in sizes])) if sizes else 0.0


def judge(context: Context, inputs: Inputs) -> Outputs:
    """Ask every rule of the gate."""
    candidate = gate.Candidate(
        inputs["figures"],
        inputs["evaluation"],
        inputs["model_megabytes"],
        inputs["finite"],
        inputs["behaviours"],
        inputs["until"],
    )
    rulings = gate.judge(candidate, GateSettings.model_validate(inputs["gate"]))
    for one in rulings:
        print({True: "passes", False: "refuses", None: "-"}[one.passes], f"{one.rule}: {one.text}", sep="\t")
    reasons = gate.refusals(rulings)
    return {"passed": not reasons, "reasons": reasons, "rulings": [one._asdict() for one in rulings]}


def promote(context: Context, inputs: Inputs) -> Outputs:
    """Let a model that passed the gate serve; mark one that did not as refused."""
    arm, scope, version = inputs["arm"], inputs["scope"], inputs["candidate"]
    with writing(context.engine) as connection:
        state = promotions.named(connection, arm, scope, version).state
        if state == "promoted":
            return {"serving": version, "promoted": inputs["parent"] != version}
        if state == "refused":  # it was rolled back, or refused on these data before
            return {"serving": inputs["parent"], "promoted": False}
        if inputs["passed"]:
            promotions.promote(
                connection,
                arm,
                scope,
                version,
                at=inputs["now"],
                by=BY,
                reason=f"night {inputs['night']}",
            )
            return {"serving": version, "promoted": True}
        promotions.refuse(connection, arm, scope, version, inputs["reasons"], at=inputs["now"], by=BY)
    return {"serving": inputs["parent"], "promoted": False}


def write_prompts(context: Context, inputs: Inputs) -> Outputs:
    """Let the version that serves write prompts to every active unit, from its whole history."""
    name, version = inputs["arm"], inputs["serving"]
    if version is None or "prompts" not in arm_class(context.lab.arm(name).model).capabilities:
        return {"prompted": 0, "prompts": 0}
    arm, _ = load_artefact(context.url, name, version)
    limit = inputs["history_limit"]
    since, units, count, written = inputs["active_from"], 0, 0, inputs["now"]
    active = (one for one in context.data(inputs["dataset"]).histories() if one.behaviours[-1].ts >= since)
    while some := list(islice(active, WRITTEN)):
        said: dict[str, prompts.Told] = {}
        for start in range(0, len(some), BATCH):
            batch = some[start : start + BATCH]
            requests = [
                Request(one.unit, one.unit, inputs["watermark"], 1, one.behaviours[-limit:]) for one in batch
            ]
            for request, slate in zip(requests, arm.recommend(requests), strict=True):
                said[request.unit] = prompts.told(slate.prompts, request.history)
        with writing(context.engine) as connection:
            # Readers notice what was written later than what they have.
            prompts.write(connection, name, version, said, written=written)
        written += 1
        units += sum(bool(one.prompts) for one in said.values())
        count += sum(len(one.prompts) for one in said.values())
    return {"prompted": units, "prompts": count}


def report_drift(context: Context, inputs: Inputs) -> Outputs:
    """Compare the last day with the days before it."""
    with reading(context.engine) as connection:
        found = drift.drift(connection, inputs["run"], until_ms=inputs["watermark"])
    print(drift.render(found))
    return {"drift": found.as_dict()}


def snapshot(context: Context, inputs: Inputs) -> Outputs:
    """Take the report of every run that is read at night, as of the watermark."""
    made = {}
    with context.engine.connect() as connection:
        found = of_name(connection, inputs["run"])
    for run in found:
        report = take_report(context.engine, run, context.lab.calendar, as_of=inputs["watermark"] - 1)
        made[run.experiment] = report.snapshot
    return {"snapshots": made}


def archive(context: Context, inputs: Inputs) -> Outputs:
    """Write closed days of events to the archive; fails where it finds it damaged for good."""
    settings = ArchiveSettings.model_validate(inputs["archive"])
    place = Archive(context.lab.resolve(context.lab.settings.archive_url))
    done = archive_closed(context.engine, place, inputs["now"], after=milliseconds(settings.after))
    print(done.text())
    if not done.sound:
        raise StoreError("; ".join(done.complaints()))
    return {"archived": done.document()}


def retain(context: Context, inputs: Inputs) -> Outputs:
    """Delete what is older than what is kept."""
    settings, archived = RetentionSettings.model_validate(inputs["retention"]), inputs["archive"] is not None
    done = retention.retain(context.lab, context.engine, settings, now_ms=inputs["now"], archived=archived)
    return {"deleted": done}


_OF_DATA = ("dataset", "data_hash")
BEFORE = (
    Step("roll_up", ("run", "watermark"), ("rolled_up",), roll_up),
    Step(
        "build_dataset",
        ("run", "night", "first", "until", "watermark", "engine", "rolled_up"),
        (*_OF_DATA, "behaviours", "units", "items"),
        build_dataset,
    ),
)
"""What is done once, before the arms."""
OF_ARM = (
    Step(
        "retrain",
        ("arm", "scope", "definition", "mode", "experiment", "experiment_arms", "parent", "warm", *_OF_DATA),
        ("candidate", "warm_from", "figures", "model_megabytes", "finite"),
        retrain,
    ),
    Step(
        "evaluate",
        ("arm", "candidate", "parent", "history_limit", "short_history", "minimum_units", "alpha", *_OF_DATA),
        ("evaluation",),
        evaluate,
    ),
    Step(
        "gate",
        ("candidate", "evaluation", "figures", "model_megabytes", "finite", "behaviours", "until", "gate"),
        ("passed", "reasons", "rulings"),
        judge,
    ),
    Step(
        "promote",
        ("arm", "scope", "candidate", "parent", "passed", "reasons", "night", "now"),
        ("serving", "promoted"),
        promote,
    ),
    Step(
        "write_prompts",
        ("arm", "serving", "history_limit", "active_from", "watermark", "now", *_OF_DATA),
        ("prompted", "prompts"),
        write_prompts,
    ),
)
"""What is done for each arm."""
AFTER = (
    Step("drift", ("run", "watermark", "rolled_up"), ("drift",), report_drift),
    Step("snapshot", ("run", "watermark", "rolled_up"), ("snapshots",), snapshot),
    Step("archive", ("archive", "now"), ("archived",), archive),
    Step("retention", ("retention", "archive", "now"), ("deleted",), retain),
)
"""What is done once, after the arms."""
STEPS = {step.name: step for step in (*BEFORE, *OF_ARM, *AFTER)}
