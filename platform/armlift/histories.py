"""Histories: what each unit did, as arms are told it, the latest behaviours."""

from collections import deque
from collections.abc import Iterable

from armlift.arm import Behaviour
from armlift.logs.sessions import LoggedImpression, Session


class Histories:
    """What units did: in the log, and where they answer to arms, after that with what each arm showed them.

    Of each at most `limit` behaviours are kept, all where it is None.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._logged: dict[str, deque[Behaviour]] = {}
        self._lived: dict[tuple[str, str], deque[Behaviour]] = {}

    def log(self, session: Session) -> None:
        """Add a session of the log."""
        history = self._logged.get(session.unit)
        if history is None:
            history = self._logged[session.unit] = deque(maxlen=self._limit)
        history.extend(_behaviours(session.impressions))

    def live(self, unit: str, arm: str, impressions: Iterable[LoggedImpression]) -> None:
        """Add what a unit did with what an arm showed it."""
        history = self._lived.get((unit, arm))
        if history is None:
            history = self._lived[unit, arm] = deque(self._logged.get(unit, ()), maxlen=self._limit)
        history.extend(_behaviours(impressions))

    def logged(self, unit: str) -> tuple[Behaviour, ...]:
        """Give what a unit did in the log so far, oldest first."""
        return tuple(self._logged.get(unit, ()))

    def lived(self, unit: str, arm: str) -> tuple[Behaviour, ...]:
        """Give what a unit did in the log, then under an arm, oldest first."""
        history = self._lived.get((unit, arm))
        return self.logged(unit) if history is None else tuple(history)


def _behaviours(impressions: Iterable[LoggedImpression]) -> Iterable[Behaviour]:
    for item, ts, _, feedback in impressions:
        for kind, value in feedback:
            yield Behaviour(item, kind, value, ts)
