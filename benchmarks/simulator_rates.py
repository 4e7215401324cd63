"""Are simulated rates the published ones? Uniform draws and the app's own policy, as calibrated.

Levels are fitted on pilots of some hundred users over two days; here other users live through the same two
days, so that what a pilot's users happened to be shows. Later days are printed for orientation: there tastes
have moved on and what is liked has been seen, and nothing holds the rates.

`python benchmarks/simulator_rates.py` runs this part by itself.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from figures import Figure, show

from armlift.logs import published
from armlift.simulation.calibration import APP, TARGETS, UNIFORM, calibrate
from armlift.simulation.course import Course
from armlift.simulation.response import ResponseModel
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.world import AppPolicy

SHARE = float(os.environ.get("ARMLIFT_BENCH_SHARE", "1"))
"""What the numbers of users are multiplied by."""
SEED = 4_000_000
DAYS, LATER = 2, 7
RATE = 0.01
"""What a rate may be off by beside three standard errors: pilots have the spread of their users."""
WORLDS: dict[str, tuple[int, dict[str, Any]]] = {
    "default settings": (8_000, {}),
    "published sizes": (
        400,
        {
            "sessions_per_day": round(published.SESSIONS_PER_DAY, 2),
            "rows_per_session": round(published.ROWS_PER_SESSION),
            "videos": 30_000,
        },
    ),
}
Floats = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """What users were shown.

    `users` has the impressions, clicks and long views of each, float64 [users, 3]; `hours` and `tabs` the
    impressions of each.
    """

    users: Floats
    sessions: int
    hours: Floats
    tabs: Floats

    def rate(self, column: int) -> tuple[float, float]:
        """Give clicks (1) or long views (2) an impression, and the standard error, users as clusters."""
        shown, done = self.users[:, 0], self.users[:, column]
        rate = done.sum() / shown.sum()
        residual = done - rate * shown
        return float(rate), float(residual.std() / shown.mean() / math.sqrt(len(shown)))


def look(model: ResponseModel, policy: str, users: int, days: Sequence[range]) -> list[Seen]:
    """Let users live through some stretches of days, one after the other, under UNIFORM or APP."""
    app = AppPolicy(model.world, model.levels.sharpness, uniform=policy == UNIFORM)
    course = Course.pilot(model, app, SEED)
    found = [Seen(np.zeros((users, 3)), 0, np.zeros(24), np.zeros(published.TABS)) for _ in days]
    for first, count in course.blocks(users):
        block = course.draw(first, count)
        for number, some in enumerate(days):
            seen = found[number]
            mine, sessions = seen.users[first : first + count], seen.sessions
            for page in course.past(block, some):
                shown = page.response.shown
                for column, what in enumerate((shown, page.response.click, page.response.long_view)):
                    mine[page.rows, column] += what.sum(axis=1)
                # Within a session a page begins where the one before was left.
                sessions += int((page.now != block.clock[page.rows]).sum())
                seen.hours[:] += np.bincount(page.response.ts[shown] // 3_600_000 % 24, minlength=24)
                seen.tabs[:] += np.bincount(block.tab[page.rows], shown.sum(axis=1), published.TABS)
            found[number] = seen._replace(sessions=sessions)
    return found


def figures(name: str, users: int, settings: Mapping[str, Any]) -> list[Figure]:
    """Measure one world and give its figures."""
    asked = SimulationSettings(**settings)
    model = calibrate(asked)
    told = []
    for policy in (UNIFORM, APP):
        (seen, *later) = look(
            model, policy, users, [range(DAYS), *([range(DAYS, LATER)] if later_of(name) else [])]
        )
        for column, what in ((1, "click"), (2, "long view")):
            goal = TARGETS[policy][column - 1]
            rate, error = seen.rate(column)
            allowed = RATE + 3 * error
            told.append(
                Figure(f"{name}: {what}, {policy}", rate, f"+- {error:.4f}", "published", goal, rate / goal,
                       f"{goal:.4f} +- {allowed:.4f}", abs(rate - goal) <= allowed)
            )  # fmt: skip
            for one in later:
                then, error = one.rate(column)
                told.append(
                    Figure(f"{name}: {what}, {policy}, days 3 to 7", then, f"+- {error:.4f}", "published",
                           goal, then / goal, "none", True)
                )  # fmt: skip
    days = users * DAYS
    rows, sessions = float(seen.users[:, 0].sum()) / days, seen.sessions / days
    sizes = {
        "sessions a user-day": (sessions, asked.sessions_per_day),
        "impressions a user-day": (rows, asked.sessions_per_day * asked.rows_per_session),
    }
    for what, (value, goal) in sizes.items():
        told.append(
            Figure(f"{name}: {what}", value, "", "asked for", goal, value / goal, "within 10 %",
                   bool(abs(value / goal - 1) < 0.1))
        )  # fmt: skip
    shares = {
        "hour's": (seen.hours, published.HOUR_SHARES),
        "tab's": (seen.tabs, published.TAB_SHARES[0]),
    }
    for what, (counts, wanted) in shares.items():
        miss = float(abs(counts / counts.sum() - wanted).max())
        told.append(
            Figure(f"{name}: largest miss of an {what} share", miss, "of impressions", "none", 0.0, None,
                   "< 0.02", miss < 0.02)
        )  # fmt: skip
    return told


def later_of(name: str) -> bool:
    """Tell whether a world's later days are looked at: the published one takes its time."""
    return name == "default settings"


def main() -> None:
    """Measure and print."""
    show([
        figure
        for name, (users, settings) in WORLDS.items()
        for figure in figures(name, max(50, round(users * SHARE)), settings)
    ])  # fmt: skip


if __name__ == "__main__":
    main()
