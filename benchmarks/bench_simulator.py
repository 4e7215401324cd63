"""The simulator: speed, memory, rates against published ones, coverage of the known truth, symbiosis.

All of it takes the better part of an hour; each part runs by itself (`python benchmarks/simulator_*.py`).
`ARMLIFT_BENCH_PARTS` names those to run, `ARMLIFT_BENCH_PROCESSES` how many processes share the experiments.
"""

import os

import simulator_coverage
import simulator_rates
import simulator_speed
import simulator_symbiosis
import simulator_trained

PARTS = {
    "speed": simulator_speed.main,
    "rates": simulator_rates.main,
    "symbiosis": simulator_symbiosis.main,
    "coverage": simulator_coverage.main,
    "trained": simulator_trained.main,
}


def main() -> None:
    """Run the parts one after the other."""
    for name in os.environ.get("ARMLIFT_BENCH_PARTS", ",".join(PARTS)).split(","):
        print(f"-- {name}", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()
