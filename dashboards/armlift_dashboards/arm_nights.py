"""Nights of an arm: the offline figures of each candidate, and of the version that served, night by night."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, and_, or_, select

from armlift.store.tables import job_runs

MOST_ROWS = 1_000
"""Attempts of steps that are read, the newest ones: about 200 nights."""
SHARED = ("roll_up", "build_dataset")
"""Steps without which no arm is trained."""
NightState = Literal["promoted", "passed", "refused", "failed", "running", "trained"]


class Figure(NamedTuple):
    """An offline figure: its name, the title of its axis with the unit, and what it is."""

    name: str
    axis: str
    text: str


FIGURES = (
    Figure(
        "rerank_NDCG@10",
        "rerank NDCG@10 (0 to 1)",
        "How well the arm orders what units were shown: 1 is the best order. Higher is better; the gate "
        "compares it unless it is told otherwise.",
    ),
    Figure(
        "NDCG@10",
        "NDCG@10 (0 to 1)",
        "How high what units took stands among the first 10 of the whole catalogue. Higher is better.",
    ),
    Figure(
        "HR@10",
        "HR@10 (share of units)",
        "Units that took one of the first 10 of the whole catalogue. Higher is better.",
    ),
    Figure("NDCG@20", "NDCG@20 (0 to 1)", "As NDCG@10, among the first 20. Higher is better."),
    Figure("HR@20", "HR@20 (share of units)", "As HR@10, of the first 20. Higher is better."),
    Figure(
        "coverage@10",
        "coverage@10 (share of items)",
        "Items of the catalogue that stand in the first 10 of some unit.",
    ),
    Figure(
        "miscalibration@10",
        "miscalibration@10 (0 to 1)",
        "How unlike the popularity of what is listed is to that of what is taken. Lower is better.",
    ),
    Figure(
        "prompt_gap",
        "prompt gap (share of prompts)",
        "How much more often prompts are right on what was learned from than on new behaviours. Lower is "
        "better.",
    ),
    Figure(
        "milliseconds",
        "time to answer (ms)",
        "Time to answer one request alone, 95th percentile. Lower is better.",
    ),
)
"""The figures of nights, the most telling first."""


class ArmNight(NamedTuple):
    """What a night came to for an arm; `night` is its day, such as 2022-04-22.

    `metrics` are the candidate's figures, `before` those of `served`, the version that served, on the same
    units; `compared` holds what was told of both, by figure. `why` says why it was refused, or failed.
    """

    run: str
    night: str
    state: NightState
    candidate: str | None
    served: str | None
    asked: int
    metrics: Mapping[str, float]
    before: Mapping[str, float]
    compared: Mapping[str, Mapping[str, Any]]
    why: str


def nights(connection: Connection, arm: str, scope: str) -> list[ArmNight]:
    """Read the nights of an arm in a scope, by run, the oldest night first."""
    j = job_runs.c
    own = and_(j.arm == arm, j.scope == scope)
    shared = and_(j.arm == "", j.step.in_(SHARED), j.status == "failed")
    columns = (j.subject, j.step, j.arm, j.attempt, j.status, j.inputs, j.outputs, j.error)
    query = select(*columns).where(j.job == "nightly", or_(own, shared))
    rows = connection.execute(query.order_by(j.started.desc(), j.attempt.desc()).limit(MOST_ROWS)).all()
    steps: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in rows:
        steps[row.subject].setdefault(row.step, row)
    runs = {subject.rpartition("/")[0] for subject, found in steps.items() if _own(found)}
    found = [_night(subject, some) for subject, some in steps.items()]
    return sorted((one for one in found if one.run in runs), key=lambda one: (one.run, one.night))


def _own(steps: Mapping[str, Any]) -> bool:
    return any(row.arm for row in steps.values())


def _night(subject: str, steps: Mapping[str, Any]) -> ArmNight:
    run, _, night = subject.rpartition("/")
    # A shared step that failed was done again where steps of arms follow.
    steps = {name: row for name, row in steps.items() if row.arm} or dict(steps)
    given = {name: row.outputs for name, row in steps.items() if row.status == "succeeded"}
    state, why = _state(steps, given)
    evaluation = given.get("evaluate", {}).get("evaluation", {})
    inputs: Mapping[str, Any] = steps["evaluate"].inputs if "evaluate" in steps else {}
    return ArmNight(
        run,
        night,
        state,
        given.get("retrain", {}).get("candidate") or inputs.get("candidate"),
        inputs.get("parent"),
        evaluation.get("asked", 0),
        evaluation.get("metrics", {}),
        evaluation.get("promoted", {}),
        evaluation.get("compared", {}),
        why,
    )


def _state(steps: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[NightState, str]:
    failed = [f"{name}: {row.error}" for name, row in steps.items() if row.status == "failed"]
    if failed:
        return "failed", "; ".join(failed)
    if any(row.status == "running" for row in steps.values()):
        return "running", ""
    gate = given.get("gate")
    if gate is None:
        return "trained", ""
    if not gate["passed"]:
        return "refused", "; ".join(gate["reasons"])
    return ("promoted" if given.get("promote", {}).get("promoted") else "passed"), ""


def figures_of(found: Iterable[ArmNight]) -> list[Figure]:
    """List the figures that some night has, the most telling first; one that is not known stands last."""
    there = {name for one in found for name in (*one.metrics, *one.before)}
    known = [figure for figure in FIGURES if figure.name in there]
    others = sorted(there - {figure.name for figure in known})
    return [*known, *(Figure(name, name, "") for name in others)]


def newest_run(found: Sequence[ArmNight]) -> str:
    """Name the run of the newest night."""
    return max(found, key=lambda one: (one.night, one.run)).run
