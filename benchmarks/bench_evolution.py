"""Does two-step recall follow evolving preferences? True and estimated lift of recgpt over recgpt1.

At each strength of evolution and for each seed a small recgpt is trained once, and served with several m:n.
`heard` serves the same weights with `recall_as: behaviour`; an oracle tells what steps could gain at all.
Then the number of prompts, K, by users' degree of activity. All of it takes some twenty minutes on two cores;
ARMLIFT_BENCH_SEEDS=2 runs fewer seeds: a trial, not a measurement.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
from evolution import (
    HEARD,
    ONE_STEP,
    ORACLE,
    ORACLES,
    PROMPTS,
    SAID,
    Cell,
    Scale,
    all_prompts,
    all_recalls,
)
from evolution_lifts import CLICK_RATE, METRICS, Pooled, estimated, lift, pooled, rate, true
from figures import Figure, show

from armlift.simulation.attributes import DEGREE
from armlift.stats.multiplicity import holm
from armlift.stats.results import Effect

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
SEEDS, SEEDS_VARIABLE = 10, "ARMLIFT_BENCH_SEEDS"
FIRST_SEED = 10
"""The world and the arm's training were chosen on seeds before this one."""
PROMPTS_AT = 0.5
PROCESSES = 2
LEAST = 40
"""Groups of fewer users a seed, on average, are put together."""

How = Callable[[Cell, str, str, str], Effect]
"""`true` or `estimated`."""
ALPHA = 0.05

BASES = {**dict.fromkeys([*SAID, *HEARD], ONE_STEP), **dict.fromkeys(ORACLES, ORACLE)}
"""What each recall is compared with."""


def main() -> None:
    """Simulate, measure and print."""
    count = int(os.environ.get(SEEDS_VARIABLE, SEEDS))
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(all_recalls, strength, seeds, Scale()) for strength in STRENGTHS]
        asked = pool.submit(all_prompts, PROMPTS_AT, seeds, Scale())
        cells = [cell for part in parts for cell in part.result()]
        by_prompts = asked.result()
    lines = [*tables(cells), *best(cells), covered(cells), "", *prompt_table(by_prompts), ""]
    print("\n".join(lines))
    show(figures(cells))


def tables(cells: Sequence[Cell]) -> Iterator[str]:
    """Tell rates and lifts, a line of Markdown each."""
    yield from [*rate_table(cells), ""]
    yield from [*lift_table(cells, "estimated lift", estimated, CLICK_RATE), ""]
    for metric in METRICS:
        yield from [*lift_table(cells, f"true lift, {metric}", true, metric), ""]


def rate_table(cells: Sequence[Cell]) -> Iterator[str]:
    """Tell click rates by strength, a line of Markdown each."""
    parts = by_strength(cells).values()
    yield from _head(cells, CLICK_RATE)
    for name in (None, ONE_STEP, *SAID, *HEARD, ORACLE, *ORACLES):
        yield _line(name or "the app, before", [f"{rate(here, name):.4f}" for here in parts])


def lift_table(cells: Sequence[Cell], title: str, how: How, metric: str) -> Iterator[str]:
    """Tell lifts by strength, a line of Markdown each; those of `adjusted_p` below .05 are bold."""
    adjusted = adjusted_p(cells) if metric == CLICK_RATE and how is true else {}
    yield from _head(cells, title)
    for name, base in BASES.items():
        found = []
        for strength, here in by_strength(cells).items():
            text = told(lifts_of(here, name, how, metric))
            p = adjusted.get((strength, name))
            found.append(text if p is None or p >= ALPHA else f"**{text}**")
        yield _line(f"{name} over {base}", found)


def _head(cells: Sequence[Cell], title: str) -> Iterator[str]:
    columns = [f"evolution {strength:g}" for strength in by_strength(cells)]
    yield _line(title, columns)
    yield _line("---", ["---"] * len(columns))


def _line(name: str, columns: Sequence[str]) -> str:
    return f"| {' | '.join([name, *columns])} |"


def by_strength(cells: Sequence[Cell]) -> dict[float, list[Cell]]:
    """Part cells by strength, in ascending order."""
    strengths = sorted({cell.strength for cell in cells})
    return {strength: [cell for cell in cells if cell.strength == strength] for strength in strengths}


def lifts_of(cells: Sequence[Cell], name: str, how: How, metric: str = CLICK_RATE) -> Pooled:
    """Pool an arm's lifts, `true` or `estimated`, over seeds."""
    return pooled([lift(how(cell, name, BASES[name], metric)) for cell in cells])


