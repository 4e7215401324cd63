"""What an event costs that is archived, and that Spark reads from there for a report or a data set."""

import time
from collections.abc import Callable
from typing import NamedTuple

import psutil
from scale_lab import ScaleLab
from scale_meter import Meter, told

from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS, utc_now
from armlift.report import make_report
from armlift.runs import LIVE, of_name
from armlift.spark.engine import open_reading
from armlift_pipelines.dataset import Span
from armlift_pipelines.dataset_spark import build_from_archive

LEAST_ON_SPARK = 10_000_000
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
        with told("reports and data sets on Spark"):
            found |= spark(lab, archive)
    return found


def spark(lab: ScaleLab, archive: Archive) -> Costs:
    """Measure what all days take Spark more than two, so that what any size takes is left out."""
    small = Archive(f"{archive.url}-small")
    first, *others = archive.days(LIVE)
    archive_closed(lab.engine, small, utc_now(), after=0, until=first + 2)
    rows = sum(file.rows for one in archive.manifests(LIVE)[2:] for file in one.files)
    asked = (small, first), (small, first), (archive, others[-1])
    # The first of three is for Java, which compiles what it runs.
    _, less, more = (cpu_of(lab, report, *one) for one in asked)
    _, few, many = (cpu_of(lab, data_set, *one) for one in asked)
    return {
        "spark_report_cpu": ((sum(more) - sum(less)) / rows, rows),
        "spark_dataset_cpu": ((many.spark - few.spark) / rows, rows),
        "spark_dataset_time": ((many.own - few.own) / rows, rows),
    }


class Taken(NamedTuple):
    """CPU seconds of Spark, and of the process that asks it."""

    spark: float
    own: float


Work = Callable[[ScaleLab, Archive, int], None]


def cpu_of(lab: ScaleLab, work: Work, archive: Archive, day: int) -> Taken:
    """Do some work on an archive up to a day."""
    meter, began = Meter(all=psutil.Process()), time.process_time()
    work(lab, archive, day)
    own = time.process_time() - began
    return Taken(meter.cpu("all") - own, own)


def report(lab: ScaleLab, archive: Archive, day: int) -> None:
    """Make the report up to a day."""
    with lab.engine.connect() as connection:
        (run,) = of_name(connection, LIVE)
    with open_reading(lab.lab.settings.spark, archive) as read:
        made = make_report(lab.engine, run, lab.lab.calendar, as_of=(day + 1) * DAY_MS - 1, read=read)
    assert made.comparisons[0].units, "Spark counted nobody"


def data_set(lab: ScaleLab, archive: Archive, day: int) -> None:
    """Build the data set up to a day."""
    until = (day + 1) * DAY_MS
    span = Span(LIVE, lab.first, until, until)
    folder = lab.lab.folder / "datasets" / f"spark-{day}"
    assert build_from_archive(lab.lab.settings.spark, lab.engine, archive, span, folder).behaviours
