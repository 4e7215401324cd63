"""Replay: log rows a second end to end into SQLite, and peak memory against the length of the log."""

import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, show

from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.replay import replay
from armlift.replayer import ReplayOptions
from armlift.report import make_report
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

EXTRACT = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "kuairand" / "log_standard_27k_explicit.csv"
)
EXPERIMENT = """
name: bench
arms: {popularity: 1, random: 1}
control: random
metrics: {primary: [click_rate], secondary: [long_view_rate, watch_time], guardrails: [hate_rate]}
"""
EVENTS = ("exposures", "impressions", "feedback")


def run_replay(folder: Path, log: Path) -> tuple[float, int]:
    """Replay a log in a new lab, from opening the file to the report; gives seconds and rows."""
    shutil.rmtree(folder, ignore_errors=True)
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "bench.yaml").write_text(EXPERIMENT)
    lab = Lab(folder)
    start = time.perf_counter()
    rows = open_log([log])
    engine = open_database(lab, create=True)
    with EmbeddedStream(folder / "stream") as stream:
        run = replay(
            lab, lab.experiment("bench"), rows, engine, stream, ReplayOptions("rerank", False, 10, 0)
        )
    make_report(engine, run, lab.calendar)
    engine.dispose()
    return time.perf_counter() - start, rows.summary.rows


def bare_inserts(folder: Path) -> float:
    """Time plain `executemany` of the same event rows into the same tables, one transaction."""
    with sqlite3.connect(folder / "armlift.db") as source:
        schema = [
            row[0]
            for row in source.execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name IN ('exposures', 'impressions', 'feedback') "
                "AND sql IS NOT NULL"
            )
        ]
        rows = {table: source.execute(f"SELECT * FROM {table} ORDER BY ts").fetchall() for table in EVENTS}
    source.close()
    target = folder / "bare.db"
    target.unlink(missing_ok=True)
    connection = sqlite3.connect(target)
    for statement in schema:
        connection.execute(statement)
    start = time.perf_counter()
    for table, values in rows.items():
        marks = ", ".join("?" * len(values[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    connection.commit()
    taken = time.perf_counter() - start
    connection.close()
    return taken


def throughput(folder: Path) -> Figure:
    """Measure rows a second on the 27K extract, or on a generated log of as many rows where it is absent."""
    log = EXTRACT
    if not log.exists():
        log = folder / "log.csv"
        generate(GeneratorSettings(users=150, days=14, sessions_per_day=2, rows_per_session=10), log)
    run_replay(folder / "lab", log)
    ours, bare = [], []
    rows = 0
    for _ in range(5):
        taken, rows = run_replay(folder / "lab", log)
        ours.append(rows / taken)
        bare.append(rows / bare_inserts(folder / "lab"))
    value, reference = statistics.median(ours), statistics.median(bare)
    name = "bare executemany of its events"
    return Figure(
        "replay rerank",
        value,
        "log rows/s",
        name,
        reference,
        value / reference,
        ">= 20,000/s",
        value >= 20_000,
    )


def peak_memory(folder: Path, days: int) -> float:
    """Give the peak memory in MB of a process that replays a generated log of so many days."""
    log = folder / f"log-{days}.csv"
    generate(GeneratorSettings(users=150, days=days, rows_per_session=20), log)
    command = [sys.executable, __file__, "--peak", str(folder / f"lab-{days}"), str(log)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_megabytes() -> float:
    """Give this process's peak memory; where the system counts it by program, not what the parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(folder: Path) -> Figure:
    """Compare the peak memory of a log and of one ten times as long."""
    short, long = peak_memory(folder, 3), peak_memory(folder, 30)
    ratio = long / short
    return Figure(
        "replay peak memory, 10 x the log", long, "MB", "the log itself", short, ratio, "< 1.3 x", ratio < 1.3
    )


def main() -> None:
    """Measure and print; with --peak replay one log and print this process's peak memory."""
    if "--peak" in sys.argv:
        run_replay(Path(sys.argv[-2]), Path(sys.argv[-1]))
        print(peak_megabytes())
        return
    with tempfile.TemporaryDirectory() as folder:
        show([throughput(Path(folder)), memory(Path(folder))])


if __name__ == "__main__":
    main()
