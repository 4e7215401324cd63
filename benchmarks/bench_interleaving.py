"""Users needed for 80 % power, by an A/B test and by interleaving, in simulated worlds; and type-I errors.

For each pair of arms three worlds are simulated with the same users and luck: one arm for everybody, the
other for everybody, and slates drafted of both. A run of n users then draws them from these, with
replacement: half of them to each arm's world and tested by clicks per impression (delta method), or all to
the drafted one and tested by the preference of their clicks. Power is the share of RUNS runs that find a
difference at ALPHA in the right direction. Arms of a pair without a difference give the type-I error instead.
"""

import sys
from collections.abc import Callable, Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from figures import Figure, show

from armlift.arm import Arm, Request, Slate, arm_class, new_arm
from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.interleaving import NOBODY, OTHER, OWN, team_draft
from armlift.simulation.course import Page
from armlift.simulation.laboratory import Laboratory, Size
from armlift.simulation.traffic import APP, Traffic
from armlift.simulation.users import Users
from armlift.slates import request_key
from armlift.stats.aggregates import Aggregates
from armlift.stats.interleaving import preference
from armlift.stats.ratios import delta_ratio

USERS, DAYS, RUNS, ALPHA, POWER = 6_000, 3, 400, 0.05, 0.8
SAME_RUNS = 4_000
SETTINGS = {"history_days": 3, "training_users": 3_000, "videos": 1_000, "sessions_per_day": 1.5}
DEFINITIONS: Mapping[str, Mapping[str, object]] = {
    "popularity": {"model": "popularity"},
    "covisitation": {"model": "covisitation"},
    "last item": {"model": "covisitation", "recent": 1},
    "last five": {"model": "covisitation", "recent": 5},
    "random": {"model": "random"},
    "random again": {"model": "random", "seed": 1},
}
PAIRS = (("covisitation", "popularity"), ("covisitation", "last item"), ("covisitation", "last five"))
SAME = ("random", "random again")
SIZES = [round(20 * 2 ** (step / 4)) for step in range(50)]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Drafting:
    """An arm that drafts slates of two others', and remembers whose each item is."""

    def __init__(self, own: Arm, other: Arm) -> None:
        self.config, self.version, self.capabilities = own.config, "drafted", own.capabilities
        self._own, self._other = own, other
        self.teams: dict[str, list[int]] = {}

    def recommend(self, requests: list[Request]) -> list[Slate]:
        """Draft one slate a request."""
        found = []
        pairs = zip(requests, self._own.recommend(requests), self._other.recommend(requests), strict=True)
        for request, own, other in pairs:
            drafted = team_draft(own, other, request.k, request_key(0, request.request_id))
            self.teams[request.request_id] = list(drafted.teams)
            found.append(Slate(drafted.items, drafted.scores, drafted.steps, [None] * len(drafted.items)))
        return found


class Worlds(NamedTuple):
    """What each user did, float64 [users, 2]: clicks and impressions, or credits of drafted slates."""

    own: Floats
    other: Floats
    drafted: Floats

    def lift(self) -> float:
        """Give the true lift of the first arm in clicks per impression."""
        rates = [world[:, 0].sum() / world[:, 1].sum() for world in (self.own, self.other)]
        return float(rates[0] / rates[1] - 1)


def laboratory(users: int) -> Laboratory:
    """Make a world."""
    experiment = Experiment.model_validate(
        {
            "name": "interleaving",
            "arms": {"one": 1, "two": 1},
            "control": "two",
            "metrics": {"primary": ["clicks"]},
            "simulation": SETTINGS,
        }
    )
    return Laboratory.of(experiment, Calendar("UTC"), Size(users, DAYS, 10, 0), 200)


def worlds(lab: Laboratory, arms: Mapping[str, Arm], pair: tuple[str, str]) -> Worlds:
    """Simulate the three worlds of a pair."""
    own, other = (arms[name] for name in pair)
    drafting = Drafting(own, other)
    return Worlds(
        live(lab, own, counted),
        live(lab, other, counted),
        live(lab, drafting, credited(drafting)),  # type: ignore[arg-type]
    )


Count = Callable[[Page], Floats]


def counted(page: Page) -> Floats:
    """Count clicks and impressions of each request, float64 [n, 2]."""
    response = page.response
    return np.stack([response.click.sum(axis=1), response.shown.sum(axis=1)], axis=1).astype(np.float64)


def credited(drafting: Drafting) -> Count:
    """Credit clicks to the teams of a drafted slate."""

    def count(page: Page) -> Floats:
        k = page.items.shape[1]
        teams = np.full((len(page.rows), k), NOBODY, dtype=np.int64)
        for at, request in enumerate(page.requests):
            assert request is not None
            mine = drafting.teams.pop(request.request_id)
            teams[at, : len(mine)] = mine
        return np.stack(
            [(page.response.click & (teams == team)).sum(axis=1) for team in (OWN, OTHER)], axis=1
        )

    return count


