"""Alerts: what somebody should know of is stored, and told by the channels that are set up.

Each is stored before it is told, with what became of it, channel by channel: a channel that fails stops no
job, and nothing is lost that it did not take. What was told already is counted, not told again for a while.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, insert, select, text, update

from armlift.days import DAY_MS, utc_now
from armlift.durations import milliseconds
from armlift.nightly import AlertKind, AlertSettings
from armlift.store.database import writing
from armlift.store.tables import alerts
from armlift_pipelines.channels import (
    BACKOFF,
    FAILED,
    TIMEOUT,
    TRIES,
    Channel,
    Message,
    Secrets,
    channels,
    deliver,
)

LOCK = 0x61726D61
"""PostgreSQL's advisory lock of whoever stores an alert; SQLite has one writer anyway."""
UNSENT = f"{FAILED}not sent yet"
"""What is stored before a channel was asked, so that whoever is killed meanwhile has told of it."""
RETRIED = 7 * DAY_MS
"""How long what failed is sent again: older news is none."""
_SENDING = 300_000
"""Milliseconds for which what is not sent yet is taken for being sent by somebody else."""
_NAME = 200


@dataclass(frozen=True)
class Alert:
    """What somebody should know of: of what kind, about what, one line of text, and plain data."""

    kind: AlertKind
    subject: str
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Told(NamedTuple):
    """A row of `alerts` after it was told: whether it is new, how often it was repeated, its deliveries."""

    number: int
    stored: bool
    repeated: int
    deliveries: Mapping[str, str]


class Row(NamedTuple):
    """A row of `alerts`; `at` is in UTC milliseconds, deliveries go by channel."""

    number: int
    at: int
    kind: str
    subject: str
    text: str
    details: Mapping[str, Any]
    deliveries: Mapping[str, str]

    @property
    def repeated(self) -> int:
        """Tell how often the same came again while it was not told again."""
        return int(self.details.get("repeated", 0))

    @property
    def latest(self) -> tuple[int, str]:
        """Give when it last came (UTC milliseconds), and its text then."""
        again = self.details.get("latest")
        return (self.at, self.text) if again is None else (again["at"], again["text"])

    @property
    def message(self) -> Message:
        """Give what is told of it."""
        return Message(self.kind, self.subject, self.text, self.details, self.at)


class Alerts:
    """Tells and keeps alerts; `clock` gives UTC milliseconds, the other times are in seconds."""

    def __init__(
        self,
        engine: Engine,
        settings: AlertSettings,
        *,
        clock: Callable[[], int] = utc_now,
        timeout: float = TIMEOUT,
        backoff: float = BACKOFF,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._secrets = Secrets(settings)
        self._channels: dict[str, Channel] = channels(settings, timeout=timeout)

    def tell(self, alert: Alert) -> Told:
        """Store an alert and tell it, unless the same was told a while ago: then it is counted there.

        The same is what has the same kind and subject. Its latest text is kept with the count. No failure of
        a channel is raised; those of the database are.
        """
        clean = self._clean(alert)
        with writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            now = self._clock()
            earlier = last(connection, alert.kind, clean.subject)
            if earlier is not None and earlier.at > now - milliseconds(self._settings.repeat):
                return _repeat(connection, earlier, clean, now)
            row = self._store(connection, clean, now)
        return Told(row.number, True, 0, self._send(row, tries=TRIES))

    def undelivered(self) -> list[Row]:
        """List what some channel did not take in the last days, the oldest first.

        What is being sent just now is left out.
        """
        now = self._clock()
        asked = select(alerts).where(alerts.c.at >= now - RETRIED).order_by(alerts.c.number)
        with self._engine.connect() as connection:
            rows = [Row(*row) for row in connection.execute(asked)]
        return [row for row in rows if _failed(row) and not (_unsent(row) and row.at > now - _SENDING)]

    def retry_undelivered(self) -> list[Told]:
        """Send again what failed, once, by the channels that are set up; gives what became of each.

        A channel that cannot be reached is not asked again for those behind.
        """
        down: set[str] = set()
        return [
            Told(row.number, False, row.repeated, self._send(row, tries=1, down=down))
            for row in self.undelivered()
        ]

    def _store(self, connection: Connection, clean: Alert, now: int) -> Row:
        deliveries = dict.fromkeys(self._channels, UNSENT) if clean.kind in self._settings.on else {}
        values = (now, clean.kind, clean.subject, clean.text, clean.details, deliveries)
        named = dict(zip(Row._fields[1:], values, strict=True))
        number = connection.execute(insert(alerts).values(named).returning(alerts.c.number)).scalar_one()
        return Row(number, *values)

    def _send(self, row: Row, *, tries: int, down: set[str] | None = None) -> Mapping[str, str]:
        """Tell a row by the channels that have not taken it, and store what became of that."""
        outcomes = dict(row.deliveries)
        for name, outcome in row.deliveries.items():
            channel = self._channels.get(name)
            if channel is None or not outcome.startswith(FAILED) or (down is not None and name in down):
                continue
            done = deliver(channel, row.message, tries=tries, backoff=self._backoff)
            outcomes[name] = done.outcome
            if down is not None and done.unreached:
                down.add(name)
        if outcomes != row.deliveries:
            with writing(self._engine) as connection:
                connection.execute(
                    update(alerts).where(alerts.c.number == row.number).values(deliveries=outcomes)
                )
        return outcomes

    def _clean(self, alert: Alert) -> Alert:
        """Give an alert that every database holds, without secrets."""
        subject, told, details = map(self._plain, (alert.subject, alert.text, alert.details))
        return Alert(alert.kind, subject[:_NAME], told, details)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, str):
            whole = value.encode(errors="backslashreplace").decode()
            return self._secrets.hide(whole.replace("\0", "\\0"))
        if isinstance(value, Mapping):
            return {self._plain(str(key)): self._plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._plain(part) for part in value]
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if value is None or isinstance(value, bool):
            return value
        return int(value) if isinstance(value, Integral) else self._plain(str(value))


def last(connection: Connection, kind: str, subject: str) -> Row | None:
    """Read the newest alert of a kind and subject."""
    a = alerts.c
    asked = select(alerts).where(a.kind == kind, a.subject == subject)
    row = connection.execute(asked.order_by(a.at.desc(), a.number.desc()).limit(1)).first()
    return Row(*row) if row else None


def newest(connection: Connection, limit: int) -> list[Row]:
    """Read the newest alerts, the newest first."""
    asked = select(alerts).order_by(alerts.c.number.desc()).limit(limit)
    return [Row(*row) for row in connection.execute(asked)]


def counted(connection: Connection, since: int) -> dict[str, int]:
    """Count the alerts from a time (UTC milliseconds) on, by kind."""
    a = alerts.c
    asked = select(a.kind, func.count()).where(a.at >= since).group_by(a.kind).order_by(a.kind)
    return {row[0]: row[1] for row in connection.execute(asked)}


def _repeat(connection: Connection, earlier: Row, again: Alert, now: int) -> Told:
    repeated = earlier.repeated + 1
    details = {**earlier.details, "repeated": repeated, "latest": {"at": now, "text": again.text}}
    connection.execute(update(alerts).where(alerts.c.number == earlier.number).values(details=details))
    return Told(earlier.number, False, repeated, earlier.deliveries)


def _failed(row: Row) -> bool:
    return any(outcome.startswith(FAILED) for outcome in row.deliveries.values())


def _unsent(row: Row) -> bool:
    return UNSENT in row.deliveries.values()
