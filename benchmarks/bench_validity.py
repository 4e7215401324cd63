"""Coverage of a replay's 95 % intervals over 200 generated logs, and the statistics' own validity.

The replays show that biased exposure misses the truth. The statistics alone are simulated after them, which
takes some five minutes; `python benchmarks/validity.py` runs that part by itself.
"""

import tempfile
from pathlib import Path

import validity
from figures import Figure, show
from replay_coverage import measure

LOGS = 200


def main() -> None:
    """Measure and print; three Monte-Carlo standard errors are allowed."""
    replays()
    validity.main()


def replays() -> None:
    """Measure how often replays' intervals hold the truth."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), LOGS)
    figures = []
    for one in found:
        fair = "random exposure" in one.name
        allowed = 3 * one.error
        holds = abs(one.covered - 0.95) <= allowed if fair else one.covered < 0.95 - allowed
        goal = f".95 +- {allowed:.3f}" if fair else f"the miss shows: < {0.95 - allowed:.3f}"
        figures.append(
            Figure(
                f"coverage: {one.name}",
                one.covered,
                "of intervals",
                "nominal",
                0.95,
                one.covered / 0.95,
                goal,
                holds,
            )
        )
        print(f"{one.name}: true lift {one.truth:+.4f}, mean estimate {one.mean_lift:+.4f}, {one.logs} logs")
    show(figures)


if __name__ == "__main__":
    main()
