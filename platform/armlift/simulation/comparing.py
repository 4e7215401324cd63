"""Comparing: how often arms would have shown other slates to the same requests, and what that predicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from armlift.arm import Request, Slate
from armlift.events import request_identity
from armlift.experiment import Experiment
from armlift.metric import Metrics
from armlift.predictions import Predictions, reward_of, target_of
from armlift.resolution import SlateComparison
from armlift.simulation.course import Page
from armlift.simulation.messages import done_with
from armlift.simulation.response import Response


class Comparing:
    """Asks every arm some of the requests that one of them answered; see `SlateComparison` for which.

    Where users look less at later slots, predictions are made slot by slot.
    """

    def __init__(self, experiment: Experiment, metrics: Metrics, arms: Sequence[str]) -> None:
        self._arms, self._control = list(arms), experiment.control
        self._target = target_of(experiment.metrics.primary, metrics)
        self._alpha = experiment.analysis.alpha
        self._comparison = SlateComparison(experiment.control, arms)
        by_slot = experiment.simulation.position_bias > 0
        self._predictions = Predictions(experiment.control, arms, by_slot=by_slot)
        self._number = 0

    def add(self, page: Page) -> None:
        """Compare what the page's requests would have got of every arm."""
        asked: list[int] = []
        for at, request in enumerate(page.requests):
            if request is not None:
                if self._comparison.takes(self._number):
                    asked.append(at)
                self._number += 1
        if not asked or page.service is None:
            return
        slates: dict[str, list[Slate]] = {}
        for number, name in enumerate(self._arms):
            others = [_apart(page.requests[at], name) for at in asked if page.arm[at] != number]
            given = iter(page.service.arms[number].recommend(others) if others else [])
            slates[name] = [_own(page, at) if page.arm[at] == number else next(given) for at in asked]
        self._comparison.add(slates)
        if self._target is None:
            return
        control = self._arms.index(self._control)
        for place, at in enumerate(asked):
            request = page.requests[at]
            if page.arm[at] == control and request is not None:
                answers = {name: found[place] for name, found in slates.items()}
                rewards = self._rewards(page.response, at, len(answers[self._control].items))
                self._predictions.add(request.unit, answers[self._control], rewards, answers)

    def _rewards(self, response: Response, at: int, slots: int) -> list[float | None]:
        """Give the reward of each slot that the user came to."""
        assert self._target is not None
        return [
            reward_of(self._target.reward, list(done_with(response, at, slot)))
            if response.shown[at, slot]
            else None
            for slot in range(slots)
        ]

    def result(self) -> Mapping[str, Any]:
        """Give the counts and the predictions as plain data."""
        predicted = None
        if self._target is not None:
            predicted = self._predictions.result(self._target.metric, alpha=self._alpha)
        return {**self._comparison.result(), "predicted": predicted}


def _own(page: Page, at: int) -> Slate:
    slate = page.slates[at]
    assert slate is not None
    return slate


def _apart(request: Request | None, arm: str) -> Request:
    """Ask with random numbers of its own: shared ones would tie the arms' draws together."""
    assert request is not None
    return request._replace(request_id=request_identity(request.ts, f"{request.request_id}|{arm}"))
