"""Run benchmarks: all, or those named on the command line."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = "bench_"


def main() -> None:
    """Run each benchmark in a fresh module; an unknown name is refused with the known ones."""
    known = sorted(path.stem.removeprefix(PREFIX) for path in HERE.glob(f"{PREFIX}*.py"))
    asked = sys.argv[1:] or known
    for name in asked:
        if name not in known:
            sys.exit(f"ONLY={name} is not a benchmark, must be one of {', '.join(known)}")
    sys.argv = sys.argv[:1]
    for name in asked:
        print(f"== {name}", flush=True)
        runpy.run_path(str(HERE / f"{PREFIX}{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
