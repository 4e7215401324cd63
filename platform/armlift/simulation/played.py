"""Played: simulated users meet a live experiment through its API, as the clients of an app would.

Users, their luck and their clock are those of `simulate`; who answers them, and what becomes of their events,
is the API's affair. What they did before the experiment is told first, as events of no arm.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from armlift.api.models import RecommendAnswer
from armlift.arm import ArmConfig, Request, Slate
from armlift.client import BATCH, Client
from armlift.errors import ArmliftError, InputError
from armlift.events import IMPRESSION_KIND, Event
from armlift.experiment import Experiment
from armlift.lab import Lab
from armlift.simulation.attributes import Population
from armlift.simulation.course import Page
from armlift.simulation.laboratory import Laboratory, Progress, Size
from armlift.simulation.messages import Sender, done_with
from armlift.simulation.response import KINDS
from armlift.simulation.traffic import APP, Traffic
from armlift.simulation.users import Users

TOGETHER = 16
"""Requests under way at a time."""


class Played(NamedTuple):
    """What came of it: requests answered, how many by a fallback (by reason), events sent, versions met."""

    run: str
    requests: int
    fallbacks: dict[str, int]
    events: int
    versions: dict[str, list[str]]


class ApiArm:
    """An arm that answers over HTTP; `answers` holds what it was told, by request."""

    def __init__(
        self, client: Client, experiment: str, config: ArmConfig, workers: ThreadPoolExecutor
    ) -> None:
        self._client, self._experiment, self._workers = client, experiment, workers
        self.config = config
        self.version = ""
        self.answers: dict[str, RecommendAnswer] = {}

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Ask for each request's slate; raises ArmliftError where another arm answers."""
        return list(self._workers.map(self._ask, requests))

    def _ask(self, request: Request) -> Slate:
        answer = self._client.recommend(
            request.unit, experiment=self._experiment, k=request.k, request_id=request.request_id,
            context=_context(request.attributes or {}),
        )  # fmt: skip
        if answer.arm != self.config.name or not answer.exposed:
            raise ArmliftError(
                f"unit {request.unit}: the API gives arm {answer.arm} ({answer.rule}), this lab's splitter "
                f"{self.config.name}: both must have the same definition"
            )
        self.version = answer.arm_version
        self.answers[request.request_id] = answer
        items = answer.items
        return Slate(
            [one.item_id for one in items],
            [0.0 if one.score is None else one.score for one in items],
            [one.step for one in items],
            [one.propensity for one in items],
            answer.fallback is not None,
        )


def _context(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    """Give the attributes a request can bring: those that have a value."""
    return {name: value for name, value in attributes.items() if isinstance(value, str | int | float)}


class Play:
    """One play of an experiment of a lab, started at the first day of its simulation, through an API."""

    def __init__(self, lab: Lab, experiment: Experiment, size: Size, client: Client) -> None:
        """Calibrate the users' world; raises InputError unless the API has the experiment running."""
        if experiment.simulation.retrain == "nightly":
            raise InputError(
                f"experiment {experiment.name}: simulation.retrain: 'nightly' is the API's affair, must not "
                f"stand here"
            )
        self._lab, self._experiment, self._client = lab, experiment, client
        found = {one.experiment: one for one in client.experiments()}.get(experiment.name)
        if found is None or found.state != "running":
            state = "not started" if found is None else found.state
            raise InputError(f"experiment {experiment.name}: is {state} at the API, must be running")
        self.run = found.run
        self.laboratory = Laboratory.of(
            experiment, lab.calendar, size, lab.settings.history_limit, Population.synthetic(), name=self.run
        )
        self._split = lab.split(experiment)
        self._names = list(experiment.arms)
        self._starts = self.laboratory.starts()
        self._sent = 0
        self._requests = 0
        self._fallbacks: Counter[str] = Counter()
        self._versions: dict[str, set[str]] = {}

    def play(self, progress: Progress | None = None) -> Played:
        """Let all users live; returns when all their events are kept."""
        names = self._names
        generations = [phase.generation for phase in self._split.phases]
        sender = Sender(self.run, self._experiment.name, names, generations)
        with ThreadPoolExecutor(TOGETHER, "armlift-play") as workers:
            arms = {
                name: ApiArm(self._client, self._experiment.name, self._lab.arm(name), workers)
                for name in names
            }

            def page(users: Users, traffic: Traffic, shown: Page) -> None:
                self._tell(workers, self._of_app(sender, users, traffic, shown))
                self._tell(workers, self._of_arms(arms, shown))

            self.laboratory.run(arms, self._traffic, page=page, progress=progress)
        versions = {name: sorted(found) for name, found in self._versions.items()}
        return Played(self.run, self._requests, dict(self._fallbacks), self._sent, versions)

    def _traffic(self, users: Users) -> Traffic:
        return self.laboratory.traffic(self._split, self._starts, users)

    def _of_app(self, sender: Sender, users: Users, traffic: Traffic, shown: Page) -> Iterator[Event]:
        """Give the events of what the app's own policy showed: arms learn from them."""
        mask = shown.arm == APP
        if not mask.any():
            return
        places = np.flatnonzero(mask).tolist()
        part = shown._replace(
            rows=shown.rows[mask], arm=shown.arm[mask], first=shown.first[mask], now=shown.now[mask],
            items=shown.items[mask], requests=[None] * len(places), slates=[None] * len(places),
            response=type(shown.response)(*(column[mask] for column in shown.response)),
        )  # fmt: skip
        told = frozenset({IMPRESSION_KIND, *KINDS})
        for _, events in sender.messages(users, traffic, part, told, self.laboratory.model.world.ids):
            yield from events

    def _of_arms(self, arms: dict[str, ApiArm], shown: Page) -> Iterator[Event]:
        """Give the events of slates that arms answered, of what users came to."""
        response = shown.response
        for row, request in enumerate(shown.requests):
            if request is None:
                continue
            answer = arms[self._names[int(shown.arm[row])]].answers.pop(request.request_id)
            self._count(answer)
            for slot in range(int(response.shown[row].sum())):
                ts = int(response.ts[row, slot])
                yield self._client.impression(answer, slot, ts=ts)
                for kind, value in done_with(response, row, slot):
                    yield self._client.feedback(answer, slot, kind, value, ts=ts)

    def _count(self, answer: RecommendAnswer) -> None:
        self._requests += 1
        self._versions.setdefault(answer.arm, set()).add(answer.arm_version)
        if answer.fallback is not None:
            self._fallbacks[answer.fallback] += 1

    def _tell(self, workers: ThreadPoolExecutor, events: Iterable[Event]) -> None:
        """Send what users did, before they ask again."""
        some = list(events)
        parts = [some[start : start + BATCH] for start in range(0, len(some), BATCH)]
        self._sent += sum(workers.map(self._client.send, parts))
