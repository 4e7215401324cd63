"""Demand: how many users there are and what they do, as a capacity plan is asked for."""

from dataclasses import dataclass
from math import isfinite

from armlift.complaints import choices
from armlift.costs import Costs
from armlift.errors import InputError

DAY_SECONDS = 86_400
EVENTS_PER_REQUEST = 12
"""Events of a request in the benchmarks: an exposure, six impressions, five of feedback."""
BEHAVIOURS = 5 / 12
"""The share of events that are feedback, in the same mix: what arms learn from."""
MOST_USERS = 100_000_000_000
MOST_A_DAY = 10_000
"""Events or requests of one user a day, at most: so a number meant for all of them is seen."""


@dataclass(frozen=True)
class Demand:
    """What is asked for; `events_per_day` and `requests_per_day` are those of ONE user, on average.

    `users` are those with an event in the last 30 days. `peak` is the busiest second against the mean one.
    `days_kept` are days of events in SQL (None: as many as data sets ask of it), `archive_days` those of the
    archive and the rollup, `stream_days` those of the topic, `window` those that arms learn from,
    `experiment_days` those that a report reads. `epochs` are passes of a training over what is learned from,
    `memory` the bytes one process may use.
    """

    users: int
    events_per_day: float
    requests_per_day: float
    days_kept: int | None = None
    archive_days: int = 365
    stream_days: int = 7
    window: int = 90
    experiment_days: int = 14
    peak: float = 3.0
    items: int = 100_000
    arms: tuple[str, ...] = ("recgpt",)
    epochs: int = 5
    night_hours: float = 6.0
    memory: float = 64e9

    @property
    def events(self) -> float:
        """Give the events of a day."""
        return self.users * self.events_per_day

    @property
    def events_at_peak(self) -> float:
        """Give the events of the busiest second."""
        return self.events / DAY_SECONDS * self.peak

    @property
    def requests_at_peak(self) -> float:
        """Give the requests of the busiest second."""
        return self.users * self.requests_per_day / DAY_SECONDS * self.peak

    @property
    def unit_days(self) -> float:
        """Give how many units have events on a day: no more than there are requests."""
        return self.users * min(1.0, self.requests_per_day)

    @property
    def counted(self) -> float:
        """Give the events the rollup reads in a day: after each request of a unit all of its day so far."""
        requests = self.users * self.requests_per_day / self.unit_days
        return self.events * (requests + 1) / 2

    @property
    def behaviours(self) -> float:
        """Give the behaviours that arms learn from."""
        return self.events * self.window * BEHAVIOURS


def check(demand: Demand, costs: Costs) -> None:
    """Refuse what cannot be planned; raises InputError that names option, value and what is allowed."""
    for option, value, most in (
        ("--users", demand.users, MOST_USERS),
        ("--events-per-day", demand.events_per_day, MOST_A_DAY),
        ("--requests-per-day", demand.requests_per_day, MOST_A_DAY),
        ("--days-kept", 1 if demand.days_kept is None else demand.days_kept, 36_500),
        ("--window", demand.window, 36_500),
        ("--items", demand.items, 10_000_000_000),
        ("--epochs", demand.epochs, 10_000),
        ("--night-hours", demand.night_hours, 24),
        ("--memory-gb", demand.memory / 1e9, 1_000_000),
    ):
        if not (isfinite(value) and 0 < value <= most):
            whose = " (of one user)" if most == MOST_A_DAY else ""
            raise InputError(f"{option} {value:g}: must be above 0 and at most {most:,}{whose}")
    if not 1.0 <= demand.peak <= 1000.0:
        raise InputError(f"--peak {demand.peak:g}: must be 1 to 1,000 times the mean")
    for arm in demand.arms:
        if arm not in costs.arms:
            raise InputError(f"--arms {arm!r}: {choices(arm, costs.arms)}")
