"""A capacity plan as text for the terminal."""

from collections.abc import Iterator
from textwrap import wrap

from armlift.capacity import REPLICAS, UTILISATION, Figure, Plan, Step
from armlift.costs import Cost, Costs
from armlift.demand import Demand

WIDTH = 100
_ROW = "{:<26}{:>12} {:<10} {:<40}{:>10}"
_BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def text_of(plan: Plan, costs: Costs) -> Iterator[str]:
    """Write a plan line by line: what is needed, the night, the limits, and the costs behind them."""
    reads = {"sql": "SQL", "spark": "Spark"}[plan.engine]
    yield from wrap(f"{_asked(plan.demand)} Data sets and reports by {reads}.", WIDTH)
    yield from wrap(_labs(plan), WIDTH)
    yield ""
    yield _ROW.format("needed", "", "", "from", "beyond").rstrip()
    for figure in plan.figures:
        value, unit = quantity(figure)
        yield _row(name_of(figure.name), value, unit, figure)
    yield ""
    asked = f"night, of {plan.demand.night_hours:g} h"
    yield _ROW.format(asked, hours(plan.night_hours), "hours", "from", "beyond").rstrip()
    for step in plan.night:
        shared = "" if step.processes == 1 else f"x {step.processes:,}"
        yield _row(f"  {name_of(step.name)}", hours(step.alone / step.processes), shared, step)
    yield ""
    yield "what one lab can take, of which all users need"
    for limit in plan.limits:
        yield f"{name_of(limit.name):<26}{share(limit.load):>12} {limit.instead}"
    yield ""
    yield from _sources(plan, costs)


def name_of(name: str) -> str:
    """Write the name of a figure or step for people."""
    words, _, arm = name.partition(".")
    for key, shown in (("api", "API"), ("postgresql", "PostgreSQL"), ("spark", "Spark")):
        words = words.replace(key, shown)
    return words.replace("_", " ") + (f", {arm}" if arm else "")


def quantity(figure: Figure) -> tuple[str, str]:
    """Write a figure's value and its unit."""
    if figure.unit == "bytes":
        return size(figure.value)
    if figure.unit == "hours":
        return hours(figure.value), "h a day"
    if figure.unit == "cores" and figure.value < 100:
        return f"{figure.value:,.2g}" if figure.value < 10 else f"{figure.value:,.0f}", figure.unit
    return f"{figure.value:,.0f}", figure.unit


def size(value: float) -> tuple[str, str]:
    """Write bytes in the largest unit that leaves a whole part."""
    for factor, unit in _BYTES:
        if value >= factor:
            return f"{value / factor:,.3g}", unit
    return f"{value:.0f}", "bytes"


def hours(value: float) -> str:
    """Write hours."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def share(value: float) -> str:
    """Write a load as a percentage, or as a multiple where it is too much."""
    return f"{value:.1%}" if value <= 1.0 else f"{value:,.1f} x"


def times(beyond: float) -> str:
    """Write how many times what was measured a figure goes beyond; nothing within."""
    return "" if beyond <= 1.0 else f"x {beyond:,.1f}" if beyond < 10 else f"x {beyond:,.0f}"


def _row(name: str, value: str, unit: str, part: Figure | Step) -> str:
    sources = ", ".join(part.costs)
    return _ROW.format(name, value, unit, sources, times(part.beyond)).rstrip()


def _asked(demand: Demand) -> str:
    return (
        f"{demand.users:,} users, each {demand.events_per_day:g} events and {demand.requests_per_day:g} "
        f"requests a day: {demand.events:,.0f} events a day, {demand.events_at_peak:,.0f} a second at the "
        f"peak ({demand.peak:g} x the mean), {demand.requests_at_peak:,.0f} requests a second. "
        f"{demand.items:,} items; arms {', '.join(demand.arms)}. "
        f"At most {UTILISATION:.0%} busy; {REPLICAS} copies of the topic."
    )


def _labs(plan: Plan) -> str:
    first = next((limit for limit in plan.limits if limit.split), None)
    assert first is not None
    if plan.labs == 1:
        return f"One lab takes all users; what bends first is {name_of(first.name)}, at {share(first.load)}."
    return (
        f"Users must be split over {plan.labs:,} labs: {name_of(first.name)} takes {share(first.load)} what "
        "one can. Figures are of all labs, the night of one of them."
    )


def _sources(plan: Plan, costs: Costs) -> Iterator[str]:
    yield f"{'measured':<26}{'':>12} {'':<14}{'at':>16}  by"
    for name, cost in costs.named():
        if name in plan.costs:
            yield _source(name, cost)
    for machine in dict.fromkeys(cost.machine for name, cost in costs.named() if name in plan.costs):
        yield from wrap(f"on {machine}", WIDTH)


def _source(name: str, cost: Cost) -> str:
    divided = cost.unit.partition("/")[2]
    at = f"{cost.size:,} {divided}s"
    return f"{name:<26}{cost.value:>12.3g} {cost.unit:<14}{at:>22}  {cost.benchmark}, {cost.date}"
