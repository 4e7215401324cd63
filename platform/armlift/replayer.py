"""The work of one replay: a log's sessions become requests, arms answer them, answers become events."""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from armlift.arm import Arm, Behaviour, Request, Slate
from armlift.events import (
    IMPRESSION_KIND,
    Event,
    Exposure,
    Feedback,
    Impression,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.experiment import Experiment
from armlift.lab import Lab
from armlift.logs.reader import Log
from armlift.logs.sessions import LoggedImpression, Session, sessions
from armlift.logs.users import UserTable
from armlift.metric import Metrics, cuped_of, measures
from armlift.predictions import Predictions, reward_of, target_of
from armlift.resolution import SlateComparison
from armlift.splitter import Assignment, Split, assign

Mode = Literal["rerank", "match"]
NO_ARM = "-"
"""Whose the impressions are that no arm chose; no arm can have this name."""

Progress = Callable[[int, int], None]
"""Told the rows done and the rows in all."""

Message = tuple[str, list[Event]]
"""A unit and the events of one of its requests."""


class ReplayOptions(NamedTuple):
    """How a log is replayed."""

    mode: Mode = "rerank"
    paired: bool = False
    k: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Asked:
    """A session as a request: who is asked, and what the log shows; `past` are the unit's earlier sessions.

    There is a past only where the request exposes the unit, and a metric asks what it did before.
    """

    unit: str
    ts: int
    number: int
    assignment: Assignment
    exposes: bool
    history: tuple[Behaviour, ...]
    shown: Mapping[str, LoggedImpression]
    past: Sequence[Session] = ()


class Replayer:
    """The work of one replay: sessions in, messages out, and what was counted on the way."""

    def __init__(
        self,
        lab: Lab,
        experiment: Experiment,
        log: Log,
        run: str,
        arms: Mapping[str, Arm],
        options: ReplayOptions,
        cut: int,
        users: UserTable | None = None,
    ) -> None:
        self._log = log
        self._run = run
        self._arms = arms
        self._options = options
        self._cut = cut
        self._attributes = users.attributes if users is not None else {}
        self._gap = round(experiment.replay.session_gap * 60_000)
        self._experiment = experiment
        self._split: Split = lab.split(experiment)
        starts = [phase.start for phase in experiment.phases]
        self._starts = [lab.calendar.parse(start) if start is not None else 0 for start in starts]
        self._limit = lab.settings.history_limit
        self._histories: dict[str, deque[Behaviour]] = {}
        self._assigned: dict[str, Assignment] = {}
        metrics = lab.metrics_of(experiment)
        self._before = _asked_before(metrics, options)
        self._pasts: dict[str, deque[Session]] = {}
        self._left_out: Counter[str] = Counter()
        self._rows = 0
        self._random_rows = 0
        self.comparison = SlateComparison(experiment.control, experiment.arms)
        self._target = target_of(experiment.metrics.primary, metrics)
        self._predictions = Predictions(experiment.control, experiment.arms)

    def resolution(self) -> dict[str, object]:
        """Say what the run's figures rest on: requests compared, rows replayed, those shown at random.

        And which lift the control's own requests predict of each challenger.
        """
        known = self._log.summary.random_rows is not None
        target, alpha = self._target, self._experiment.analysis.alpha
        return {
            **self.comparison.result(),
            "rows": self._rows,
            "random_rows": self._random_rows if known else None,
            "predicted": None if target is None else self._predictions.result(target.metric, alpha=alpha),
        }

    def dropped(self) -> dict[str, int]:
        """Count what was left out, by reason: rows of the log, then requests."""
        return {**self._log.dropped, **self._log.noted, **dict(sorted(self._left_out.items()))}

    def asked(self, progress: Progress | None) -> Iterator[Asked]:
        """Turn the log into requests of the units that take part; keeps each unit's history meanwhile."""
        total, done, number = self._log.summary.rows, 0, 0
        for session in sessions(self._log.batches(), self._gap, cut=self._cut):
            done += len(session.impressions)
            if session.impressions[0].ts >= self._cut:
                asked = self._ask(session, number)
                if asked is not None:
                    number += 1
                    yield asked
            self._remember(session)
            if progress is not None and done % 4096 < len(session.impressions):
                progress(done, total)
        if progress is not None:
            progress(total, total)

    def most_shown(self, asked: Asked) -> int:
        """Bound the items that count of a request, over the arms that answer it; at least 1."""
        arms = len(self._arms) if self._options.paired else 1
        past = sum(len(session.impressions) for session in asked.past)
        return arms * min(self._options.k, len(asked.shown)) + past

    def messages(self, batch: Sequence[Asked]) -> Iterator[Message]:
        """Answer requests; gives each message's unit and events, in the order of the requests."""
        if self._options.paired:
            return self._paired(batch)
        return self._routed(batch)

    def _ask(self, session: Session, number: int) -> Asked | None:
        unit, ts = session.unit, session.impressions[0].ts
        phase = bisect_right(self._starts, ts) - 1
        if phase < 0:
            self._left_out["request_before_first_phase"] += 1
            return None
        first = self._assigned.get(unit)
        assignment = assign(self._split, phase, unit, self._attributes.get(unit), stored=first)
        if not assignment.exposed:
            self._left_out[f"request_{assignment.rule}"] += 1
            return None
        past: Sequence[Session] = ()
        if first is None:
            self._assigned[unit] = assignment
            since = ts - self._before.time
            past = [one for one in self._pasts.pop(unit, ()) if one.impressions[-1].ts >= since]
        shown = _first_shown(session)
        for impression in session.impressions:
            self._random_rows += bool(impression.random)
        self._rows += len(session.impressions)
        repeats = len(session.impressions) - len(shown)
        if repeats:
            self._left_out["repeat_in_session"] += repeats
        history = tuple(self._histories.get(unit, ()))
        return Asked(unit, ts, number, assignment, first is None, history, shown, past)

    def _remember(self, session: Session) -> None:
        history = self._histories.get(session.unit)
        if history is None:
            history = self._histories[session.unit] = deque(maxlen=self._limit)
        for item, ts, _, feedback in session.impressions:
            for kind, value in feedback:
                history.append(Behaviour(item, kind, value, ts))
        if self._before.kinds and session.unit not in self._assigned:
            past = self._pasts.setdefault(session.unit, deque())
            past.append(session)
            while past[0].impressions[-1].ts < session.impressions[0].ts - self._before.time:
                past.popleft()

    def _request(self, asked: Asked, arm: str, *, apart: bool) -> Request:
        """Make a request; one that asks `apart` draws other random numbers than those of other arms."""
        content = f"{self._run}|{asked.unit}|{asked.ts}"
        if apart:
            content = f"{content}|{arm}"
        # The order of the log says what its own policy preferred; the arms must not see it.
        candidates = sorted(asked.shown) if self._options.mode == "rerank" else None
        identity = request_identity(asked.ts, content)
        return Request(
            identity,
            asked.unit,
            asked.ts,
            self._options.k,
            asked.history,
            candidates,
            attributes=self._attributes.get(asked.unit),
        )

    def _answer(
        self, arm: str, batch: Sequence[Asked], *, apart: bool = False
    ) -> list[tuple[Request, Slate]]:
        requests = [self._request(asked, arm, apart=apart) for asked in batch]
        return list(zip(requests, self._arms[arm].recommend(requests), strict=True))

    def _paired(self, batch: Sequence[Asked]) -> Iterator[Message]:
        answers = {arm: self._answer(arm, batch, apart=True) for arm in self._arms}
        self.comparison.add({arm: [slate for _, slate in answer] for arm, answer in answers.items()})
        for index, asked in enumerate(batch):
            self._predict(asked, {arm: answer[index][1] for arm, answer in answers.items()})
            for arm, answer in answers.items():
                yield asked.unit, self._events(asked, arm, *answer[index])

    def _routed(self, batch: Sequence[Asked]) -> Iterator[Message]:
        answers: dict[int, tuple[Request, Slate]] = {}
        for arm in self._arms:
            own = [asked for asked in batch if asked.assignment.arm == arm]
            answers.update(zip((asked.number for asked in own), self._answer(arm, own), strict=True))
        self._compare([asked for asked in batch if self.comparison.takes(asked.number)], answers)
        for asked in batch:
            yield asked.unit, self._events(asked, asked.assignment.arm, *answers[asked.number])
            yield from ((asked.unit, self._past_events(session)) for session in asked.past)

    def _compare(self, batch: Sequence[Asked], answers: Mapping[int, tuple[Request, Slate]]) -> None:
        slates: dict[str, list[Slate]] = {}
        for arm in self._arms:
            others = [asked for asked in batch if asked.assignment.arm != arm]
            given = iter(self._answer(arm, others, apart=True))
            slates[arm] = [
                answers[asked.number][1] if asked.assignment.arm == arm else next(given)[1] for asked in batch
            ]
        self.comparison.add(slates)
        for index, asked in enumerate(batch):
            if asked.assignment.arm == self._experiment.control:
                self._predict(asked, {arm: found[index] for arm, found in slates.items()})

    def _predict(self, asked: Asked, slates: Mapping[str, Slate]) -> None:
        """Let a request that the control answered tell of the challengers."""
        if self._target is None:
            return
        control = slates[self._experiment.control]
        shown = [asked.shown.get(item) for item in control.items]
        measure = self._target.reward
        rewards = [None if one is None else reward_of(measure, one.feedback) for one in shown]
        self._predictions.add(asked.unit, control, rewards, slates)

    def _past_events(self, session: Session) -> list[Event]:
        """Give what is asked of a unit's past; the log's own policy showed it."""
        unit, run = session.unit, self._run
        request_id = request_identity(session.impressions[0].ts, f"{run}|{unit}|{session.impressions[0].ts}")
        shown: list[Event] = []
        done: list[Event] = []
        for position, (item, one) in enumerate(_first_shown(session).items()):
            if IMPRESSION_KIND in self._before.kinds:
                what = (request_id, unit, NO_ARM, NO_ARM, item, position, 0, None, None)
                shown.append(Impression(impression_identity(request_id, item), run, one.ts, *what))
            events = _feedback(run, request_id, unit, one)
            done += [event for event in events if event.kind in self._before.kinds]
        return shown + done

    def _events(self, asked: Asked, arm: str, request: Request, slate: Slate) -> list[Event]:
        """Give the events of one answer: the exposure when it is the unit's first, then what counts."""
        run, unit, request_id = self._run, asked.unit, request.request_id
        version = self._arms[arm].version
        events: list[Event] = []
        if asked.exposes:
            name, place = self._experiment.name, asked.assignment
            identity = exposure_identity(asked.ts, run, unit, name, arm)
            where = (name, place.generation, place.phase, arm, version, place.forced)
            events.append(Exposure(identity, run, asked.ts, unit, *where, slate.fallback))
        done: list[Event] = []
        answer = zip(slate.items, slate.scores, slate.steps, slate.propensities, strict=True)
        for position, (item, score, step, propensity) in enumerate(answer):
            logged = asked.shown.get(item)
            if logged is None:
                continue
            what = (request_id, unit, arm, version, item, position, step, score, propensity, slate.fallback)
            events.append(Impression(impression_identity(request_id, item), run, logged.ts, *what))
            done += _feedback(run, request_id, unit, logged)
        return events + done


class _Before(NamedTuple):
    """What metrics ask of units before their first exposure: the kinds, and how long before it (ms)."""

    kinds: frozenset[str]
    time: int


def _asked_before(metrics: Metrics, options: ReplayOptions) -> _Before:
    """Find what metrics that a replay can tell are adjusted by; pairs are compared within units anyway."""
    kinds: set[str] = set()
    time = 0
    for metric in metrics.values():
        parts, lookback = measures(metric).values(), cuped_of(metric)
        told = options.mode == "rerank" or metric.kind == "ratio"
        if lookback and told and not options.paired and not any(one.aggregate == "days" for one in parts):
            kinds.update(one.event for one in parts)
            time = max(time, lookback)
    return _Before(frozenset(kinds), time)


def _first_shown(session: Session) -> dict[str, LoggedImpression]:
    """Give what a session shows, by item: once, however often it is repeated."""
    shown: dict[str, LoggedImpression] = {}
    for impression in session.impressions:
        shown.setdefault(impression.item, impression)
    return shown


def _feedback(run: str, request_id: str, unit: str, logged: LoggedImpression) -> Iterator[Feedback]:
    item, ts = logged.item, logged.ts
    for kind, value in logged.feedback:
        identity = feedback_identity(request_id, item, kind, 0)
        yield Feedback(identity, run, ts, request_id, unit, item, kind, value)
