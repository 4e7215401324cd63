"""What a replay asks: the sessions of a log become requests of the units that take part.

In `dense` a log is a matrix, whose sessions mean nothing: there each unit asks once a day, with its first
session of the day.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from armlift.arm import Behaviour
from armlift.experiment import Experiment
from armlift.histories import Histories
from armlift.lab import Lab
from armlift.logs.reader import Log
from armlift.logs.sessions import LoggedImpression, Session, sessions
from armlift.logs.users import UserTable
from armlift.metric import Metric, Metrics, cuped_of, measures
from armlift.splitter import Assignment, Split, assign

Mode = Literal["rerank", "match", "interleaved", "dense", "simulate"]
Progress = Callable[[int, int], None]
"""Told the rows done and the rows in all."""


class ReplayOptions(NamedTuple):
    """How a log is replayed."""

    mode: Mode = "rerank"
    paired: bool = False
    k: int = 10
    seed: int = 0

    @property
    def recalls(self) -> bool:
        """Tell whether arms recall from their catalogue; else they order what the log shows."""
        return self.mode not in ("rerank", "interleaved")

    @property
    def answered(self) -> bool:
        """Tell whether units answer to what arms show; else only what the log shows in a session counts.

        Then a unit's history goes on with what its arm showed it, and no more with the log.
        """
        return self.mode in ("dense", "simulate")


@dataclass(frozen=True)
class Asked:
    """A session as a request: who is asked, and what the log shows; `past` are the unit's earlier sessions.

    There is a past only where the request exposes the unit, and a metric asks what it did before. Where units
    answer, there is nothing shown, and the history is not the log's.
    """

    unit: str
    ts: int
    number: int
    assignment: Assignment
    exposes: bool
    history: tuple[Behaviour, ...]
    shown: Mapping[str, LoggedImpression]
    past: Sequence[Session] = ()


class Before(NamedTuple):
    """What metrics ask of units before their first exposure: the kinds, and how long before it (ms)."""

    kinds: frozenset[str]
    time: int


class Asking:
    """The requests of one replay, and what was counted on the way.

    `rows` counts the log's rows in requests, `random_rows` those of them shown at random, `left_out` requests
    and impressions by reason. `histories` has what units did.
    """

    def __init__(
        self,
        lab: Lab,
        experiment: Experiment,
        log: Log,
        options: ReplayOptions,
        cut: int,
        users: UserTable | None,
    ) -> None:
        self._log = log
        self._options = options
        self._cut = cut
        self._gap = round(experiment.replay.session_gap * 60_000)
        self._calendar = lab.calendar
        self._split: Split = lab.split(experiment)
        starts = [phase.start for phase in experiment.phases]
        self._starts = [lab.calendar.parse(start) if start is not None else 0 for start in starts]
        self._assigned: dict[str, Assignment] = {}
        self._pasts: dict[str, deque[Session]] = {}
        self._asked_on: dict[str, int] = {}
        self.attributes = users.attributes if users is not None else {}
        self.before = asked_before(_adjustable(lab.metrics_of(experiment), options))
        # What an arm cannot see a unit has met, it recalls again, and a matrix has no second answer.
        self.histories = Histories(lab.settings.history_limit, whole=options.mode == "dense")
        self.left_out: Counter[str] = Counter()
        self.rows = 0
        self.random_rows = 0

    def requests(self, progress: Progress | None) -> Iterator[Asked]:
        """Turn the log into requests of the units that take part; keeps each unit's history meanwhile."""
        total, done, number = self._log.summary.rows, 0, 0
        for session in sessions(self._log.batches(), self._gap, cut=self._cut):
            done += len(session.impressions)
            replayed = session.impressions[0].ts >= self._cut
            if replayed and self._asks(session):
                asked = self._ask(session, number)
                if asked is not None:
                    number += 1
                    yield asked
            self._remember(session, replayed)
            if progress is not None and done % 4096 < len(session.impressions):
                progress(done, total)
        if progress is not None:
            progress(total, total)

    def _asks(self, session: Session) -> bool:
        """Tell whether a session is a request: every one, in a matrix the first of a unit's day."""
        if self._options.mode != "dense":
            return True
        day = self._calendar.day(session.impressions[0].ts)
        before = self._asked_on.get(session.unit)
        self._asked_on[session.unit] = day
        return day != before

    def _ask(self, session: Session, number: int) -> Asked | None:
        unit, ts = session.unit, session.impressions[0].ts
        phase = bisect_right(self._starts, ts) - 1
        if phase < 0:
            self.left_out["request_before_first_phase"] += 1
            return None
        first = self._assigned.get(unit)
        assignment = assign(self._split, phase, unit, self.attributes.get(unit), stored=first)
        if not assignment.exposed:
            self.left_out[f"request_{assignment.rule}"] += 1
            return None
        past: Sequence[Session] = ()
        if first is None:
            self._assigned[unit] = assignment
            since = ts - self.before.time
            past = [one for one in self._pasts.pop(unit, ()) if one.impressions[-1].ts >= since]
        if self._options.answered:
            return Asked(unit, ts, number, assignment, first is None, (), {}, past)
        history = self.histories.logged(unit)
        return Asked(unit, ts, number, assignment, first is None, history, self._shown(session), past)

    def _shown(self, session: Session) -> dict[str, LoggedImpression]:
        """Give what counts of a session, and count its rows."""
        shown = first_shown(session)
        for impression in session.impressions:
            self.random_rows += bool(impression.random)
        self.rows += len(session.impressions)
        repeats = len(session.impressions) - len(shown)
        if repeats:
            self.left_out["repeat_in_session"] += repeats
        return shown

    def _remember(self, session: Session, replayed: bool) -> None:
        if not (replayed and self._options.answered):
            self.histories.log(session)
        if self.before.kinds and session.unit not in self._assigned:
            past = self._pasts.setdefault(session.unit, deque())
            past.append(session)
            while past[0].impressions[-1].ts < session.impressions[0].ts - self.before.time:
                past.popleft()


def first_shown(session: Session) -> dict[str, LoggedImpression]:
    """Give what a session shows, by item: once, however often it is repeated."""
    shown: dict[str, LoggedImpression] = {}
    for impression in session.impressions:
        shown.setdefault(impression.item, impression)
    return shown


def asked_before(metrics: Iterable[Metric]) -> Before:
    """Find what metrics are adjusted by."""
    kinds: set[str] = set()
    time = 0
    for metric in metrics:
        if lookback := cuped_of(metric):
            kinds.update(one.event for one in measures(metric).values())
            time = max(time, lookback)
    return Before(frozenset(kinds), time)


def _adjustable(metrics: Metrics, options: ReplayOptions) -> list[Metric]:
    """List the metrics that a replay can tell and adjust; pairs are compared within units anyway."""
    return [
        metric
        for metric in metrics.values()
        if not options.paired
        and (options.mode != "match" or metric.kind == "ratio")
        and not any(one.aggregate == "days" for one in measures(metric).values())
    ]
