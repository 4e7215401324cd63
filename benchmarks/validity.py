"""Do the statistics keep what they promise? False positives, coverage and power in simulated experiments.

A/A and A/B experiments on normal, skewed, rare, clustered and heavy-tailed data; rates with their Monte-Carlo
errors, the smallest n from which they are nominal, and how often 30 daily looks find what is not there.
"""

import sys
import time
from collections.abc import Iterable, Sequence

from figures import Figure, show
from populations import REMAINING
from simulation import ALPHA, Cell, measure, monte_carlo_error
from validity_cases import SIZES, cases

SIMS = 5000
ALLOWED = 3.0
"""Monte-Carlo errors by which a nominal rate may be off."""
ASKED_FROM = 5000
ASKED = (
    "normal",
    "exponential",
    "Bernoulli 1 %",
    "clustered ratio",
    "gamma with a past",
    "gamma pairs",
)
HEADER = (
    "data", "method", "split", "n", "false positives", "", "coverage of lift", "", "power", "(formula)",
    "warned", "ever fixed", "ever always valid",
)  # fmt: skip


def off(rate: float | None, nominal: float, sims: int) -> str:
    """Say whether a rate is nominal within Monte-Carlo error; `low` or `high` where it is not."""
    if rate is None:
        return "unknown"
    if abs(rate - nominal) <= ALLOWED * monte_carlo_error(nominal, sims):
        return "nominal"
    return "high" if rate > nominal else "low"


def nominal(cell: Cell) -> bool:
    """Say whether both false positives and coverage are nominal."""
    return (
        off(cell.rate(cell.false_positives), ALPHA, cell.sims) == "nominal"
        and off(cell.coverage, 1.0 - ALPHA, cell.intervals) == "nominal"
    )


def nominal_from(cells: Sequence[Cell]) -> int | None:
    """Give the smallest n from which on all cells, of one kind, are nominal."""
    found = None
    for cell in sorted(cells, key=lambda one: -one.case.n):
        if not nominal(cell):
            break
        found = cell.case.n
    return found


def asked(cell: Cell) -> bool:
    """Say whether nominal rates are asked of a cell: enough units, equal arms, no heavy tails."""
    case = cell.case
    fair = case.data in ASKED and case.split != "10:90"
    return case.n >= ASKED_FROM and (fair or case.method == "stratified")


def row(cell: Cell) -> list[str]:
    """Give a cell's line of the table."""
    case, sims = cell.case, cell.sims
    false = cell.rate(cell.false_positives)
    coverage = cell.coverage
    return [
        case.data,
        case.method,
        case.split,
        f"{case.n:,}",
        with_error(false, sims),
        off(false, ALPHA, sims),
        "-" if coverage is None else with_error(coverage, cell.intervals),
        off(coverage, 1.0 - ALPHA, cell.intervals),
        with_error(cell.rate(cell.found), sims),
        "-" if case.planned is None else f"({case.planned:.3f})",
        "-" if cell.warned is None else f"{cell.rate(cell.warned):.2f}",
        with_error(cell.rate(cell.ever_fixed), sims) if case.looks > 1 else "-",
        with_error(cell.rate(cell.ever_valid), sims) if case.looks > 1 else "-",
    ]


def with_error(rate: float, sims: int) -> str:
    """Write a rate with its Monte-Carlo error."""
    return f"{rate:.4f} ± {monte_carlo_error(rate, sims):.4f}"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Set rows in columns."""
    lines = [HEADER, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def kinds(cells: Sequence[Cell]) -> dict[tuple[str, str, str], list[Cell]]:
    """Put cells together that differ in n alone, by (data, method, split)."""
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.case.data, cell.case.method, cell.case.split), []).append(cell)
    return found


def markdown(cells: Sequence[Cell]) -> str:
    """Give the short table of the results page: false positives by n, and from where on they are nominal."""
    sizes = sorted({cell.case.n for cell in cells})
    lines = [
        "| data, method | split | " + " | ".join(f"n = {n:,}" for n in sizes) + " | nominal from |",
        "|---|---|" + "---|" * (len(sizes) + 1),
    ]
    for (data, method, split), group in kinds(cells).items():
        rates = {cell.case.n: cell for cell in group}
        shown = [
            f"{rates[n].rate(rates[n].false_positives):.3f} / "
            + ("-" if rates[n].coverage is None else f"{rates[n].coverage:.3f}")
            + (" / -" if (warned := rates[n].warned) is None else f" / {rates[n].rate(warned):.2f}")
            for n in sizes
        ]
        start = "none" if (found := nominal_from(group)) is None else f"{found:,}"
        lines.append(f"| {data}, {method} | {split} | {' | '.join(shown)} | {start} |")
    return "\n".join(lines)


def figures(cells: Iterable[Cell]) -> list[Figure]:
    """Give the figures that have a goal, and what is to be beaten by always-valid intervals."""
    found = []
    for cell in cells:
        case, sims = cell.case, cell.sims
        name = f"{case.data}, {case.method}, n = {case.n:,}"
        if asked(cell):
            for what, rate, aim, of in (
                ("false positives", cell.rate(cell.false_positives), ALPHA, sims),
                ("coverage", cell.coverage or 0.0, 1.0 - ALPHA, cell.intervals),
            ):
                room = ALLOWED * monte_carlo_error(aim, of)
                goal = f"{aim:.2f} +- {room:.4f}"
                found.append(
                    Figure(
                        f"{what}: {name}",
                        rate,
                        "rate",
                        "nominal",
                        aim,
                        rate / aim,
                        goal,
                        abs(rate - aim) <= room,
                    )
                )
        if case.looks > 1 and case.n >= ASKED_FROM and case.split == "50:50":
            fixed, valid = cell.rate(cell.ever_fixed), cell.rate(cell.ever_valid)
            room = ALPHA + ALLOWED * monte_carlo_error(ALPHA, sims)
            ratio = valid / fixed if fixed else None
            found.append(
                Figure(
                    f"ever rejected: {name}",
                    valid,
                    "rate",
                    "fixed test",
                    fixed,
                    ratio,
                    f"<= {room:.4f}",
                    valid <= room,
                )
            )
    return found


def remaining(cells: Iterable[Cell]) -> dict[int, float]:
    """Give by n the share of the difference's variance that adjustment leaves, in equal arms."""
    errors = {
        (cell.case.method, cell.case.n): cell.errors
        for cell in cells
        if cell.case.data == "gamma with a past" and cell.case.split == "50:50"
    }
    return {n: error / errors["welch", n] for (method, n), error in errors.items() if method == "cuped"}


def main(sims: int = SIMS, sizes: Sequence[int] = SIZES) -> None:
    """Measure and print, telling on standard error how far it is."""
    every = list(cases(sizes))
    start, cells = time.perf_counter(), []
    for seed, case in enumerate(every):
        cells.append(measure(case, sims, seed))
        seconds = time.perf_counter() - start
        print(f"\r{seed + 1} of {len(every)} cells, {seconds:.0f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(map(row, cells)))
    print()
    print("False positives / coverage of the lift's interval:")
    print(markdown(cells))
    print()
    for n, left in remaining(cells).items():
        print(f"cuped at n = {n:,}: {left:.4f} of the variance is left, 1 - rho^2 is {REMAINING:.4f}")
    print()
    show(figures(cells))


if __name__ == "__main__":
    main()
