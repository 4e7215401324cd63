"""Promotions: which version of an arm serves in a scope, which served before, and who decided so.

A version begins as a candidate. One that is promoted serves its scope, an experiment's name or `*` for every
one, until another takes its place: then it is retired. What does not pass the gate, or is rolled back, is
refused. One version of an arm serves in a scope, whoever promotes at the same time: whoever changes a scope
holds its rows until the end of the transaction, which must be one of `writing`.

Times are UTC milliseconds. A version begins to serve later than all before it did in its scope, also where
clocks of hosts differ; by that order a rollback finds what served before.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, null, select, update

from armlift.decisions import check_told, log
from armlift.errors import InputError
from armlift.store.sink import insert_or
from armlift.store.tables import models

EVERY_EXPERIMENT = "*"
"""The scope of what serves wherever an experiment has no version of its own."""
NAMED = 10
"""Versions that a complaint names."""

State = Literal["candidate", "promoted", "retired", "refused"]


class ModelRow(NamedTuple):
    """A row of `models`.

    Its data end before `data_until`; `promoted` is when it last began to serve, None: never; `reasons` say
    why it was refused.
    """

    arm: str
    scope: str
    version: str
    state: State
    data_hash: str
    data_until: int
    definition_hash: str
    parent: str | None
    promoted: int | None
    reasons: Sequence[str] | None


def add_candidate(
    connection: Connection,
    arm: str,
    scope: str,
    version: str,
    *,
    data_hash: str,
    data_until: int,
    definition_hash: str,
    parent: str | None,
) -> bool:
    """Store a version that was fitted; one that is there already stays as it is. Tells whether it was new."""
    row = ModelRow(
        arm, scope, version, "candidate", data_hash, data_until, definition_hash, parent, None, None
    )
    values: dict[str, Any] = row._asdict() | {"reasons": null()}
    done = connection.execute(insert_or(connection, models).values(values).on_conflict_do_nothing())
    return done.rowcount > 0


def promoted(connection: Connection, arm: str, scope: str) -> ModelRow | None:
    """Give the version that is promoted in this very scope."""
    rows = _read(connection, *_in(arm, scope), models.c.state == "promoted")
    return rows[0] if rows else None


def serving_version(connection: Connection, arm: str, experiment: str | None) -> ModelRow | None:
    """Give the version that serves an experiment: that of its own scope, else that of every experiment."""
    scopes = [EVERY_EXPERIMENT] if experiment is None else [experiment, EVERY_EXPERIMENT]
    found = (promoted(connection, arm, scope) for scope in scopes)
    return next((row for row in found if row is not None), None)


def history(connection: Connection, arm: str) -> list[ModelRow]:
    """Read all versions of an arm in all scopes: newest data first, of the same data the latest promoted."""
    return _read(connection, models.c.arm == arm)


def named(connection: Connection, arm: str, scope: str, version: str) -> ModelRow:
    """Give a version by its name; raises InputError that lists those there are."""
    rows = _read(connection, *_in(arm, scope))
    for row in rows:
        if row.version == version:
            return row
    if not rows:
        raise InputError(
            f"--version {version!r}: arm {arm} has no versions in scope {scope!r}; `armlift train {arm}` or "
            "`armlift nightly` makes one"
        )
    names = ", ".join(row.version for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED} older" if len(rows) > NAMED else ""
    raise InputError(
        f"--version {version!r} is not one of arm {arm} in scope {scope!r}, must be one of {names}{more}"
    )


def promote(
    connection: Connection,
    arm: str,
    scope: str,
    version: str,
    *,
    at: int,
    by: str,
    reason: str,
    override: bool = False,
) -> bool:
    """Let a version serve from now on, in place of the one that did; tells whether that changed anything.

    Raises InputError for an unknown version, and for a refused one unless `override`.
    """
    check_told(reason, by)
    _hold(connection, arm, scope)
    row, before = named(connection, arm, scope, version), promoted(connection, arm, scope)
    if row.state == "promoted":
        return False
    if row.state == "refused" and not override:
        raise InputError(
            f"--version {version} of arm {arm} was refused ({'; '.join(row.reasons or ())}), must be "
            "another, or be overridden by --override"
        )
    if before is not None:
        _set(connection, before, state="retired")
    _serve(connection, row, at)
    details = {
        "scope": scope,
        "version": version,
        "before": before and before.version,
        "reason": reason,
        "overridden": row.state == "refused",
    }
    log(connection, at=at, by=by, action="promote", subject=f"arm/{arm}", details=details)
    return True


def refuse(
    connection: Connection, arm: str, scope: str, version: str, reasons: Sequence[str], at: int, by: str
) -> bool:
    """Keep a version from serving; tells whether that changed anything.

    Raises InputError for an unknown version, and for the one that serves.
    """
    for reason in reasons or [""]:
        check_told(reason, by)
    _hold(connection, arm, scope)
    row = named(connection, arm, scope, version)
    if row.state == "promoted":
        raise InputError(
            f"--version {version} of arm {arm} serves in scope {scope!r}, must be rolled back to be refused"
        )
    if row.state == "refused" and row.reasons == list(reasons):
        return False
    _set(connection, row, state="refused", reasons=list(reasons))
    details = {"scope": scope, "version": version, "reasons": list(reasons)}
    log(connection, at=at, by=by, action="refuse", subject=f"arm/{arm}", details=details)
    return True


def predecessor(connection: Connection, arm: str, scope: str) -> ModelRow:
    """Give the retired version that served last in a scope; raises InputError where none did."""
    now = promoted(connection, arm, scope)
    if now is None:
        raise InputError(f"arm {arm} has no promoted version in scope {scope!r}, nothing can be rolled back")
    retired = _read(connection, *_in(arm, scope), models.c.state == "retired")
    if not retired:
        raise InputError(
            f"arm {arm} has no retired version in scope {scope!r} that {now.version} could be rolled back to"
        )
    return max(retired, key=lambda row: row.promoted or 0)


def rollback(
    connection: Connection, arm: str, scope: str, *, at: int, by: str, reason: str, to: str | None = None
) -> ModelRow:
    """Let the version that served before serve again, and give it.

    The one that is rolled back is refused, with the reason, so that it does not come back by itself: rolling
    back again goes one further, and a night that fits the same version anew leaves it refused. Raises
    InputError where nothing served before, or where `to` is given and it was another one.
    """
    check_told(reason, by)
    _hold(connection, arm, scope)
    back, now = predecessor(connection, arm, scope), promoted(connection, arm, scope)
    assert now is not None
    if to is not None and back.version != to:
        raise InputError(
            f"arm {arm}: another was promoted meanwhile, {back.version} served before and not {to}; "
            "start again"
        )
    _set(connection, now, state="refused", reasons=[f"rolled back: {reason}"])
    _serve(connection, back, at)
    details = {"scope": scope, "version": back.version, "before": now.version, "reason": reason}
    log(connection, at=at, by=by, action="rollback", subject=f"arm/{arm}", details=details)
    return back


def _serve(connection: Connection, row: ModelRow, at: int) -> None:
    """Promote a version where none is."""
    times = select(models.c.promoted).where(*_in(row.arm, row.scope), models.c.promoted.is_not(None))
    last = max(connection.execute(times).scalars(), default=at - 1)
    _set(connection, row, state="promoted", promoted=max(at, last + 1), reasons=null())


def _hold(connection: Connection, arm: str, scope: str) -> None:
    """Hold the rows of a scope, in one order for all; what is read after that is what others left.

    SQLite has one writer, who holds everything.
    """
    rows = select(models.c.version).where(*_in(arm, scope)).order_by(models.c.version)
    connection.execute(rows.with_for_update()).all()


def _set(connection: Connection, row: ModelRow, **values: object) -> None:
    where = (*_in(row.arm, row.scope), models.c.version == row.version)
    connection.execute(update(models).where(*where).values(values))


def _in(arm: str, scope: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return models.c.arm == arm, models.c.scope == scope


def _read(connection: Connection, *conditions: ColumnElement[bool]) -> list[ModelRow]:
    rows = [ModelRow(*row) for row in connection.execute(select(models).where(*conditions))]
    return sorted(rows, key=lambda row: (-row.data_until, -(row.promoted or 0), row.scope, row.version))
