"""Drafts: an experiment's file as it would be written, and what `armlift experiment check` says of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from sqlalchemy import Connection, select

from armlift.commands.definitions import doubts_of
from armlift.errors import InputError
from armlift.lab import SCHEMAS, Lab
from armlift.store.tables import experiments
from armlift.yamlfile import parse_yaml

_WIDE = 2**31


class Draft(NamedTuple):
    """What a new experiment's file is to hold; shares and lifts are fractions, an empty layer its own."""

    name: str
    description: str
    arms: Mapping[str, float]
    control: str
    primary: Sequence[str]
    secondary: Sequence[str] = ()
    guardrails: Sequence[str] = ()
    layer: str = ""
    slice: tuple[float, float] = (0.0, 1.0)
    traffic: float = 1.0
    audience: str = ""
    alpha: float = 0.05
    planned_units: int | None = None
    smallest_lift: float | None = None


class Checked(NamedTuple):
    """A complaint that forbids the draft, or None; and what is allowed and yet hardly meant."""

    complaint: str | None
    doubts: Sequence[str] = ()


def text_of(draft: Draft) -> str:
    """Write the file."""
    metrics = {"primary": draft.primary, "secondary": draft.secondary, "guardrails": draft.guardrails}
    analysis = {
        "alpha": draft.alpha,
        "planned_units": draft.planned_units,
        "smallest_lift": draft.smallest_lift,
    }
    said: dict[str, Any] = {
        "name": draft.name,
        "description": draft.description or None,
        "arms": {arm: _short(weight) for arm, weight in draft.arms.items()},
        "control": draft.control,
        "layer": {"name": draft.layer or draft.name, "slice": [_short(one) for one in draft.slice]},
        "audience": draft.audience or None,
        "phases": [{"traffic": _short(draft.traffic)}],
        "metrics": {role: list(names) for role, names in metrics.items() if names},
        "analysis": {key: _short(value) for key, value in analysis.items() if value is not None},
    }
    lines = [f"# yaml-language-server: $schema=../{SCHEMAS}/experiment.json\n"]
    lines += [_written(key, value) for key, value in said.items() if value is not None]
    return "".join(lines)


def _short(value: float) -> float:
    """Give a whole number as one, any other to twelve digits: 0.1 + 0.2 is 0.3."""
    return int(value) if float(value).is_integer() else float(f"{value:.12g}")


def _written(key: str, value: object) -> str:
    style = None if isinstance(value, dict) else False  # a mapping of scalars stands in one line
    return yaml.safe_dump(
        {key: value}, default_flow_style=style, sort_keys=False, allow_unicode=True, width=_WIDE
    )


def check(lab: Lab, draft: Draft, started: Sequence[str] = ()) -> Checked:
    """Check a draft by the lab's own rules; `started` are the experiments that the database knows."""
    place = Path("experiments") / f"{draft.name}.yaml"
    taken = draft.name in lab.experiment_names()
    if taken or draft.name in started:
        what = "is there already" if taken else "was started already, though its file is gone"
        return Checked(f"{place}: name: {draft.name!r} is taken, the experiment {what}")
    try:
        found = lab.experiment_of(parse_yaml(place, text_of(draft)))
        lab.check_parts(found)
    except InputError as error:
        return Checked(str(error))
    return Checked(None, doubts_of(found))


def started_names(connection: Connection) -> list[str]:
    """List the experiments that were ever started."""
    return sorted(connection.execute(select(experiments.c.experiment).distinct()).scalars())
