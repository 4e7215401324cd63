"""Watch: what of a lab somebody should know of, as its database tells; it changes nothing."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, and_, func, or_, select

from armlift.days import DAY_MS
from armlift.dead_letters import printable
from armlift.durations import milliseconds
from armlift.lab import Lab
from armlift.store.database import reading
from armlift.store.tables import dead_letters, models, snapshots
from armlift_pipelines.alerts import Alert, last

RECENT = 7 * DAY_MS
"""Age up to which a snapshot is news."""
SRM = ("srm", "srm_always_valid")
REASONS = 3
"""Reasons of new dead letters that are told, the most frequent ones."""
_EXCERPT = 200


def look(lab: Lab, engine: Engine, *, now: int) -> list[Alert]:
    """Give what is to be told at a time (UTC ms): stale models, new dead letters, splits that are off.

    Dead letters are new that come after those of the last alert on their stream, and a snapshot is told of
    once; a stale model is stale at every look, so whoever tells must know what was told (see `Alerts`).
    """
    with reading(engine) as connection:
        return [
            *_stale(connection, lab, now),
            *_dead(connection),
            *_splits(connection, lab, now),
        ]


def _stale(connection: Connection, lab: Lab, now: int) -> Iterator[Alert]:
    m, after = models.c, lab.nightly.alerts.stale_after
    old = (m.state == "promoted", m.data_until < now - milliseconds(after))
    asked = select(m.arm, m.scope, m.version, m.data_until).where(*old).order_by(m.arm, m.scope)
    for arm, scope, version, until in connection.execute(asked):
        days = (now - until) / DAY_MS
        yield Alert(
            "stale_model",
            f"{arm}/{scope}",
            f"the data of {arm} {version}, which serves {_served(scope)}, end {days:.1f} days ago "
            f"({lab.calendar.show(until)}), must be within {after}",
            {"arm": arm, "scope": scope, "version": version, "data_until": until, "days": round(days, 2)},
        )


def _served(scope: str) -> str:
    return "every experiment" if scope == "*" else scope


def _dead(connection: Connection) -> Iterator[Alert]:
    """Tell of dead letters behind the places that the last alert has seen, partition by partition."""
    d = dead_letters.c
    asked = (
        select(d.stream_id, d.partition, func.max(d.offset), func.count())
        .group_by(d.stream_id, d.partition)
        .order_by(d.stream_id, d.partition)
    )
    streams: dict[str, list[tuple[int, int, int]]] = {}
    for stream, partition, offset, count in connection.execute(asked):
        streams.setdefault(stream, []).append((partition, offset, count))
    for stream, partitions in streams.items():
        subject = f"stream/{stream}"[:200]
        told = last(connection, "dead_letters", subject)
        seen: dict[str, int] = dict(told.details.get("seen", {})) if told else {}
        reached = seen | {str(partition): offset for partition, offset, _ in partitions}
        if any(reached[place] > seen.get(place, -1) for place in reached):
            reasons = _reasons(connection, stream, seen, [place for place, _, _ in partitions])
            total = sum(count for _, _, count in partitions)
            yield _letters(stream, subject, reasons, total, reached)


def _reasons(
    connection: Connection, stream: str, seen: dict[str, int], partitions: list[int]
) -> dict[str, int]:
    """Count the dead letters of a stream that are new, by reason, the most frequent first."""
    d, count = dead_letters.c, func.count().label("count")
    new = or_(*(and_(d.partition == one, d.offset > seen.get(str(one), -1)) for one in partitions))
    asked = select(d.reason, count).where(d.stream_id == stream, new).group_by(d.reason)
    return {row[0]: row[1] for row in connection.execute(asked.order_by(count.desc(), d.reason))}


def _letters(
    stream: str, subject: str, reasons: dict[str, int], total: int, reached: dict[str, int]
) -> Alert:
    new = sum(reasons.values())
    first = {printable(reason)[:_EXCERPT]: count for reason, count in [*reasons.items()][:REASONS]}
    named = "; ".join(f"{count:,} × {reason}" for reason, count in first.items())
    details = {"stream": stream, "new": new, "dead_letters": total, "reasons": first, "seen": reached}
    return Alert("dead_letters", subject, f"{new:,} new dead letters of {total:,}: {named}", details)


def _splits(connection: Connection, lab: Lab, now: int) -> Iterator[Alert]:
    """Tell of each run and experiment whose newest snapshot's split is off, once a snapshot."""
    s = snapshots.c
    newest = func.row_number().over(
        partition_by=(s.run, s.experiment), order_by=(s.created.desc(), s.as_of.desc(), s.id)
    )
    recent = select(s.id, newest.label("place")).where(s.created >= now - RECENT, s.created <= now).subquery()
    asked = (
        select(s.id, s.run, s.experiment, s.as_of, s.report)
        .join(recent, and_(recent.c.id == s.id, recent.c.place == 1))
        .order_by(s.run, s.experiment)
    )
    for identity, run, experiment, as_of, report in connection.execute(asked).all():
        failed = [one for one in report.get("checks", ()) if _is_off(one)]
        subject = f"{experiment}/{run}"[:200]
        told = last(connection, "srm", subject)
        if failed and not (told and told.details.get("snapshot") == identity):
            values = {one["name"]: one.get("value") for one in failed}
            named = ", ".join(
                f"{name} p = {value:.2g}" for name, value in values.items() if value is not None
            )
            yield Alert(
                "srm",
                subject,
                f"the split of {experiment} in run {run} is off as of {lab.calendar.show(as_of)}"
                f"{f': {named}' if named else ''}",
                {"experiment": experiment, "run": run, "snapshot": identity, "checks": values},
            )


def _is_off(check: dict[str, Any]) -> bool:
    return check.get("name") in SRM and check.get("status") == "fail"
