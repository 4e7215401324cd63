"""One figure of a benchmark: a line of JSON for scripts, and a row of a table for people."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """A value beside a named reference measured in the same run; `ratio` is how much better the value is."""

    bench: str
    value: float
    unit: str
    reference: str
    reference_value: float | None
    ratio: float | None
    goal: str
    holds: bool


def show(figures: Sequence[Figure]) -> None:
    """Print figures as JSON lines, then as a table."""
    for figure in figures:
        print(json.dumps(figure._asdict()))
    print()
    for figure in figures:
        ratio = "" if figure.ratio is None else f"  ({figure.ratio:,.3g} x {figure.reference})"
        verdict = "holds" if figure.holds else "FALLS SHORT"
        value = f"{figure.value:>14,.4g} {figure.unit:<16}"
        print(f"{figure.bench:<34} {value}{ratio}  goal {figure.goal}: {verdict}")


def alternating(
    first: Callable[[], object], second: Callable[[], object], *, runs: int = 5
) -> tuple[float, float]:
    """Give the median seconds of two pieces of work that take turns, so that both meet the same machine."""
    first(), second()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for times, work in zip(taken, (first, second), strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])