def adjusted_p(cells: Sequence[Cell]) -> Mapping[tuple[float, str], float | None]:
    """Adjust the p-values of true lifts for all strengths and m:n: those of replies, and of behaviours."""
    found: dict[tuple[float, str], float | None] = {}
    parts = by_strength(cells)
    for family in (SAID, HEARD):
        keys = [(strength, name) for strength in parts for name in family]
        raw = [lifts_of(parts[strength], name, true).p for strength, name in keys]
        found |= zip(keys, holm(raw), strict=True)
    return found


def covered(cells: Sequence[Cell]) -> str:
    """Count the 95 % intervals of single seeds that hold the truth; those of one seed share users."""
    pairs = [
        (estimated(cell, name, base), lift(true(cell, name, base)))
        for cell in cells
        for name, base in BASES.items()
    ]
    known = [
        one.lift_low <= truth <= one.lift_high
        for one, truth in pairs
        if one.lift_low is not None and one.lift_high is not None
    ]
    return f"{sum(known)} of {len(known)} intervals of estimates hold the truth."


def best(cells: Sequence[Cell]) -> Iterator[str]:
    """Name the best m:n of each strength, and what it has over the next best, a line each."""
    two_steps = [name for name, recall in HEARD.items() if len(recall) == 2]
    families = {"replies": list(SAID), "heard, two steps": two_steps, "heard, any steps": list(HEARD)}
    for strength, here in by_strength(cells).items():
        for what, family in families.items():
            order = sorted(family, key=lambda name: -lifts_of(here, name, true).value)
            over = pooled([lift(true(cell, order[0], order[1])) for cell in here])
            yield f"evolution {strength}, {what}: best {order[0]}, over {order[1]} {told(over)}"


def told(found: Pooled) -> str:
    """Write a lift with its interval, in percent."""
    return f"{found.value:+.1%} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def prompt_table(cells: Sequence[Cell]) -> Iterator[str]:
    """Tell what prompts add within groups of users, a line of Markdown each."""
    base, *others = PROMPTS
    yield (
        f"| {DEGREE} | users a seed | {CLICK_RATE}, {base} | "
        + " | ".join(f"lift of {name}" for name in others)
        + " |"
    )
    yield "|---" * (3 + len(others)) + "|"
    for name, rows in groups_of(cells).items():
        effects = {
            arm: [true(cell, arm, base, rows=mine) for cell, mine in zip(cells, rows, strict=True)]
            for arm in PROMPTS
        }
        users = np.mean([mine.sum() for mine in rows])
        rate_of_base = np.mean([one.mean or 0.0 for one in effects[base]])
        lifts = [told(pooled([lift(one) for one in effects[arm]])) for arm in others]
        yield f"| {name} | {users:.0f} | {rate_of_base:.4f} | {' | '.join(lifts)} |"


def groups_of(cells: Sequence[Cell]) -> dict[str, list[npt.NDArray[np.bool_]]]:
    """Find the users of each group in every cell, bool [n]; all users first, small groups together."""
    sizes = Counter(group for cell in cells for group in cell.groups)
    large = [group for group, size in sizes.most_common() if size >= LEAST * len(cells)]
    found = {"all": [np.ones(len(cell.groups), dtype=np.bool_) for cell in cells]}
    for group in large:
        found[group] = [np.array(cell.groups) == group for cell in cells]
    if len(large) < len(sizes):
        found["others"] = [~np.isin(cell.groups, large) for cell in cells]
    return found


def figures(cells: Sequence[Cell]) -> list[Figure]:
    """Give the best m:n of each strength beside its estimate, said and heard.

    Without evolution nothing may differ; with it, truth and estimate must agree.
    """
    found = []
    adjusted = adjusted_p(cells)
    for strength, here in by_strength(cells).items():
        for family in (SAID, HEARD):
            top = max(family, key=lambda name: lifts_of(here, name, true).value)
            truth, estimate = lifts_of(here, top, true), lifts_of(here, top, estimated)
            gaps = pooled([lift(estimated(c, top, ONE_STEP)) - lift(true(c, top, ONE_STEP)) for c in here])
            goal, holds = "estimate - truth covers 0", not gaps.apart
            if not strength:
                goal = "no m:n is told apart from 0"
                holds = all((adjusted[strength, name] or 1.0) > ALPHA for name in family)
            what = f"evolution {strength}, {top}"
            found.append(
                Figure(what, truth.value, "true lift", "estimate", estimate.value, None, goal, holds)
            )
    return found


if __name__ == "__main__":
    main()
