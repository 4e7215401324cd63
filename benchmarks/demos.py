"""A small demo: the lab of `armlift demo` with few users, and what the command wrote."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select

from armlift.lab import Lab
from armlift.store.database import open_database
from armlift.store.tables import snapshots
from armlift_pipelines.job_runs import JobRun, Record
from armlift_pipelines.night import JOB


class Demo(NamedTuple):
    """The lab's folder, how many days it holds, the words that made it, and what they wrote."""

    folder: Path
    days: int
    words: list[str]
    out: str
    err: str

    def nights(self) -> list[JobRun]:
        """List the nights."""
        engine = open_database(Lab(self.folder))
        try:
            return Record(engine).runs(job=JOB, limit=100)
        finally:
            engine.dispose()

    def reported(self) -> dict[str, int]:
        """Count the times of which there are reports, by experiment."""
        engine = open_database(Lab(self.folder))
        times = select(snapshots.c.experiment, func.count(snapshots.c.as_of.distinct()))
        with engine.connect() as connection:
            rows = connection.execute(times.group_by(snapshots.c.experiment)).all()
        engine.dispose()
        return {row[0]: row[1] for row in rows}


def make_demo(folder: Path, *, users: int, days: int) -> Demo:
    """Run `armlift demo` in a process of its own."""
    words = ["demo", "--lab", str(folder), "--users", str(users), "--days", str(days)]
    code = "import sys; from armlift.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return Demo(folder, days, words, done.stdout, done.stderr)