def live(lab: Laboratory, arm: Arm, count: Count) -> Floats:
    """Let all users meet an arm; gives what is counted of each, float64 [USERS, 2]."""
    totals = np.zeros((lab.size.users, 2))

    def page(users: Users, traffic: Traffic, page: Page) -> None:
        if page.service is not None and (page.arm != APP).all():
            np.add.at(totals, users.first + page.rows, count(page))

    lab.run({"one": arm}, lambda users: Traffic.everybody(0, len(users)), page=page)
    return totals


def by_ab(found: Worlds, users: Ints, coins: Floats | None) -> float | None:
    """Run an A/B test of some users; gives its signed p-value, None where it cannot be told."""
    half = len(users) // 2
    own, other = found.own[users], found.other[users]
    if coins is not None:
        own, other = swapped(own, other, coins)
    arm = Aggregates.of(("clicks", "shown"), own[:half])
    control = Aggregates.of(("clicks", "shown"), other[half:])
    effect = delta_ratio(arm, control, "clicks", "shown")
    return _signed(effect.p_value, effect.difference)


def by_interleaving(found: Worlds, users: Ints, coins: Floats | None) -> float | None:
    """Run an interleaved test of some users; gives its signed p-value, None where it cannot be told."""
    told = found.drafted[users]
    if coins is not None:
        told = swapped(told, told[:, ::-1], coins)[0]
    preferred = preference(Aggregates.of(("own", "other"), told))
    return _signed(preferred.p_value, preferred.value)


def swapped(own: Floats, other: Floats, coins: Floats) -> tuple[Floats, Floats]:
    """Let arms change places where a coin says so, so that a pair without a difference has none at all."""
    swap = (coins < 0.5)[:, None]
    return np.where(swap, other, own), np.where(swap, own, other)


def _signed(p: float | None, value: float | None) -> float | None:
    return None if p is None or value is None else float(np.copysign(max(p, 1e-300), value))


Test = Callable[[Worlds, Ints, Floats | None], float | None]


def found_share(test: Test, found: Worlds, n: int, sign: float, seed: int) -> float:
    """Give the share of runs of n users that find a difference of a sign; 0 is for arms without one."""
    hits, runs = 0, RUNS if sign else SAME_RUNS
    for number in range(runs):
        rng = np.random.default_rng([seed, n, number])
        users = rng.integers(0, len(found.own), n)
        p = test(found, users, None if sign else rng.random(n))
        hits += p is not None and abs(p) < ALPHA and (not sign or p * sign > 0)
    return hits / runs


def needed(test: Test, found: Worlds, sign: float) -> int | None:
    """Find the fewest users of SIZES with which the power is reached, by halving; None beyond all sizes."""
    low, high = -1, len(SIZES)
    while high - low > 1:
        middle = (low + high) // 2
        if found_share(test, found, SIZES[middle], sign, 1) >= POWER:
            high = middle
        else:
            low = middle
    return SIZES[high] if high < len(SIZES) else None


def main() -> None:
    """Measure and print."""
    users = int(sys.argv[1]) if len(sys.argv) > 1 else USERS
    lab = laboratory(users)
    past = lab.past_data()
    arms = {}
    for name, definition in DEFINITIONS.items():
        model = str(definition["model"])
        arm = new_arm(
            arm_class(model).config_class.model_validate({"name": name.replace(" ", "-"), **definition})
        )
        arm.fit(past.histories(), past.items, until=past.until)
        arms[name] = arm
    figures, most_users = [], f"> {SIZES[-1]:,}"
    print(f"{'pair':<34}{'true lift':>10}{'preference':>12}{'A/B':>9}{'drafted':>9}{'times':>8}")
    for pair in PAIRS:
        found = worlds(lab, arms, pair)
        told = preference(Aggregates.of(("own", "other"), found.drafted))
        sign = np.sign(found.lift())
        ab, drafted = needed(by_ab, found, sign), needed(by_interleaving, found, sign)
        ratio = None if ab is None or drafted is None else ab / drafted
        name = " against ".join(pair)
        cells = (
            f"{told.value:+.3f}",
            f"{ab:,}" if ab else most_users,
            f"{drafted:,}" if drafted else most_users,
            "-" if ratio is None else f"{ratio:.1f}",
        )
        print(
            f"{name:<34}{found.lift():>+10.1%}{cells[0]:>12}{cells[1]:>9}{cells[2]:>9}{cells[3]:>8}",
            flush=True,
        )
        figures.append(
            Figure(
                f"interleaving: {name}", float(drafted or SIZES[-1]), "users", "an A/B test",
                None if ab is None else float(ab), ratio, "fewer users", ratio is None or ratio > 1,
            )
        )  # fmt: skip
    same = worlds(lab, arms, SAME)
    most = ALPHA + 3 * sqrt(ALPHA * (1 - ALPHA) / SAME_RUNS)
    for name, test in (("A/B", by_ab), ("drafted", by_interleaving)):
        for n in (200, 1_000):
            share = found_share(test, same, n, 0, 2)
            print(f"type-I error, {name}, {n} users: {share:.3f}, at most {most:.3f}")
            figures.append(
                Figure(
                    f"interleaving: type-I, {name}, {n}", share, "of runs", "alpha", ALPHA, None,
                    f"<= {most:.3f}", share <= most,
                )
            )  # fmt: skip
    print()
    show(figures)


if __name__ == "__main__":
    main()
