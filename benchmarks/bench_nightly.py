"""Nights: a week of them with all stock arms, and how often the gate errs.

Both take some twenty minutes; `ARMLIFT_BENCH_PARTS` names those to run: rehearsal, gate.
"""

import os

import nightly_gate
import nightly_rehearsal

PARTS = {"rehearsal": nightly_rehearsal.main, "gate": nightly_gate.main}


def main() -> None:
    """Run the parts one after the other."""
    for name in os.environ.get("ARMLIFT_BENCH_PARTS", ",".join(PARTS)).split(","):
        print(f"-- {name}", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()
