"""Histories: what each unit did, as arms are told it."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from armlift.arm import Behaviour
from armlift.events import IMPRESSION_KIND
from armlift.logs.sessions import LoggedImpression, Session


class Histories:
    """What units did: in the log, and where they answer to arms, after that with what each arm showed them.

    The latest `limit` behaviours of each are kept. With `whole` all are, and what a unit did nothing with, or
    nothing that is known, is there as an impression: then arms can tell all that a unit has met.
    """

    def __init__(self, limit: int, *, whole: bool = False) -> None:
        self._limit = None if whole else limit
        self._whole = whole
        self._logged: dict[str, deque[Behaviour]] = {}
        self._lived: dict[tuple[str, str], deque[Behaviour]] = {}

    def log(self, session: Session) -> None:
        """Add a session of the log."""
        history = self._logged.get(session.unit)
        if history is None:
            history = self._logged[session.unit] = deque(maxlen=self._limit)
        history.extend(self._behaviours(session.impressions))

    def live(
        self, unit: str, arm: str, ts: int, items: Sequence[str], outcomes: Mapping[str, LoggedImpression]
    ) -> None:
        """Add what a unit did with the items an arm showed it at a time (UTC milliseconds)."""
        history = self._lived.get((unit, arm))
        if history is None:
            history = self._lived[unit, arm] = deque(self._logged.get(unit, ()), maxlen=self._limit)
        nothing = (LoggedImpression(item, ts, None, ()) for item in items if item not in outcomes)
        history.extend(self._behaviours((*outcomes.values(), *nothing)))

    def logged(self, unit: str) -> tuple[Behaviour, ...]:
        """Give what a unit did in the log so far, oldest first."""
        return tuple(self._logged.get(unit, ()))

    def lived(self, unit: str, arm: str) -> tuple[Behaviour, ...]:
        """Give what a unit did in the log, then under an arm, oldest first."""
        history = self._lived.get((unit, arm))
        return self.logged(unit) if history is None else tuple(history)

    def _behaviours(self, impressions: Iterable[LoggedImpression]) -> Iterator[Behaviour]:
        for item, ts, _, feedback in impressions:
            for kind, value in feedback:
                yield Behaviour(item, kind, value, ts)
            if self._whole and not feedback:
                yield Behaviour(item, IMPRESSION_KIND, 1.0, ts)
