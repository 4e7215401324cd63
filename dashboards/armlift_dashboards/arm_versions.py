"""Versions of arms: each one's state, what it comes from, and who let it serve, or not, and why."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select, union

from armlift.arm import arm_class
from armlift.artefacts import has_artefact
from armlift.lab import Lab
from armlift.promotions import EVERY_EXPERIMENT, ModelRow, State, history
from armlift.runs import Run
from armlift.store.tables import audit_log, job_runs, models

LOOKED_FOR = 20
"""Versions whose artefact is looked for, at most."""


class Version(NamedTuple):
    """A version of an arm in a scope; times are UTC milliseconds.

    `by` and `reason` tell who let it serve last and why, or, of a refused one, who refused it; `reasons` why
    it was refused.
    """

    version: str
    state: State
    data_until: int
    parent: str | None
    promoted: int | None
    by: str | None
    reason: str | None
    reasons: Sequence[str]


class Answering(NamedTuple):
    """The version of an arm that answers; `version` is None for one that is trained elsewhere."""

    arm: str
    version: str | None
    state: str
    data_until: int | None


def arm_names(connection: Connection, lab: Lab) -> list[str]:
    """List the arms that the lab defines, and those that have versions."""
    stored = connection.execute(select(models.c.arm).distinct()).scalars()
    return sorted({*lab.arm_names(), *stored})


def prompting(lab: Lab) -> list[str]:
    """List the arms of the lab that use prompts."""
    return [name for name in lab.arm_names() if "prompts" in arm_class(lab.arm(name).model).capabilities]


def scopes(connection: Connection, arm: str) -> list[str]:
    """List the scopes in which an arm has versions, or was trained; `*` first."""
    trained = select(job_runs.c.scope).where(job_runs.c.arm == arm)
    found = connection.execute(union(select(models.c.scope).where(models.c.arm == arm), trained)).scalars()
    return sorted(found, key=lambda scope: (scope != EVERY_EXPERIMENT, scope))


def scope_label(scope: str, runs: Sequence[Run]) -> str:
    """Name a scope for people."""
    if scope == EVERY_EXPERIMENT:
        return "every experiment"
    run = next((one for one in runs if one.run == scope), None)
    return f"experiment {scope}" if run is None else f"run {run.number} of {run.experiment}, {run.mode}"


def versions(connection: Connection, arm: str, scope: str) -> list[Version]:
    """Read the versions of an arm in a scope, those of the newest data first."""
    log = audit_log.c
    acts = connection.execute(
        select(log.action, log.by, log.details).where(log.subject == f"arm/{arm}").order_by(log.number)
    ).all()
    told: dict[tuple[str, bool], tuple[str, str | None]] = {}
    for action, by, details in acts:
        if details.get("scope") != scope:
            continue
        refused = action == "refuse"
        told[details["version"], refused] = (by, details.get("reason"))
        if action == "rollback":
            told[details["before"], True] = (by, details.get("reason"))
    return [_version(row, told) for row in history(connection, arm) if row.scope == scope]


def _version(row: ModelRow, told: dict[tuple[str, bool], tuple[str, str | None]]) -> Version:
    by, reason = told.get((row.version, row.state == "refused"), (None, None))
    return Version(
        row.version, row.state, row.data_until, row.parent, row.promoted, by, reason, row.reasons or ()
    )  # fmt: skip


def answering(connection: Connection, lab: Lab, run: Run, arm: str) -> Answering | None:
    """Find the version of an arm that answers for a run, of those whose artefact is there.

    That is the one promoted for the run, its experiment or every one, in this order, else the newest one that
    was not refused. An arm that is trained elsewhere answers by its definition. None where there is neither.
    """
    url = lab.resolve(lab.settings.artefact_url)
    order = [run.run, run.experiment, EVERY_EXPERIMENT]
    rows = [row for row in history(connection, arm) if row.scope in order and row.state != "refused"]
    serving = sorted((row for row in rows if row.state == "promoted"), key=lambda row: order.index(row.scope))
    others = [row for row in rows if row.state != "promoted"]
    for row in [*serving, *others][:LOOKED_FOR]:
        if has_artefact(url, arm, row.version):
            return Answering(arm, row.version, row.state, row.data_until)
    if not rows and arm in lab.arm_names() and not lab.nightly.of_arm(arm).steps:
        return Answering(arm, None, "defined", None)
    return None
