"""Checks of the models behind a live run's arms: how old they are, and whose data they learned from."""

from sqlalchemy import Connection, func, select

from armlift.aggregates import Question
from armlift.answers import Answers
from armlift.check import Check
from armlift.days import DAY_MS
from armlift.experiment import Experiment
from armlift.runs import Run
from armlift.stats.results import CheckStatus
from armlift.store.tables import exposures, models

STALE_WARN, STALE_FAIL = 2, 14
"""Days from the end of a model's training data to its last exposure."""


def stale_model(run: Run, answers: Answers, question: Question) -> Check:
    """Check that the models that answered last learned from data of the days before."""
    if not run.live:
        return Check("stale_model", "not_applicable", None, "only a live run's models grow old")
    newest: dict[str, tuple[int, int]] = {}
    for arm, last, until in answers.ask("models", lambda connection: _trained(connection, run, question)):
        newest[arm] = max(newest.get(arm, (0, 0)), (last, until))
    if not newest:
        return Check("stale_model", "no_data", None, "no arm that answered is a model of this lab")
    ages = {arm: max(0.0, (last - until) / DAY_MS) for arm, (last, until) in newest.items()}
    oldest = max(ages, key=lambda arm: ages[arm])
    age = ages[oldest]
    status: CheckStatus = "fail" if age > STALE_FAIL else "warn" if age > STALE_WARN else "ok"
    meaning = f"the model of {oldest} answered {age:.1f} days after the end of its training data"
    return Check("stale_model", status, age, meaning)


def _trained(connection: Connection, run: Run, question: Question) -> list[tuple[str, int, int]]:
    """Give each model that answered: its arm, its last exposure, and until when its data were (UTC ms)."""
    e, m = exposures.c, models.c
    served = (
        select(e.arm, e.arm_version, func.max(e.ts).label("last"))
        .where(e.run == run.run, e.experiment == question.experiment, e.ts <= question.as_of)
        .group_by(e.arm, e.arm_version)
        .subquery()
    )
    s = served.c
    trained = (
        select(s.arm, s.last, func.max(m.data_until).label("until"))
        .join(models, (m.arm == s.arm) & (m.version == s.arm_version))
        .group_by(s.arm, s.last)
    )
    return sorted(tuple(row) for row in connection.execute(trained))


def symbiosis(run: Run, experiment: Experiment) -> Check:
    """Check that arms do not learn from each other's users while they are compared."""
    learns = run.live or (run.simulated and experiment.simulation.retrain == "nightly")
    if not learns:
        meaning = "only the arms of live runs, and of simulations with nightly retraining, learn meanwhile"
        return Check("symbiosis", "not_applicable", None, meaning)
    if experiment.training_data != "pooled":
        return Check("symbiosis", "ok", None, f"each arm's training data are {experiment.training_data}")
    meaning = (
        "arms learn from all users, also those of other arms, so each may live on what another one found; "
        "`training_data: own` keeps them apart"
    )
    return Check("symbiosis", "warn", None, meaning)
