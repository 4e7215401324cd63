"""The truth of a simulation: what its users do when all of them meet one arm, arm after arm, with the same
luck.

Those who take part in the experiment meet the arm, from the same phase on, so that the truth is about the
units and the times that the estimate is about.

Every arm has a world of its own, fully deployed: the same users with the same random numbers, and an arm that
learns (where it is retrained) from its own world alone. Users are compared with themselves, as in a paired
run, so that the lift has a small standard error; that of users who might have been drawn instead is in it.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from sqlalchemy import Engine

from armlift.answers import Answers
from armlift.arm import Arm
from armlift.comparisons import Found, compare_arms
from armlift.experiment import Experiment
from armlift.metric import Metrics
from armlift.report import question_of
from armlift.runs import SIMULATED, Run, definition_of
from armlift.simulation.course import Page, unit_of
from armlift.simulation.laboratory import Laboratory, Progress
from armlift.simulation.response import KINDS
from armlift.simulation.tally import Row, Tally
from armlift.simulation.traffic import NEVER, Traffic
from armlift.simulation.users import Users
from armlift.store.database import reading, scratch, writing
from armlift.store.sink import append
from armlift.store.tables import exposures, unit_days
from armlift.truth import Truth

_SLICE = 50_000
_SCRATCH = "scratch"


def truth_of(
    laboratory: Laboratory,
    arms: Mapping[str, Arm],
    metrics: Metrics,
    progress: Progress | None = None,
    *,
    traffic_of: Callable[[Users], Traffic] | None = None,
) -> list[Truth]:
    """Simulate all users under each arm, and compare.

    `traffic_of` gives the experiment's traffic of a block: who takes part, and from when on; absent,
    everybody from the first request on.
    """
    experiment, names = laboratory.experiment, list(arms)
    run = scratch_run(laboratory, metrics, paired=True)
    total = laboratory.size.users * (laboratory.settings.history_days + laboratory.size.days)
    with scratch() as engine:
        for number in range(len(names)):

            def tell(done: int, _: int, before: int = number) -> None:
                if progress is not None:
                    progress(before * total + done, len(names) * total)

            kept = Keeper(laboratory, metrics, names, engine)
            laboratory.run(
                arms,
                partial(_all_of, number, traffic_of),
                page=kept.page,
                block=kept.block,
                progress=tell,
            )
        return [_truth(one) for one in compare(engine, run, laboratory, experiment, metrics)]


def compare(
    engine: Engine, run: Run, laboratory: Laboratory, experiment: Experiment, metrics: Metrics
) -> list[Found]:
    """Compare the arms of what lies in a scratch database, as a report does."""
    calendar = laboratory.calendar
    with reading(engine) as connection:
        question = question_of(run, calendar, int(str(run.log["last_ts"])))
        return compare_arms(run, experiment, metrics, Answers.from_database(connection, question, metrics))


class Keeper:
    """Keeps what blocks of users did in a scratch database, as the rollup of their events would."""

    def __init__(self, laboratory: Laboratory, metrics: Metrics, arms: list[str], engine: Engine) -> None:
        self._laboratory, self._metrics, self._arms, self._engine = laboratory, metrics, arms, engine
        self._tallies: dict[int, Tally] = {}

    def page(self, users: Users, traffic: Traffic, page: Page) -> None:
        """Count a page."""
        if users.first not in self._tallies:
            first_day, edges = self._laboratory.edges()
            self._tallies[users.first] = Tally(self._metrics, edges, first_day, len(users))
        self._tallies[users.first].add(page.rows, page.response, traffic)

    def block(self, users: Users, traffic: Traffic) -> None:
        """Store what a block did."""
        tally = self._tallies.pop(users.first, None)
        if tally is None:
            return
        experiment = self._laboratory.experiment.name
        units = [unit_of(users.first + row) for row in range(len(users))]
        with writing(self._engine) as connection:
            append(connection, exposures, list(self._exposures(units, traffic)))
            rows: list[Row] = []
            for row in tally.rows(_SCRATCH, experiment, units, traffic, self._arms):
                rows.append(row)
                if len(rows) >= _SLICE:
                    append(connection, unit_days, rows)
                    rows = []
            append(connection, unit_days, rows)

    def _exposures(self, units: list[str], traffic: Traffic) -> Iterator[tuple[object, ...]]:
        calendar, experiment = self._laboratory.calendar, self._laboratory.experiment.name
        columns = (traffic.exposed.tolist(), traffic.arm.tolist(), traffic.phase.tolist())
        for unit, ts, arm, phase in zip(units, *columns, strict=True):
            if ts != NEVER:
                day = calendar.day(ts)
                name = self._arms[arm]
                yield (
                    day, day, f"{unit}-{arm}", _SCRATCH, ts, unit, experiment, 0, phase, name, "-",
                    False, False,
                )  # fmt: skip


def scratch_run(laboratory: Laboratory, metrics: Metrics, *, paired: bool) -> Run:
    """Describe the run of a scratch database."""
    experiment = laboratory.experiment
    _, edges = laboratory.edges()
    return Run(
        run=_SCRATCH,
        number=1,
        experiment=experiment.name,
        mode=SIMULATED,
        paired=paired,
        k=laboratory.size.k,
        seed=laboratory.size.seed,
        state="finished",
        synthetic=True,
        definition=definition_of(experiment, metrics),
        arms=dict.fromkeys(experiment.arms, "-"),
        log={"kinds": sorted(KINDS), "last_ts": edges[-1] - 1},
        resolution={},
        dropped={},
    )


def _all_of(arm: int, traffic_of: Callable[[Users], Traffic] | None, users: Users) -> Traffic:
    return Traffic.everybody(arm, len(users)) if traffic_of is None else traffic_of(users).deployed(arm)


def _truth(found: Found) -> Truth:
    one, effect = found.comparison, found.effect
    error = None
    if one.lift is not None and effect.lift_error is not None:
        error = effect.lift_error * (1.0 + one.lift)
    elif one.lift is not None and effect.status == "zero_variance":
        error = 0.0
    return Truth(one.metric, one.arm, one.mean, one.control_mean, one.lift, error, one.units)
