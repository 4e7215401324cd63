"""The events of what simulated users are shown and do, as live users' would be."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

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
from armlift.publishing import Message
from armlift.replayer import NO_ARM
from armlift.simulation.course import Page, unit_of
from armlift.simulation.response import ACTIONS, Response
from armlift.simulation.traffic import APP, Traffic
from armlift.simulation.users import Users


class Sender(NamedTuple):
    """Whose events these are: the run, the experiment and its arms, and the generation of each phase."""

    run: str
    experiment: str
    arms: Sequence[str]
    generations: Sequence[int]

    def messages(
        self, users: Users, traffic: Traffic, page: Page, past: Collection[str], ids: Sequence[str]
    ) -> Iterator[Message]:
        """Give each request's message: its unit and its events.

        Of what the app's own policy shows, only kinds in `past` are told, and only of units that may meet an
        arm. `ids` names the videos.
        """
        ever = traffic.ever
        response, items = page.response, page.items
        columns = zip(
            page.rows.tolist(), page.arm.tolist(), page.first.tolist(), page.now.tolist(), items.tolist(),
            response.shown.sum(axis=1).tolist(), response.ts.tolist(), response.click.tolist(),
            response.long_view.tolist(), response.play.tolist(), response.action.tolist(), strict=True,
        )  # fmt: skip
        for at, (row, arm, first, now, videos, shown, ts, click, long_view, play, action) in enumerate(
            columns
        ):
            unit = unit_of(users.first + row)
            if arm == APP and not (past and ever[row]):
                continue
            # Of the run, as other runs have the same users at the same times.
            request_id = request_identity(now, f"{self.run}|{unit}|{now}")
            name, version = NO_ARM, NO_ARM
            if page.service is not None and arm != APP:
                name, version = self.arms[arm], page.service.arms[arm].version
            events: list[Event] = []
            if first:
                events.append(self._exposure(now, unit, arm, version, int(traffic.phase[row])))
            slate = page.slates[at]
            for slot in range(shown):
                item, when = ids[videos[slot]], ts[slot]
                if slate is None:
                    rest: tuple[object, ...] = (0, None, None, False)
                else:
                    rest = (slate.steps[slot], slate.scores[slot], slate.propensities[slot], slate.fallback)
                if slate is not None or IMPRESSION_KIND in past:
                    identity = impression_identity(request_id, item)
                    what = (request_id, unit, name, version, item, slot)
                    events.append(Impression(identity, self.run, when, *what, *rest))  # type: ignore[arg-type]
            for slot in range(shown):
                item, when = ids[videos[slot]], ts[slot]
                for kind, value in _done(click[slot], long_view[slot], play[slot], action[slot]):
                    if slate is not None or kind in past:
                        identity = feedback_identity(request_id, item, kind, 0)
                        events.append(Feedback(identity, self.run, when, request_id, unit, item, kind, value))
            if events:
                yield unit, events

    def _exposure(self, ts: int, unit: str, arm: int, version: str, phase: int) -> Exposure:
        name = self.arms[arm]
        identity = exposure_identity(ts, self.run, unit, self.experiment, name)
        where = (self.experiment, self.generations[phase], phase, name, version)
        return Exposure(identity, self.run, ts, unit, *where)


def done_with(response: Response, row: int, slot: int) -> Iterator[tuple[str, float]]:
    """Give the feedback (kind, value) to the item in a slot of a request, `row` of the response."""
    return _done(
        bool(response.click[row, slot]),
        bool(response.long_view[row, slot]),
        float(response.play[row, slot]),
        int(response.action[row, slot]),
    )


def _done(click: bool, long_view: bool, play: float, action: int) -> Iterator[tuple[str, float]]:
    if click:
        yield "click", 1.0
    if long_view:
        yield "long_view", 1.0
    if play:
        yield "play", play
    if action >= 0:
        yield ACTIONS[action], 1.0
