"""Does two-step recall follow evolving preferences? True and estimated lift of recgpt over recgpt1.

At each strength of evolution and for each seed a small recgpt is trained once, and served with several m:n.
`heard` serves the same weights with `recall_as: behaviour`; an oracle tells what steps could gain at all.
Then the number of prompts, K, by users' degree of activity. All of it takes half an hour on two cores;
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
PROMPTS_AT, PROMPTS_SEEDS = 0.5, 6
PROCESSES = 2
LEAST = 40
"""Groups of fewer users a seed, on average, are put together."""

BASES = {**dict.fromkeys([*SAID, *HEARD], ONE_STEP), **dict.fromkeys(ORACLES, ORACLE)}
"""What each recall is compared with."""


def main() -> None:
    """Simulate, measure and print."""
    count = int(os.environ.get(SEEDS_VARIABLE, SEEDS))
    seeds, few = (range(FIRST_SEED, FIRST_SEED + n) for n in (count, min(count, PROMPTS_SEEDS)))
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(all_recalls, strength, seeds, Scale()) for strength in STRENGTHS]
        asked = pool.submit(all_prompts, PROMPTS_AT, few, Scale())
        cells = [cell for part in parts for cell in part.result()]
        by_prompts = asked.result()
    print("\n".join([*recall_table(cells), "", covered(cells), "", *prompt_table(by_prompts), ""]))
    show(figures(cells))


def recall_table(cells: Sequence[Cell]) -> Iterator[str]:
    """Tell every recall's rates and lifts, a line of Markdown each."""
    yield (
        f"| evolution | recall | {CLICK_RATE} | true lift | p, Holm | estimated lift | true lift, clicks "
        f"| long views |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    adjusted = adjusted_p(cells)
    for strength, here in by_strength(cells).items():
        for name in (None, ONE_STEP, ORACLE):
            what = {None: "the app, before", ONE_STEP: f"{ONE_STEP}, recgpt1"}.get(name, name)
            yield f"| {strength} | {what} | {rate(here, name):.4f} | | | | | |"
            for recall in (one for one, base in BASES.items() if base == name):
                lifts = [told(lifts_of(here, recall, true, metric)) for metric in METRICS]
                p = adjusted.get((strength, recall))
                columns = (
                    f"{rate(here, recall):.4f}", lifts[0], "" if p is None else f"{p:.2g}",
                    told(lifts_of(here, recall, estimated)), *lifts[1:],
                )  # fmt: skip
                yield f"| {strength} | {recall} | {' | '.join(columns)} |"


def by_strength(cells: Sequence[Cell]) -> dict[float, list[Cell]]:
    """Part cells by strength, in ascending order."""
    strengths = sorted({cell.strength for cell in cells})
    return {strength: [cell for cell in cells if cell.strength == strength] for strength in strengths}


def lifts_of(
    cells: Sequence[Cell], name: str, how: Callable[[Cell, str, str, str], Effect], metric: str = CLICK_RATE
) -> Pooled:
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


def told(found: Pooled) -> str:
    """Write a lift with its interval, in percent."""
    return f"{found.value:+.2%} [{found.low:+.2%}, {found.high:+.2%}]"


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
        users = np.mean([one.sum() for one in rows])
        rates = [true(cell, base, base, rows=mine).mean for cell, mine in zip(cells, rows, strict=True)]
        lifts = [
            told(
                pooled(
                    [lift(true(cell, other, base, rows=mine)) for cell, mine in zip(cells, rows, strict=True)]
                )
            )
            for other in others
        ]
        yield f"| {name} | {users:.0f} | {np.mean([one or 0.0 for one in rates]):.4f} | {' | '.join(lifts)} |"


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
            best = max(family, key=lambda name: lifts_of(here, name, true).value)
            truth, estimate = lifts_of(here, best, true), lifts_of(here, best, estimated)
            gaps = pooled([lift(estimated(c, best, ONE_STEP)) - lift(true(c, best, ONE_STEP)) for c in here])
            goal, holds = "estimate - truth covers 0", not gaps.apart
            if not strength:
                goal = "no m:n is told apart from 0"
                holds = all((adjusted[strength, name] or 1.0) > 0.05 for name in family)
            what = f"evolution {strength}, {best}"
            found.append(
                Figure(what, truth.value, "true lift", "estimate", estimate.value, None, goal, holds)
            )
    return found


if __name__ == "__main__":
    main()
