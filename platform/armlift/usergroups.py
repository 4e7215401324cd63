"""Groups of units: by how long their history is, on how many days they were active, or an attribute."""

from collections.abc import Mapping, Sequence

import numpy as np

from armlift.days import Calendar
from armlift.heldout import HeldOut
from armlift.studies import Group, Grouping

_VALUES = 12  # numbers with more values than this are cut in three
_OTHERS = "other values"


def by_history(data: HeldOut, kinds: Sequence[str]) -> list[Group]:
    """Cut units in three by how many behaviours of some kinds they are told with."""
    lengths = {
        request.unit: float(sum(behaviour.kind in kinds for behaviour in request.history))
        for request, _ in data.asked()
    }
    return terciles("history length", lengths)


def by_activity(calendar: Calendar) -> Grouping:
    """Give the grouping that cuts units in three by the days on which they did something."""

    def sort(data: HeldOut, kinds: Sequence[str]) -> list[Group]:
        days = {
            request.unit: float(len({calendar.day(behaviour.ts) for behaviour in request.history}))
            for request, _ in data.asked()
        }
        return terciles("active days", days)

    return sort


def by_attribute(name: str, table: Mapping[str, Mapping[str, object]]) -> Grouping:
    """Give the grouping by an attribute of units; many numbers are cut in three, rare values go together."""
    values = {unit: row[name] for unit, row in table.items() if row.get(name) is not None}

    def sort(data: HeldOut, kinds: Sequence[str]) -> list[Group]:
        units = {request.unit for request, _ in data.asked()}
        found = {unit: value for unit, value in values.items() if unit in units}
        numeric = {unit: float(value) for unit, value in found.items() if isinstance(value, int | float)}
        if len(numeric) == len(found) and len(set(numeric.values())) > _VALUES:
            return terciles(name, numeric)
        return categories(name, {unit: str(value) for unit, value in found.items()})

    return sort


def terciles(name: str, numbers: Mapping[str, float]) -> list[Group]:
    """Cut units in three of about one size by a number; units of one number stay together."""
    if not numbers:
        return []
    units, values = list(numbers), np.array(list(numbers.values()))
    ends = np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf")
    which = np.searchsorted(ends, values, side="left")
    groups = []
    for part in range(3):
        members = np.flatnonzero(which == part)
        if len(members):
            low, high = values[members].min(), values[members].max()
            label = f"{low:g}" if low == high else f"{low:g}-{high:g}"
            groups.append(Group(f"{name}: {label}", frozenset(units[at] for at in members.tolist())))
    return groups


def categories(name: str, values: Mapping[str, str]) -> list[Group]:
    """Sort units by value, in the order of values; beyond the 12 that most units have they go together."""
    members: dict[str, list[str]] = {}
    for unit, value in values.items():
        members.setdefault(value, []).append(unit)
    common = sorted(members, key=lambda value: (-len(members[value]), value))
    rare = [unit for value in common[_VALUES:] for unit in members[value]]
    groups = [Group(f"{name}: {value}", frozenset(members[value])) for value in sorted(common[:_VALUES])]
    return [*groups, Group(f"{name}: {_OTHERS}", frozenset(rare))] if rare else groups
