"""Decisions: an arm ships or an experiment stops, by whom, why, and on which snapshot that rests."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, insert, select

from armlift.errors import InputError
from armlift.hashing import hash_of
from armlift.snapshots import Snapshot
from armlift.store.tables import audit_log, decisions

Action = Literal["ship", "stop"]


class Decision(NamedTuple):
    """A row of `decisions`; `at` is UTC milliseconds, `arm` None where the experiment is stopped.

    `overridden` says that the snapshot's verdict was not to ship this arm.
    """

    id: str
    experiment: str
    run: str
    arm: str | None
    action: Action
    snapshot: str
    reason: str
    by: str
    at: int
    verdict_status: str
    overridden: bool


def ship(snapshot: Snapshot, arm: str, *, reason: str, by: str, at: int, override: bool = False) -> Decision:
    """Decide to ship an arm; raises InputError where the verdict is another and `override` not given."""
    arms = list(snapshot.aggregates["run"]["definition"]["experiment"]["arms"])
    if arm not in arms:
        raise InputError(
            f"--arm {arm!r} is not an arm of {snapshot.experiment}, must be one of {', '.join(arms)}"
        )
    verdict = snapshot.report["verdict"]
    against = arm not in verdict["ships"]
    if against and not override:
        ships = f" {', '.join(verdict['ships'])}" if verdict["ships"] else ""
        raise InputError(
            f"--arm {arm}: the verdict of snapshot {snapshot.id} is {verdict['status']}{ships}, must be ship "
            "for this arm, or be overridden by --override"
        )
    return _decision(snapshot, "ship", arm, reason=reason, by=by, at=at, overridden=against)


def stop(snapshot: Snapshot, *, reason: str, by: str, at: int) -> Decision:
    """Decide to stop an experiment; nothing ships."""
    return _decision(snapshot, "stop", None, reason=reason, by=by, at=at, overridden=False)


def _decision(
    snapshot: Snapshot,
    action: Action,
    arm: str | None,
    *,
    reason: str,
    by: str,
    at: int,
    overridden: bool,
) -> Decision:
    check_told(reason, by)
    made = Decision(
        id="",
        experiment=snapshot.experiment,
        run=snapshot.run,
        arm=arm,
        action=action,
        snapshot=snapshot.id,
        reason=reason,
        by=by,
        at=at,
        verdict_status=snapshot.report["verdict"]["status"],
        overridden=overridden,
    )
    return made._replace(id=hash_of(made._asdict())[:16])


def check_told(reason: str, by: str) -> None:
    """Check why something is decided, and by whom; raises InputError where either is empty, or too long."""
    if not reason.strip():
        raise InputError(f"--reason {reason!r}: must not be empty")
    check_by(by)


def check_by(by: str) -> None:
    """Check by whom something is done; raises InputError where that is empty, or over 200 characters."""
    if not by.strip() or len(by) > 200:
        raise InputError(f"--by {by!r}: must have 1 to 200 characters")


def record(connection: Connection, decision: Decision, done: Mapping[str, Any] | None = None) -> None:
    """Store a decision, and it in the audit log with what was done by it."""
    connection.execute(insert(decisions).values(decision._asdict()))
    subject = f"experiment/{decision.experiment}"
    log(connection, at=decision.at, by=decision.by, action=decision.action, subject=subject,
        details={**decision._asdict(), **(done or {})})  # fmt: skip


def log(
    connection: Connection, *, at: int, by: str, action: str, subject: str, details: Mapping[str, Any]
) -> None:
    """Add to the audit log."""
    row = {"at": at, "by": by, "action": action, "subject": subject, "details": dict(details)}
    connection.execute(insert(audit_log).values(row))


def of_experiment(connection: Connection, experiment: str) -> list[Decision]:
    """Read an experiment's decisions, the oldest first."""
    return _read(connection, decisions.c.experiment == experiment)


def of_run(connection: Connection, run: str, experiment: str) -> list[Decision]:
    """Read the decisions that rest on a run of an experiment, the oldest first."""
    return _read(connection, and_(decisions.c.run == run, decisions.c.experiment == experiment))


def _read(connection: Connection, condition: ColumnElement[bool]) -> list[Decision]:
    order = (decisions.c.at, decisions.c.id)
    return [Decision(*row) for row in connection.execute(select(decisions).where(condition).order_by(*order))]
