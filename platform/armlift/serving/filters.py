"""Filters: items that must not be shown, by the lab's `serving.yaml` and by their availability.

    filters:
      - name: adults_only
        hide: rated == "18+"        # a condition on the item's attributes
        units: age < 18             # on the unit's; absent: everybody's
    caps: {author: 2}               # items of one author that a slate may hold
    hidden: [item7]                 # items nobody is shown

Conditions are those of audiences. Attributes of items are those of `armlift items set` and POST /v1/items.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from armlift.arm import Name, Slate
from armlift.audience import Audience, parse_audience
from armlift.errors import InputError
from armlift.yamlfile import read_yaml

FILE = "serving.yaml"
Attributes = Mapping[str, str | int | float | bool]
Ask = Callable[[int], Slate]
"""Gives a slate of at most so many items."""
DEEPER = 4
"""How often an arm is asked for twice as many items, where filters leave too few."""


def _condition(text: str) -> str:
    try:
        parse_audience(text)
    except InputError as error:
        raise ValueError(str(error).removeprefix("audience").lstrip(": ")) from error
    return text


Condition = Annotated[str, AfterValidator(_condition)]


class Filter(BaseModel):
    """A rule by which items are hidden."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    hide: Condition = Field(description="A condition on the item's attributes.")
    units: Condition | None = Field(
        default=None, description="A condition on the unit's attributes; absent: everybody."
    )


class FilterFile(BaseModel):
    """What `serving.yaml` may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filters: tuple[Filter, ...] = ()
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="Items of one value of an attribute that a slate may hold."
    )
    hidden: tuple[str, ...] = Field(default=(), description="Items that nobody is shown.")


def read_filters(folder: Path) -> FilterFile:
    """Read a lab's `serving.yaml`; no filters where it is not there."""
    path = folder / FILE
    return read_yaml(path).validate(FilterFile) if path.is_file() else FilterFile()


class Item(NamedTuple):
    """An item's availability and attributes."""

    available: bool
    attributes: Attributes


class Filtered(NamedTuple):
    """What is left of a slate, and how many items each rule took, by name."""

    slate: Slate
    removed: Mapping[str, int]


@dataclass(frozen=True)
class _Rule:
    name: str
    units: Audience | None
    items: frozenset[str]


class Filters:
    """The rules of a lab over its items."""

    def __init__(self, file: FilterFile, items: Mapping[str, Item]) -> None:
        away = (name for name, item in items.items() if not item.available)
        rules = [
            _Rule("hidden", None, frozenset(file.hidden)),
            _Rule("unavailable", None, frozenset(away)),
            *(self._rule(one, items) for one in file.filters),
        ]
        self._rules = [rule for rule in rules if rule.items]
        self._caps = {
            name: ({item: one.attributes.get(name) for item, one in items.items()}, most)
            for name, most in file.caps.items()
        }

    def apply(self, ask: Ask, k: int, attributes: Mapping[str, object]) -> Filtered:
        """Give a slate of what may be shown, asked for deeper where too little is left.

        The probability of each choice is not known any more where something was taken.
        """
        rules = [one for one in self._rules if one.units is None or one.units.matches(attributes)]
        size = k
        for _ in range(1 + DEEPER):
            slate = ask(size)
            places, removed = self._left(slate.items, rules, k)
            if len(places) >= k or not removed or len(slate.items) < size:
                break
            size *= 2
        return Filtered(_part(slate, places) if removed or size > k else slate, removed)

    def _left(self, items: Iterable[str], rules: list[_Rule], k: int) -> tuple[list[int], Counter[str]]:
        places: list[int] = []
        removed: Counter[str] = Counter()
        held: Counter[tuple[str, object]] = Counter()
        for place, item in enumerate(items):
            if len(places) == k:
                break
            name = next((rule.name for rule in rules if item in rule.items), None) or self._full(item, held)
            if name is not None:
                removed[name] += 1
                continue
            held.update((one, values.get(item)) for one, (values, _) in self._caps.items())
            places.append(place)
        return places, removed

    def _full(self, item: str, held: Counter[tuple[str, object]]) -> str | None:
        for name, (values, most) in self._caps.items():
            value = values.get(item)
            if value is not None and held[name, value] >= most:
                return f"cap_{name}"
        return None

    @staticmethod
    def _rule(one: Filter, items: Mapping[str, Item]) -> _Rule:
        hides = parse_audience(one.hide)
        units = None if one.units is None else parse_audience(one.units)
        return _Rule(
            one.name, units, frozenset(n for n, item in items.items() if hides.matches(item.attributes))
        )


def _part(slate: Slate, places: list[int]) -> Slate:
    return slate._replace(
        items=[slate.items[at] for at in places],
        scores=[slate.scores[at] for at in places],
        steps=[slate.steps[at] for at in places],
        propensities=[None] * len(places),
    )
