"""What an event costs that is archived, and that Spark reads from there for a report."""

import time

import psutil
from scale_lab import ScaleLab
from scale_meter import Meter, told

from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS, utc_now
from armlift.report import make_report
from armlift.runs import LIVE, of_name
from armlift.spark.engine import open_reading

LEAST_ON_SPARK = 1_000_000
"""Events under which Spark's own work hides what an event takes."""
Costs = dict[str, tuple[float, int]]


def measure(lab: ScaleLab) -> Costs:
    """Archive all events, and let Spark report on them."""
    archive, events = Archive(lab.lab.resolve(lab.lab.settings.archive_url)), lab.all_events
    with told("archive"):
        began = time.perf_counter()
        done = archive_closed(lab.engine, archive, utc_now(), after=0)
        seconds = time.perf_counter() - began
    assert done.sound, done
    assert done.rows == events, done
    found = {"archive_time": (seconds / events, events), "archive_bytes": (done.bytes / events, events)}
    if lab.events >= LEAST_ON_SPARK:
        with told("reports on Spark"):
            found["spark_cpu"] = spark(lab, archive)
    return found


def spark(lab: ScaleLab, archive: Archive) -> tuple[float, int]:
    """Measure what an archive of all days takes more than one of the first: that leaves the start out."""
    small = Archive(f"{archive.url}-small")
    first, *others = archive.days(LIVE)
    archive_closed(lab.engine, small, utc_now(), after=0, until=first + 1)
    rows = sum(file.rows for one in archive.manifests(LIVE)[1:] for file in one.files)
    report(lab, small, first)  # Java compiles what it runs
    less, more = report(lab, small, first), report(lab, archive, others[-1])
    return (more - less) / rows, rows


def report(lab: ScaleLab, archive: Archive, day: int) -> float:
    """Make the report up to a day on Spark; gives the CPU seconds that took."""
    meter = Meter(spark=psutil.Process())
    with lab.engine.connect() as connection:
        (run,) = of_name(connection, LIVE)
    with open_reading(lab.lab.settings.spark, archive) as read:
        made = make_report(lab.engine, run, lab.lab.calendar, as_of=(day + 1) * DAY_MS - 1, read=read)
        assert made.comparisons[0].units, "Spark counted nobody"
        return meter.cpu("spark")
