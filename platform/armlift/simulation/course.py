"""The course of a simulation: days, sessions and pages of a block of users, each page a slate of its arm."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from armlift.arm import ArmConfig, Behaviour, Request, Slate
from armlift.days import Calendar
from armlift.events import request_identity
from armlift.logs.log import SYNTHETIC_USERS_FROM
from armlift.simulation.attributes import Population
from armlift.simulation.draws import Floats, Ints, Purpose, draw_slots, occasion
from armlift.simulation.response import ACTIONS, Response, ResponseModel
from armlift.simulation.traffic import APP, Traffic
from armlift.simulation.users import REST_MS, Users
from armlift.simulation.world import AppPolicy

MOST_PAGES = 64
"""Slates of a session at most."""
BLOCK_CELLS = 60_000_000
"""Users times videos of a block at most: what users were shown is counted by video."""
BLOCK_USERS = 5_000
_REDRAWS = 3
_DAY_MS = 86_400_000


class Page(NamedTuple):
    """Slates that users `rows` [n] of a block were shown, and what they did.

    `arm` numbers the arm that answered, APP for none, int16 [n]; `first` tells whom this exposes, bool [n];
    `now` (UTC milliseconds [n]) is the time of the request. `slates` and `requests` are those of the arms in
    `service`, None for users the app's policy served.
    """

    rows: Ints
    arm: npt.NDArray[np.int16]
    first: npt.NDArray[np.bool_]
    now: Ints
    items: Ints
    requests: Sequence[Request | None]
    slates: Sequence[Slate | None]
    response: Response
    service: "Service | None"


class Answering(Protocol):
    """What answers: an arm, or whatever asks one."""

    version: str

    @property
    def config(self) -> ArmConfig:
        """Give the arm's definition."""
        ...

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order."""
        ...


class Service(NamedTuple):
    """The arms that answer, in the order of their numbers, and what each adds to the log odds of a click.

    `new` tells which arms users are not used to.
    """

    arms: Sequence[Answering]
    added: Floats
    new: npt.NDArray[np.bool_]


class Course:
    """Simulates blocks of users, day by day; a user's course rests on nothing but its arm.

    `k` items a slate, `limit` behaviours a history. `days` of the calendar are counted from the first one of
    the experiment, those before it are negative.
    """

    def __init__(
        self, model: ResponseModel, app: AppPolicy, calendar: Calendar, population: Population, *,
        seed: int, k: int, limit: int, name: str,
    ) -> None:  # fmt: skip
        self.model, self._app, self._calendar, self._population = model, app, calendar, population
        self._seed, self._k, self._limit, self._name = seed, k, limit, name
        self._first = calendar.day(calendar.parse(model.settings.first_day))
        self.skipped = 0
        """Sessions that would have begun after their day."""

    @classmethod
    def pilot(cls, model: ResponseModel, app: AppPolicy, seed: int) -> "Course":
        """Make a course of the app's policy alone, without histories."""
        nobody = Population([{}])
        return cls(model, app, Calendar("UTC"), nobody, seed=seed, k=10, limit=0, name="pilot")

    def start_of(self, day: int) -> int:
        """Give the first moment (UTC milliseconds) of a day."""
        return self._calendar.start_of(self._first + day)

    @property
    def first_day(self) -> int:
        """Number the first day of the experiment, from 1970-01-01 in the calendar's zone."""
        return self._first

    def draw(self, first: int, count: int) -> Users:
        """Draw a block of users before their first day."""
        settings, world = self.model.settings, self.model.world
        return Users.draw(settings, world, self._population, self._seed, first, count, self._limit)

    def blocks(self, users: int) -> list[tuple[int, int]]:
        """Part users into blocks: the first of each, and how many there are."""
        size = max(1, min(BLOCK_USERS, BLOCK_CELLS // self.model.world.videos))
        return [(first, min(size, users - first)) for first in range(0, users, size)]

    def past(self, users: Users, days: range) -> Iterator[Page]:
        """Let users come on days when the app's policy answers everybody."""
        for day in days:
            yield from self.day(users, day, None, None)

    def day(self, users: Users, day: int, traffic: Traffic | None, service: Service | None) -> Iterator[Page]:
        """Let users come on one day; gives what they are shown, page by page."""
        settings, world = self.model.settings, self.model.world
        start, end = self.start_of(day), self.start_of(day + 1)
        # 1970-01-01 was a Thursday.
        weekday = (self._first + day + 3) % 7
        counts, begins = users.begin_day(settings, world, day, weekday, start, end - start)
        for session in range(begins.shape[1]):
            rows = np.flatnonzero(counts > session)
            now = np.maximum(begins[rows, session], users.clock[rows] + REST_MS)
            late = now >= end
            self.skipped += int(late.sum())
            rows, now = rows[~late], now[~late]
            users.begin_session(rows, day, session)
            for page in range(MOST_PAGES):
                if not len(rows):
                    break
                shown = self._page(users, rows, now, (day, session, page), traffic, service)
                yield shown
                users.clock[rows] = shown.response.end
                stays = shown.response.stays
                rows, now = rows[stays], shown.response.end[stays]

    def _page(
        self, users: Users, rows: Ints, now: Ints, place: tuple[int, int, int],
        traffic: Traffic | None, service: Service | None,
    ) -> Page:  # fmt: skip
        n = len(rows)
        arm = np.full(n, APP, dtype=np.int16)
        first = np.zeros(n, dtype=np.bool_)
        extra = np.zeros(n)
        if traffic is not None and service is not None:
            first = traffic.enter(rows, now)
            arm = traffic.arm[rows]
            extra = self._extra(traffic, service, rows, now, arm)
        items = np.full((n, self._k), -1, dtype=np.int64)
        requests: list[Request | None] = [None] * n
        slates: list[Slate | None] = [None] * n
        apps = np.flatnonzero(arm == APP)
        if len(apps):
            items[apps] = self._by_app(users, rows[apps], place)
        for number, one in enumerate(service.arms if service is not None else ()):
            mine = np.flatnonzero(arm == number)
            if len(mine):
                self._by_arm(one, users, rows, now, mine, items, requests, slates)
        response = self.model.respond(users, rows, items, now, extra, place)
        if self._limit:
            self._remember(users, rows, items, response)
        return Page(rows, arm, first, now, items, requests, slates, response, service)

    def _extra(
        self, traffic: Traffic, service: Service, rows: Ints, now: Ints, arm: npt.NDArray[np.int16]
    ) -> Floats:
        """Give what arms add to the log odds of a click: planted effects, and novelty that wears off."""
        settings = self.model.settings
        served = arm >= 0
        extra = np.where(served, service.added[arm], 0.0)
        if settings.novelty:
            days = np.where(served, now - traffic.exposed[rows], 0) / _DAY_MS
            fresh = settings.novelty * np.exp(-days / settings.novelty_days)
            extra += np.where(served & service.new[arm], fresh, 0.0)
        return extra

    def _by_app(self, users: Users, rows: Ints, place: tuple[int, int, int]) -> Ints:
        """Choose slates by the app's policy.

        What a user was shown before is drawn anew, so often; what a slate repeats even then is left out.
        """
        model, keys, k = self.model, users.keys[rows], self._k
        gains = users.gains(rows, model.world, model.settings.taste_strength)
        items = np.full((len(rows), k), -1, dtype=np.int64)
        open_ = np.ones(items.shape, dtype=np.bool_)
        for redraw in range(1 + _REDRAWS):
            some = np.flatnonzero(open_.any(axis=1))
            if not len(some):
                break
            when = occasion(*place, redraw * k)
            chances = [draw_slots(keys[some], one, when, k) for one in (Purpose.CATEGORY, Purpose.VIDEO)]
            drawn = self._app.choose(gains[some], *chances)
            items[some] = np.where(open_[some], drawn, items[some])
            open_[some] = _repeated(items[some])
            if redraw < _REDRAWS:
                open_[some] |= users.repeats[rows[some, None], items[some]] > 0
        items[open_] = -1
        # What is left out goes last, so that a slate has no gaps.
        order = np.argsort(items < 0, axis=1, kind="stable")
        return np.take_along_axis(items, order, axis=1)

    def _by_arm(
        self, arm: Answering, users: Users, rows: Ints, now: Ints, mine: Ints, items: Ints,
        requests: list[Request | None], slates: list[Slate | None],
    ) -> None:  # fmt: skip
        index_of = self.model.world.index_of
        places, times = rows[mine].tolist(), now[mine].tolist()
        asked = [self._request(users, row, ts) for row, ts in zip(places, times, strict=True)]
        answers = arm.recommend(asked)
        for at, request, slate in zip(mine.tolist(), asked, answers, strict=True):
            requests[at], slates[at] = request, slate
            items[at, : len(slate.items)] = [index_of[item] for item in slate.items]

    def _request(self, users: Users, row: int, ts: int) -> Request:
        unit = unit_of(users.first + row)
        identity = request_identity(ts, f"{self._name}|{unit}|{ts}")
        history = tuple(users.histories[row])
        return Request(identity, unit, ts, self._k, history, attributes=users.attributes[row])

    def _remember(self, users: Users, rows: Ints, items: Ints, response: Response) -> None:
        """Write down what users did, item by item, as their arms will be told.

        What is done with an item is of one moment, and stands in the order of the kinds' names, as it does in
        a history that is read from the database.
        """
        ids, histories = self.model.world.ids, users.histories
        row, slot = np.nonzero(response.shown)
        columns = (
            rows[row], items[row, slot], response.ts[row, slot], response.click[row, slot],
            response.long_view[row, slot], response.play[row, slot], response.action[row, slot],
        )  # fmt: skip
        for who, video, ts, click, long_view, play, action in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            done = [("click", 1.0)] if click else []
            if long_view:
                done.append(("long_view", 1.0))
            if play:
                done.append(("play", play))
            if action >= 0:
                done.append((ACTIONS[action], 1.0))
            for kind, value in sorted(done):
                histories[who].append(Behaviour(ids[video], kind, value, ts))


def unit_of(user: int) -> str:
    """Name a simulated user; readers of logs know it by its number."""
    return str(SYNTHETIC_USERS_FROM + user)


def _repeated(items: Ints) -> npt.NDArray[np.bool_]:
    """Tell which places of slates [n, k] repeat an earlier one."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    again = np.zeros(items.shape, dtype=np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    found = np.empty_like(again)
    np.put_along_axis(found, order, again, axis=1)
    return found
