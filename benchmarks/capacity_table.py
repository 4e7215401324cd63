"""The tables of docs/scale.md, made from the stock costs: `python benchmarks/capacity_table.py --write`.

Each stands between the lines `<!-- NAME -->` and `<!-- end of NAME -->`; without --write they are printed.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from armlift.capacity import Figure, Plan, Step, plan
from armlift.costs import Costs, stock_costs
from armlift.demand import Demand
from armlift.rendering.capacity_text import hours, name_of, quantity, share, times

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
USERS = (10**6, 10**7, 10**8, 10**9)
EVENTS_PER_DAY, REQUESTS_PER_DAY = 24.0, 2.0


def main() -> None:
    """Print the tables, or write them into the document."""
    text = filled(DOCUMENT.read_text(encoding="utf-8"), stock_costs())
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        print(text)


def filled(text: str, costs: Costs) -> str:
    """Put the tables into a document, in place of those that are there."""
    plans = [plan(Demand(users, EVENTS_PER_DAY, REQUESTS_PER_DAY), costs) for users in USERS]
    for name, lines in (("plan", plan_table(plans)), ("costs", cost_table(costs))):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        made = "\n".join((begin, *lines, end))
        text, found = re.subn(f"{begin}.*?{end}", lambda _, made=made: made, text, flags=re.S)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{begin} must stand once, with {end} behind it")
    return text


def plan_table(plans: Sequence[Plan]) -> Iterator[str]:
    """Write plans side by side."""
    heads = (f"10^{len(str(one.demand.users)) - 1} users" for one in plans)
    yield f"| | {' | '.join(heads)} | from |"
    yield "|---" * (len(plans) + 2) + "|"
    yield _row("events a day", (f"{one.demand.events:.3g}" for one in plans))
    yield _row("events, requests a second at the peak", map(_rates, plans))
    yield _row("labs", (f"{one.labs:,}" for one in plans))
    yield _row("data sets and reports by", ({"sql": "SQL", "spark": "Spark"}[one.engine] for one in plans))
    for figures in zip(*(one.figures for one in plans), strict=True):
        yield _row(name_of(figures[0].name), map(_cell, figures), _sources(figures))
    yield _row("**a lab's night, hours**", (f"**{hours(one.night_hours)}**" for one in plans))
    for steps in zip(*(one.night for one in plans), strict=True):
        yield _row(name_of(steps[0].name), map(_hours, steps), _sources(steps))
    yield _row("**of what one lab can take**", ("" for _ in plans))
    for name in sorted(limit.name for limit in plans[0].limits):
        loads = (next(limit.load for limit in one.limits if limit.name == name) for one in plans)
        yield _row(name_of(name), map(share, loads))


def cost_table(costs: Costs) -> Iterator[str]:
    """Write every cost with what it was measured at."""
    yield "| cost | value | measured at | at the largest size against the smallest | by |"
    yield "|---|---|---|---|---|"
    for name, cost in costs.named():
        divided = cost.unit.partition("/")[2]
        sizes = ", ".join(f"{point.size:,}" for point in cost.measured) + f" {divided}s"
        sizes += f"; {cost.items:,} items" if cost.items else ""
        growth = f"{cost.growth:.2f} x" if len(cost.measured) > 1 else ""
        value, by = f"{cost.value:.3g} {cost.unit}", f"{cost.benchmark}, {cost.date}"
        yield f"| `{name}` | {value} | {sizes} | {growth} | {by} |"
    for machine in dict.fromkeys(cost.machine for _, cost in costs.named()):
        yield f"\nMeasured on {machine}."


def _row(name: str, cells: Iterator[str], sources: str = "") -> str:
    return f"| {name} | {' | '.join(cells)} | {sources} |"


def _rates(one: Plan) -> str:
    return f"{one.demand.events_at_peak:,.0f}, {one.demand.requests_at_peak:,.0f}"


def _cell(figure: Figure) -> str:
    value, unit = quantity(figure)
    unit = unit if unit in ("TB", "GB", "MB", "PB", "h a day") else ""
    return _marked(" ".join(filter(None, (value, unit))), figure)


def _hours(step: Step) -> str:
    shared = f" on {step.processes:,}" if step.processes > 1 else ""
    return _marked(f"{hours(step.hours)}{shared}", step)


def _marked(text: str, part: Figure | Step) -> str:
    beyond = times(part.beyond)
    return f"{text} ({beyond})" if beyond else text


def _sources(parts: Sequence[Figure] | Sequence[Step]) -> str:
    return ", ".join(dict.fromkeys(f"`{name}`" for part in parts for name in part.costs))


if __name__ == "__main__":
    main()
