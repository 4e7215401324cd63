"""The steps of a night that are done for each arm: retrain, evaluate, gate, promote, write prompts."""

from itertools import islice

import numpy as np

from armlift import processes, promotions, prompts
from armlift.arm import ArmConfig, Request, arm_class
from armlift.artefacts import MODEL_FILE, artefact_folder, definition_of, load_artefact, read_weights
from armlift.evaluation import BATCH
from armlift.fitted import FittedArms
from armlift.nightly import GateSettings
from armlift.store.database import writing
from armlift_pipelines import gate, next_day
from armlift_pipelines.dataset import Lesson
from armlift_pipelines.step import OF_DATA, Context, Inputs, Outputs, Step

BY = "nightly"
"""Whom the audit log names for what steps do."""
WRITTEN = 10_240
"""Units whose prompts are written at a time."""
_MEGABYTE = 1024 * 1024


def retrain(context: Context, inputs: Inputs) -> Outputs:
    """Train an arm, from the promoted version on where it can be and the definition is still the same.

    Of several processes that train it together, the first one says what came of it.
    """
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
    if not processes.is_first():
        return {}
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


OF_ARM = (
    Step(
        "retrain",
        (
            "arm",
            "scope",
            "definition",
            "mode",
            "experiment",
            "experiment_arms",
            "parent",
            "warm",
            "processes",
            *OF_DATA,
        ),
        ("candidate", "warm_from", "figures", "model_megabytes", "finite"),
        retrain,
    ),
    Step(
        "evaluate",
        ("arm", "candidate", "parent", "history_limit", "short_history", "minimum_units", "alpha", *OF_DATA),
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
        ("arm", "serving", "history_limit", "active_from", "watermark", "now", *OF_DATA),
        ("prompted", "prompts"),
        write_prompts,
    ),
)
"""What is done for each arm."""
