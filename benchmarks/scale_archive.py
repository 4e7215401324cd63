"""What an event costs that is archived, and that Spark reads from there for a report."""

import time

import psutil
from scale_lab import DAYS, ScaleLab
from scale_meter import Meter, told

from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS, utc_now
from armlift.report import make_report
from armlift.runs import LIVE, of_name
from armlift.spark.engine import open_reading

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
    with told("report on Spark, twice"):
        report(lab, archive)
        # Once more on the same Java, which has compiled by now what it runs.
        spark = report(lab, archive)
    return {
        "archive_time": (seconds / events, events),
        "archive_bytes": (done.bytes / events, events),
        "spark_cpu": (spark / events, events),
    }


def report(lab: ScaleLab, archive: Archive) -> float:
    """Make the report of all days on Spark; gives the CPU seconds that took."""
    meter = Meter(spark=psutil.Process())
    with lab.engine.connect() as connection:
        (run,) = of_name(connection, LIVE)
    with open_reading(lab.lab.settings.spark, archive) as read:
        made = make_report(lab.engine, run, lab.lab.calendar, as_of=lab.first + DAYS * DAY_MS - 1, read=read)
        assert made.comparisons[0].units, "Spark counted nobody"
        return meter.cpu("spark")
