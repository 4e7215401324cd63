"""A lab that answers live units at once: cheap arms fitted on simulated users, promoted, and started.

The experiment begins yesterday, so that simulated users can live through a day of it by the API, and whoever
asks the API now meets it too.
"""

from datetime import date, timedelta

from sqlalchemy import Engine

from armlift import promotions, running
from armlift.lab import Lab
from armlift.promotions import EVERY_EXPERIMENT
from armlift.simulation.laboratory import Progress, Size
from armlift.simulation.simulate import Simulation
from armlift.started import RunningExperiment
from armlift.store.database import reading, writing

NAME = "related"
"""The experiment."""
BY, REASON = "armlift demo", "arms of the demo answer live"
_TEXT = """\
# yaml-language-server: $schema=../.schemas/experiment.json
name: related
description: Do items watched together get more clicks than popular ones?
arms: {{popularity: 1, covisitation: 1}}   # weights are relative to their sum
control: popularity
layer: {{name: related, slice: [0, 1]}}
metrics:
  primary: [click_rate]
  secondary: [long_view_rate, clicks, watch_time]
analysis: {{alpha: 0.05}}
simulation:                # users of `armlift simulate related --api URL`
  first_day: {first_day}
  history_days: 4
  training_users: 600
  videos: 600
  taste_categories: 12
"""


def start(lab: Lab, engine: Engine, *, now: int, progress: Progress | None = None) -> RunningExperiment:
    """Start the experiment `related`, whose file is written where there is none, and give it.

    Its arms are fitted first, and promoted where no version of them serves; `now` is in UTC milliseconds. One
    that was started stays as it is. Raises InputError where the lab's files do not fit it.
    """
    with reading(engine) as connection:
        found = running.find(connection, NAME)
    if found is not None:
        return found
    if NAME not in lab.experiment_names():
        _write(lab, now)
    experiment = lab.experiment(NAME)
    size = Size(experiment.simulation.training_users, 1)
    simulation = Simulation(lab, experiment, size, engine, progress=progress)
    begins = simulation.laboratory.course().start_of(0)
    with writing(engine) as connection:
        for name, arm in simulation.arms.items():
            if promotions.promoted(connection, name, EVERY_EXPERIMENT) is None:
                promotions.promote(
                    connection, name, EVERY_EXPERIMENT, arm.version, at=now, by=BY, reason=REASON
                )
        return running.start(connection, lab, NAME, reason=REASON, by=BY, at=now, begins=begins).running


def _write(lab: Lab, now: int) -> None:
    today = date(1970, 1, 1) + timedelta(days=lab.calendar.day(now))
    path = lab.folder / "experiments" / f"{NAME}.yaml"
    path.write_text(_TEXT.format(first_day=today - timedelta(days=1)), encoding="utf-8")
