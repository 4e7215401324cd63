"""Revisions: which keys of a started experiment's file may change while it runs, and what did."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.metric import METRICS, Metrics
from armlift.runs import definition_of

FREE = ("description", "replay", "simulation")
"""Keys of an experiment that say nothing of how it runs or is judged."""
FREE_OF_METRICS = ("description",)

Definition = Mapping[str, Any]
Periods = list[tuple[int | None, float, Mapping[str, float] | None]]
"""Phases as their start (UTC milliseconds), traffic and weights."""


class Change(NamedTuple):
    """A key that a file changes, and what it was and is."""

    path: tuple[str, ...]
    before: object
    now: object

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: was {json.dumps(self.before)}, is {json.dumps(self.now)}"


def parsed(definition: Definition) -> tuple[Experiment, Metrics]:
    """Give the experiment and the metrics of a definition as `runs.definition_of` makes it."""
    metrics: Metrics = METRICS.validate_python(definition["metrics"])
    return Experiment.model_validate(definition["experiment"]), metrics


def changes(
    stored: Definition, experiment: Experiment, metrics: Metrics, went: Periods, calendar: Calendar
) -> list[str]:
    """List what an experiment's file changes of what was started, each key in a line.

    `went` are its phases as they went. Raises InputError for a key that is frozen while it runs.
    """
    before: Definition = definition_of(*parsed(stored))
    now: Definition = definition_of(experiment, metrics)
    found = [*_changes(before["experiment"], now["experiment"])]
    told = [*_changes(before["metrics"], now["metrics"])]
    orders = [list(one["experiment"]["arms"]) for one in (before, now)]
    if orders[0] != orders[1]:  # the order of arms decides who gets which
        found.insert(0, Change(("arms",), before["experiment"]["arms"], now["experiment"]["arms"]))
    for change in found:
        if change.path == ("phases",) and periods(experiment, calendar) != went:
            raise InputError(
                f"experiment {experiment.name}: {change}; once it was started, "
                f"`armlift experiment ramp {experiment.name}` changes its phases"
            )
        if change.path[0] not in (*FREE, "phases"):
            raise _frozen(experiment.name, change)
    for change in told:
        if change.path[1:] not in [(key,) for key in FREE_OF_METRICS]:
            raise _frozen(experiment.name, f"metrics.yaml: {change}")
    return [*map(str, found), *(f"metrics.yaml: {change}" for change in told)]


def periods(experiment: Experiment, calendar: Calendar) -> Periods:
    """Give the phases of an experiment's file."""
    return [
        (None if one.start is None else calendar.parse(one.start), one.traffic, one.weights)
        for one in experiment.phases
    ]


def _changes(before: object, now: object, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """Compare two documents key by key; what is no mapping in both, such as a list, is one value."""
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before and now:
        for key in dict.fromkeys([*before, *now]):
            yield from _changes(before.get(key), now.get(key), (*path, str(key)))
    elif before != now:
        yield Change(path, before, now)


def _frozen(name: str, change: Change | str) -> InputError:
    return InputError(
        f"experiment {name}: {change}; it was started, so this cannot change: "
        "make a new experiment, with a name of its own"
    )
