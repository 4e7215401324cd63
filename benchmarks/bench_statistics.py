"""Tests a second from aggregates: plain, adjusted and always valid, beside SciPy's from the same numbers."""

from collections.abc import Callable, Sequence

import numpy as np
from figures import Figure, alternating, show
from scipy.stats import ttest_ind_from_stats

from armlift.stats.aggregates import Aggregates
from armlift.stats.always_valid import always_valid
from armlift.stats.cuped import cuped
from armlift.stats.means import welch
from armlift.stats.ratios import delta_ratio

COLUMNS = ("y", "d", "x")
PAIRS = 2000
GOAL = 20_000

Pairs = Sequence[tuple[Aggregates, Aggregates]]


def pairs(count: int) -> Pairs:
    """Make aggregates of `count` A/A experiments of 200 units an arm: metric, denominator, covariate."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 1.0, (count, 2, 200))
    y = x + rng.gamma(2.0, 1.0, x.shape)
    values = np.stack([y, rng.poisson(5.0, x.shape) + 1.0, x], axis=-1)
    return [(Aggregates.of(COLUMNS, arm), Aggregates.of(COLUMNS, control)) for arm, control in values]


def main() -> None:
    """Measure and print; SciPy's answer is the p-value alone, ours an `Effect` with both intervals."""
    both = pairs(PAIRS)

    def scipy() -> None:
        for arm, control in both:
            ttest_ind_from_stats(
                arm.means[0],
                (arm.moments[0, 0] / (arm.n - 1)) ** 0.5,
                arm.n,
                control.means[0],
                (control.moments[0, 0] / (control.n - 1)) ** 0.5,
                control.n,
                equal_var=False,
            )

    def each(test: Callable[[Aggregates, Aggregates], object]) -> Callable[[], None]:
        def work() -> None:
            for arm, control in both:
                test(arm, control)

        return work

    tests: list[tuple[str, int | None, Callable[[Aggregates, Aggregates], object]]] = [
        ("welch", GOAL, lambda arm, control: welch(arm, control, "y")),
        ("welch, always valid", None, lambda arm, control: always_valid(welch(arm, control, "y"))),
        ("ratio", None, lambda arm, control: delta_ratio(arm, control, "y", "d")),
        ("cuped", None, lambda arm, control: cuped(arm, control, "y", ["x"])),
    ]
    figures = []
    for name, goal, test in tests:
        ours_s, theirs_s = alternating(each(test), scipy)
        ours, theirs = PAIRS / ours_s, PAIRS / theirs_s
        figures.append(
            Figure(
                f"statistics: {name}",
                ours,
                "tests/s",
                "SciPy's p-value",
                theirs,
                ours / theirs,
                "none" if goal is None else f">= {goal:,}/s",
                goal is None or ours >= goal,
            )
        )
    show(figures)


if __name__ == "__main__":
    main()
