"""Scale: what an event, a request and a night of a user cost at 10^5, 10^6 and 10^7 events.

    python benchmarks/bench_scale.py [--most N] [--results FILE] [--costs FILE]

measures up to N events (default 1,000,000). With --results what is done is kept, and the same command goes on
from there; --costs writes the file of costs that `armlift capacity` reads. Costs of an event should be flat:
each is printed at its largest size against its smallest.
"""

import argparse
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import bench_serving
import psutil
import scale_archive
import scale_arms
import scale_events
import scale_serving
from brokers import find_broker
from databases import Server, postgresql
from figures import Figure, show
from scale_lab import scale_lab
from scale_results import Results, costs_of, flatness, write_costs

ROOT = Path(__file__).resolve().parents[1]
SIZES = (100_000, 1_000_000, 10_000_000)
MOST_FOLLOWED = 1_000_000
"""Events that an API process is made to follow, at most."""
MOST_LEARNED = 1_000_000
"""Events above which arms learn from no more units: theirs are costs of a behaviour, and take minutes."""
FLAT = 1.5
ITEMS = {
    "recommend_cpu": bench_serving.ITEMS,
    **dict.fromkeys(("fit", "epoch", "prompts"), scale_arms.ITEMS),
}


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="What events, requests and nights cost, by size.")
    parser.add_argument("--most", type=int, default=1_000_000, help="events, at most")
    parser.add_argument("--results", type=Path, help="a file that keeps what was measured")
    parser.add_argument("--costs", type=Path, help="the file of costs to write")
    asked = parser.parse_args()
    if asked.costs and asked.most < scale_archive.LEAST_ON_SPARK:
        parser.error(f"--costs needs --most {scale_archive.LEAST_ON_SPARK} or more: it holds Spark's too")
    results = Results(asked.results)
    sizes = [*(size for size in SIZES if size < asked.most), asked.most]
    with postgresql(fsync=True) as server:
        if server is None:
            sys.exit("bench scale needs PostgreSQL's programs")
        for size in sizes:
            measure(server, results, size)
        name = server.name
    show([figure(*one) for one in flatness(results)])
    if asked.costs:
        write_costs(asked.costs, costs_of(results, machine(name), ITEMS))


def measure(server: Server, results: Results, size: int) -> None:
    """Measure every part at a size, but those that were; each size has a broker of its own."""
    parts = {"events": size, "serving": min(size, MOST_FOLLOWED), "arms": min(size, MOST_LEARNED)}
    left = {part: at for part, at in parts.items() if not results.has(part, at)}
    if not left:
        return
    print(f"{size:,} events", flush=True)
    with tempfile.TemporaryDirectory(prefix="armlift-scale-") as place:
        kafka, folder = Path(place) / "kafka", Path(place) / "labs"
        kafka.mkdir()
        broker = find_broker(ROOT, kafka)
        if broker is None or not broker.durable:
            sys.exit("bench scale needs Apache Kafka and Java")
        broker.start()
        try:
            for part, at in left.items():
                with scale_lab(folder / part, server, broker, at) as lab:
                    match part:
                        case "events":
                            found = scale_events.measure(lab, psutil.Process(server.pid), kafka)
                        case "serving":
                            found = scale_serving.serve(folder / "served", lab)
                        case _:
                            found = scale_arms.measure(lab.lab.folder, units_of(at))
                results.add(part, at, found)
                shutil.rmtree(folder)
        finally:
            broker.stop()


def units_of(events: int) -> int:
    """Give how many units arms learn from: fewer than there would be, as a night of them takes long."""
    return max(100, int(200 * float(events / 100_000) ** 0.6))


def figure(name: str, small: int, large: int, ratio: float) -> Figure:
    """Make the figure of how flat a cost is."""
    goal = f"<= {FLAT} x"
    return Figure(f"{name}, {large:,}", ratio, "x", f"at {small:,}", 1.0, ratio, goal, ratio <= FLAT)


def machine(server: str) -> str:
    """Describe this machine."""
    gigabytes = psutil.virtual_memory().total / 1e9
    python = platform.python_version()
    return f"{psutil.cpu_count()} cores, {gigabytes:.0f} GB, {server}, Apache Kafka, Python {python}"


if __name__ == "__main__":
    main()
