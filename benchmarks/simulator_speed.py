"""How fast users are simulated, and in how much memory: one process, a cheap arm.

Seconds are those of the process, so that what else the machine does hardly counts.

`python benchmarks/simulator_speed.py` runs this part by itself; `ARMLIFT_BENCH_USERS` sets the number of
users of the larger of the two runs whose memory is compared.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_replay import peak_megabytes
from figures import Figure, show
from simulator_world import experiment_of, fitted, laboratory_of

from armlift.lab import Lab, init_lab
from armlift.simulation.course import Page
from armlift.simulation.laboratory import Size
from armlift.simulation.simulate import Simulation
from armlift.simulation.traffic import Traffic
from armlift.simulation.users import Users
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

MANY = int(os.environ.get("ARMLIFT_BENCH_USERS", "1000000"))
SHARE = 10
"""The smaller run has so many times fewer users."""
MEMORY_DAYS = 14
POPULARITY = {"name": "popularity", "model": "popularity"}
RARE = {"sessions_per_day": 0.05, "history_days": 1, "training_users": 5_000}
STREAMED = """
name: speed
arms: {popularity: 1, random: 1}
control: random
metrics: {primary: [click_rate], secondary: [clicks]}
simulation: {history_days: 1}
"""


def simulate(size: Size, **settings: object) -> tuple[int, float]:
    """Let everybody meet popularity, without stream or tables; gives impressions and seconds."""
    experiment = experiment_of("speed", {"popularity": 1.0}, "popularity", simulation=settings)
    laboratory = laboratory_of(experiment, size)
    arm = fitted(POPULARITY, laboratory.past_data())
    shown = 0

    def page(users: Users, traffic: Traffic, one: Page) -> None:
        nonlocal shown
        shown += int(one.response.shown.sum())

    start = time.process_time()
    laboratory.run({"popularity": arm}, lambda users: Traffic.everybody(0, len(users)), page=page)
    return shown, time.process_time() - start


def core() -> Figure:
    """Measure impressions a second through the whole contract of an arm."""
    found = []
    for seed in range(3):
        shown, seconds = simulate(Size(users=5_000, days=3, seed=seed), history_days=1)
        found.append(shown / seconds)
    rate = statistics.median(found)
    return Figure("simulator: impressions", rate, "/s", "goal", 50_000.0, rate / 50_000, ">= 50,000/s",
                  rate >= 50_000)  # fmt: skip


def streamed(folder: Path, rate: float) -> Figure:
    """Measure the same through the embedded stream into SQLite, as `armlift simulate` does."""
    init_lab(folder)
    (folder / "experiments" / "demo.yaml").unlink()
    (folder / "experiments" / "speed.yaml").write_text(STREAMED)
    lab = Lab(folder)
    engine = open_database(lab, create=True)
    simulation = Simulation(lab, lab.experiment("speed"), Size(users=400, days=3), engine)
    start = time.process_time()
    with EmbeddedStream(folder / "stream") as stream:
        simulation.run(stream)
    seconds = time.process_time() - start
    with engine.connect() as connection:
        shown = connection.exec_driver_sql("SELECT count(*) FROM impressions").scalar_one()
    engine.dispose()
    value = shown / seconds
    return Figure(
        "simulator: into SQLite", value, "/s", "without the stream", rate, value / rate, "none", True
    )


def rare(users: int) -> tuple[float, float]:
    """Simulate many users who come rarely, in a process of its own; gives its peak memory (MB) and rate."""
    command = [sys.executable, __file__, "--peak", str(users)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), float(told[1])


def memory() -> list[Figure]:
    """Compare the peak memory of ten times as many users."""
    few, _ = rare(MANY // SHARE)
    many, rate = rare(MANY)
    name = f"{MANY:,} users x {MEMORY_DAYS} days"
    return [
        Figure(f"simulator: memory of {name}", many, "MB", f"{MANY // SHARE:,} users", few, many / few,
               "< 1.3 x", many / few < 1.3),
        Figure(f"simulator: {name}", rate, "impressions/s", "goal", 50_000.0, rate / 50_000, "none", True),
    ]  # fmt: skip


def main() -> None:
    """Measure and print; with --peak simulate so many users and print this process's peak memory and rate."""
    if "--peak" in sys.argv:
        shown, seconds = simulate(Size(users=int(sys.argv[-1]), days=MEMORY_DAYS), **RARE)
        print(peak_megabytes(), shown / seconds)
        return
    first = core()
    with tempfile.TemporaryDirectory() as folder:
        show([first, streamed(Path(folder) / "lab", first.value), *memory()])


if __name__ == "__main__":
    main()
