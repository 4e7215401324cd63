"""The work of one replay: arms answer the requests of a log, and their answers become events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from armlift.arm import Arm, Request, Slate
from armlift.asked import Asked, Asking, Mode, Progress, ReplayOptions, first_shown
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
from armlift.interleaving import NOBODY, OTHER, OWN, Drafted, team_draft
from armlift.logs.reader import Log
from armlift.logs.sessions import LoggedImpression, Session
from armlift.metric import Metrics
from armlift.outcomes import Outcomes
from armlift.predictions import Predictions, reward_of, target_of
from armlift.publishing import Message
from armlift.resolution import SlateComparison
from armlift.runs import INTERLEAVED
from armlift.slates import request_key

__all__ = ["NO_ARM", "Asked", "Message", "Mode", "Progress", "ReplayOptions", "Replayer"]

NO_ARM = "-"
"""Whose the impressions are that no arm chose; no arm can have this name."""

Slates = dict[tuple[int, str], tuple[Request, Slate]]
"""What arms answered, by the request's number and the arm."""


class Answer(NamedTuple):
    """What an arm answered to a request, and what counts of it, by item."""

    request: Request
    slate: Slate
    outcomes: Mapping[str, LoggedImpression]


class Replayer:
    """The work of one replay: requests in, messages out, and what was counted on the way."""

    def __init__(
        self,
        experiment: Experiment,
        metrics: Metrics,
        log: Log,
        run: str,
        arms: Mapping[str, Arm],
        options: ReplayOptions,
        asking: Asking,
        outcomes: Outcomes,
    ) -> None:
        self._experiment = experiment
        self._log = log
        self._run = run
        self._arms = arms
        self._options = options
        self._asking = asking
        self._outcomes = outcomes
        self.comparison = SlateComparison(experiment.control, experiment.arms)
        self._target = target_of(experiment.metrics.primary, metrics)
        self._predictions = Predictions(experiment.control, experiment.arms)
        self._compared: dict[int, Mapping[str, Slate]] = {}

    def resolution(self) -> dict[str, object]:
        """Say what the run's figures rest on: requests compared, rows, those shown at random.

        And which lift the control's own requests predict of each challenger.
        """
        known = self._log.summary.random_rows is not None
        target, alpha = self._target, self._experiment.analysis.alpha
        return {
            **self.comparison.result(),
            "rows": self._asking.rows,
            "random_rows": self._asking.random_rows if known else None,
            "predicted": None if target is None else self._predictions.result(target.metric, alpha=alpha),
            **self._outcomes.basis(),
        }

    def dropped(self) -> dict[str, int]:
        """Count what was left out, by reason: rows of the log, then requests, then what was shown."""
        left_out = {**self._asking.left_out, **self._outcomes.left_out}
        return {**self._log.dropped, **self._log.noted, **dict(sorted(left_out.items()))}

    def asked(self, progress: Progress | None) -> Iterator[Asked]:
        """Turn the log into requests of the units that take part."""
        return self._asking.requests(progress)

    def most_shown(self, asked: Asked) -> int:
        """Bound the items that count of a request, over the arms that answer it; at least 1."""
        arms = len(self._arms) if self._options.paired else 1
        past = sum(len(session.impressions) for session in asked.past)
        k = self._options.k
        return arms * (k if self._options.answered else min(k, len(asked.shown))) + past

    def messages(self, batch: Sequence[Asked]) -> Iterator[Message]:
        """Answer requests; gives each message's unit and events, in the order of the requests."""
        if self._options.mode == INTERLEAVED:
            yield from self._interleaved(batch)
            return
        answers: dict[tuple[int, str], Answer] = {}
        for part in self._parts(batch):
            slates = self._paired(part) if self._options.paired else self._routed(part)
            for asked in part:
                for arm in self._arms_of(asked):
                    answers[asked.number, arm] = self._outcome(asked, arm, *slates[asked.number, arm])
        self._predict(batch, answers)
        for asked in batch:
            for arm in self._arms_of(asked):
                yield asked.unit, self._events(asked, arm, answers[asked.number, arm])
            yield from ((asked.unit, self._past_events(session)) for session in asked.past)

    def _parts(self, batch: Sequence[Asked]) -> list[list[Asked]]:
        """Part requests so that none waits for another of its part: where units answer, each stands once."""
        if not self._options.answered:
            return [list(batch)]
        parts: list[list[Asked]] = []
        turns: dict[str, int] = {}
        for asked in batch:
            turn = turns.get(asked.unit, 0)
            turns[asked.unit] = turn + 1
            if turn == len(parts):
                parts.append([])
            parts[turn].append(asked)
        return parts

    def _arms_of(self, asked: Asked) -> list[str]:
        return list(self._arms) if self._options.paired else [asked.assignment.arm]

    def _outcome(self, asked: Asked, arm: str, request: Request, slate: Slate) -> Answer:
        outcomes = self._outcomes.of(asked, arm, slate.items)
        if self._options.answered:
            self._asking.histories.live(asked.unit, arm, asked.ts, slate.items, outcomes)
        return Answer(request, slate, outcomes)

    def _request(self, asked: Asked, arm: str, *, apart: bool) -> Request:
        """Make a request; one that asks `apart` draws other random numbers than those of other arms."""
        content = f"{self._run}|{asked.unit}|{asked.ts}"
        if apart:
            content = f"{content}|{arm}"
        history = asked.history
        if self._options.answered:
            whose = arm if self._options.paired else asked.assignment.arm
            history = self._asking.histories.lived(asked.unit, whose)
        # The order of the log says what its own policy preferred; the arms must not see it.
        candidates = None if self._options.recalls else sorted(asked.shown)
        identity = request_identity(asked.ts, content)
        return Request(
            identity,
            asked.unit,
            asked.ts,
            self._options.k,
            history,
            candidates,
            attributes=self._asking.attributes.get(asked.unit),
        )

    def _answer(
        self, arm: str, batch: Sequence[Asked], *, apart: bool = False
    ) -> list[tuple[Request, Slate]]:
        requests = [self._request(asked, arm, apart=apart) for asked in batch]
        return list(zip(requests, self._arms[arm].recommend(requests), strict=True))

    def _paired(self, batch: Sequence[Asked]) -> Slates:
        answers = {arm: self._answer(arm, batch, apart=True) for arm in self._arms}
        self.comparison.add({arm: [slate for _, slate in answer] for arm, answer in answers.items()})
        self._compared.update(
            {
                asked.number: {arm: answer[index][1] for arm, answer in answers.items()}
                for index, asked in enumerate(batch)
            }
        )
        return {
            (asked.number, arm): answer[index]
            for arm, answer in answers.items()
            for index, asked in enumerate(batch)
        }

    def _interleaved(self, batch: Sequence[Asked]) -> Iterator[Message]:
        """Draft one slate of the challenger's and the control's; they differ where an item is credited."""
        (arm,), control = self._experiment.challengers, self._experiment.control
        options = self._options
        answers = zip(batch, self._answer(arm, batch), self._answer(control, batch), strict=True)
        for asked, (request, own), (_, other) in answers:
            drafted = team_draft(own, other, options.k, request_key(options.seed, request.request_id))
            self.comparison.add({arm: [drafted.of(OWN)], control: [drafted.of(OTHER)]})
            yield asked.unit, self._drafted_events(asked, request, drafted, {arm: own, control: other})

    def _routed(self, batch: Sequence[Asked]) -> Slates:
        answers: Slates = {}
        for arm in self._arms:
            own = [asked for asked in batch if asked.assignment.arm == arm]
            answers.update(zip(((asked.number, arm) for asked in own), self._answer(arm, own), strict=True))
        self._compare([asked for asked in batch if self.comparison.takes(asked.number)], answers)
        return answers

    def _compare(self, batch: Sequence[Asked], answers: Slates) -> None:
        slates: dict[str, list[Slate]] = {}
        for arm in self._arms:
            others = [asked for asked in batch if asked.assignment.arm != arm]
            given = iter(self._answer(arm, others, apart=True))
            slates[arm] = [
                answers[asked.number, arm][1] if asked.assignment.arm == arm else next(given)[1]
                for asked in batch
            ]
        self.comparison.add(slates)
        for index, asked in enumerate(batch):
            if asked.assignment.arm == self._experiment.control:
                self._compared[asked.number] = {arm: found[index] for arm, found in slates.items()}

    def _predict(self, batch: Sequence[Asked], answers: Mapping[tuple[int, str], Answer]) -> None:
        """Let the requests that every arm was asked, and the control answered, tell of the challengers."""
        for asked in batch:
            slates = self._compared.pop(asked.number, None)
            if slates is None or self._target is None:
                continue
            _, control, outcomes = answers[asked.number, self._experiment.control]
            shown = [outcomes.get(item) for item in control.items]
            measure = self._target.reward
            rewards = [None if one is None else reward_of(measure, one.feedback) for one in shown]
            self._predictions.add(asked.unit, control, rewards, slates)

    def _past_events(self, session: Session) -> list[Event]:
        """Give what is asked of a unit's past; the log's own policy showed it."""
        unit, run = session.unit, self._run
        request_id = request_identity(session.impressions[0].ts, f"{run}|{unit}|{session.impressions[0].ts}")
        shown: list[Event] = []
        done: list[Event] = []
        for position, (item, one) in enumerate(first_shown(session).items()):
            if IMPRESSION_KIND in self._asking.before.kinds:
                what = (request_id, unit, NO_ARM, NO_ARM, item, position, 0, None, None)
                shown.append(Impression(impression_identity(request_id, item), run, one.ts, *what))
            events = _feedback(run, request_id, unit, one)
            done += [event for event in events if event.kind in self._asking.before.kinds]
        return shown + done

    def _events(self, asked: Asked, arm: str, answered: Answer) -> list[Event]:
        """Give the events of one answer: the exposure when it is the unit's first, then what counts."""
        slate = answered.slate
        run, unit, request_id = self._run, asked.unit, answered.request.request_id
        version = self._arms[arm].version
        events: list[Event] = [self._exposure(asked, arm, slate)] if asked.exposes else []
        done: list[Event] = []
        answer = zip(slate.items, slate.scores, slate.steps, slate.propensities, strict=True)
        for position, (item, score, step, propensity) in enumerate(answer):
            logged = answered.outcomes.get(item)
            if logged is None:
                continue
            what = (request_id, unit, arm, version, item, position, step, score, propensity, slate.fallback)
            events.append(Impression(impression_identity(request_id, item), run, logged.ts, *what))
            done += _feedback(run, request_id, unit, logged)
        return events + done

    def _drafted_events(
        self, asked: Asked, request: Request, drafted: Drafted, slates: Mapping[str, Slate]
    ) -> list[Event]:
        """Give the events of one drafted slate: exposures to both arms, then each item under its team."""
        run, unit, request_id = self._run, asked.unit, request.request_id
        events: list[Event] = []
        if asked.exposes:
            events += [self._exposure(asked, arm, slate) for arm, slate in slates.items()]
        done: list[Event] = []
        teams = [(arm, self._arms[arm].version, slate.fallback) for arm, slate in slates.items()]
        for position, (item, team, score, step) in enumerate(zip(*drafted, strict=True)):
            arm, version, fallback = teams[team] if team != NOBODY else (NO_ARM, NO_ARM, False)
            what = (request_id, unit, arm, version, item, position, step, score, None, fallback)
            logged = asked.shown[item]
            events.append(Impression(impression_identity(request_id, item), run, logged.ts, *what))
            done += _feedback(run, request_id, unit, logged)
        return events + done

    def _exposure(self, asked: Asked, arm: str, slate: Slate) -> Exposure:
        run, unit, name, place = self._run, asked.unit, self._experiment.name, asked.assignment
        identity = exposure_identity(asked.ts, run, unit, name, arm)
        where = (name, place.generation, place.phase, arm, self._arms[arm].version, place.forced)
        return Exposure(identity, run, asked.ts, unit, *where, slate.fallback)


def _feedback(run: str, request_id: str, unit: str, logged: LoggedImpression) -> Iterator[Feedback]:
    item, ts = logged.item, logged.ts
    for kind, value in logged.feedback:
        identity = feedback_identity(request_id, item, kind, 0)
        yield Feedback(identity, run, ts, request_id, unit, item, kind, value)
