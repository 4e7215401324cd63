"""What an event costs: into the topic, in PostgreSQL, the rollup, the archive, a data set, a report."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import scale_archive
from scale_lab import A_REQUEST, DAYS, ScaleLab, administering, produce
from scale_meter import Meter, bytes_of, cpu_seconds, of_folder, told
from sqlalchemy import Engine, func, select, text, tuple_

from armlift.days import DAY_MS
from armlift.ingest import BATCH
from armlift.reproduction import take_report
from armlift.rollup import LOCK
from armlift.runs import LIVE, of_name
from armlift.store.tables import feedback, stream_offsets, touched_cells, unit_days
from armlift_pipelines.step import Context
from armlift_pipelines.steps import STEPS

LOOK_SECONDS = 0.02
Costs = dict[str, tuple[float, int]]
"""Each cost by its name, with the size it was measured at."""


def measure(lab: ScaleLab, server: psutil.Process, kafka: Path) -> Costs:
    """Measure one after another on the same events."""
    broker, events = of_folder(kafka), lab.all_events
    found: Costs = {}
    before = cpu_seconds(broker)
    with told("produce"):
        produce(lab)
    topic = bytes_of(kafka, f"scale_{lab.events}-*/*.log")
    with told("ingest, then rollup"):
        found |= ingest(lab, server)
    found["broker_cpu"] = ((cpu_seconds(broker) - before) / events, events)
    found["stream_bytes"] = (topic / events, events)
    with told("sizes"):
        found |= sizes(lab)
    with told("snapshot"):
        found |= report(lab)
    with told("data set"):
        found |= data_set(lab)
    found |= scale_archive.measure(lab)
    return found


def ingest(lab: ScaleLab, server: psutil.Process) -> Costs:
    """Run `armlift ingest`, and hold the rollup back until all is stored, so that each is timed alone.

    Ingest is timed from its first batch on up to its last but one.
    """
    words = ["ingest", "--once", "--lab", str(lab.lab.folder)]
    program = [sys.executable, "-c", "from armlift.cli import main; main()", *words]
    with rollup_held(lab.engine) as release, subprocess.Popen(program, stdout=subprocess.DEVNULL) as process:
        meter = Meter(ingest=psutil.Process(process.pid), sql=server)
        ahead = _stored_past(lab, process, 0)
        meter.set_back()
        # A batch is decoded while the one before is stored: where one is left, all but one are decoded.
        events = (_stored_past(lab, process, lab.messages - BATCH - 1) - ahead) * A_REQUEST
        took = {
            "ingest_time": meter.seconds,
            "ingest_cpu": meter.cpu("ingest"),
            "ingest_sql_cpu": meter.cpu("sql"),
        }
        found = {name: (value / events, events) for name, value in took.items()}
        _stored_past(lab, process, lab.messages - 1)
        release()
        meter.set_back()
        while _marks(lab.engine):
            if process.poll():
                raise RuntimeError(f"armlift ingest ended with {process.returncode}")
            time.sleep(LOOK_SECONDS)
        counted = lab.all_events
        found["rollup_time"] = (meter.seconds / counted, counted)
        found["rollup_sql_cpu"] = (meter.cpu("sql") / counted, counted)
        if process.wait(60):
            raise RuntimeError(f"armlift ingest ended with {process.returncode}")
    return found


@contextmanager
def rollup_held(engine: Engine) -> Iterator[Callable[[], object]]:
    """Keep the lock of whoever computes the rollup; gives a function that lets it go."""
    with administering(engine.url.render_as_string(hide_password=False)) as run:
        run(f"SELECT pg_advisory_lock({LOCK})")
        yield lambda: run(f"SELECT pg_advisory_unlock({LOCK})")


def _stored_past(lab: ScaleLab, process: "subprocess.Popen[bytes]", messages: int) -> int:
    """Wait until more messages than so many are stored; gives how many are."""
    while True:
        with lab.engine.connect() as connection:
            stored = int(connection.scalar(select(func.sum(stream_offsets.c.next))) or 0)
        if stored > messages:
            return stored
        if process.poll() is not None:
            raise RuntimeError(f"armlift ingest ended with {process.returncode}")
        time.sleep(LOOK_SECONDS)


def _marks(engine: Engine) -> bool:
    with engine.connect() as connection:
        return connection.scalar(select(touched_cells.c.mark).limit(1)) is not None


def sizes(lab: ScaleLab) -> Costs:
    """Read what events and the rollup take on disk, with their indexes."""
    with administering(lab.engine.url.render_as_string(hide_password=False)) as run:
        run("VACUUM ANALYZE")
    total = text(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
        "AND relname ~ '^(impressions|feedback)_|^exposures$'"
    )
    with lab.engine.connect() as connection:
        events = int(connection.execute(total).scalar_one())
        counted = int(connection.execute(text("SELECT pg_total_relation_size('unit_days')")).scalar_one())
    days = unit_days_of(lab.engine)
    return {
        "sql_event_bytes": (events / lab.all_events, lab.all_events),
        "sql_unit_day_bytes": (counted / days, days),
    }


def unit_days_of(engine: Engine) -> int:
    """Count days of units, by a sort: PostgreSQL takes minutes to hash so many in little memory."""
    with engine.connect() as connection:
        days = tuple_(unit_days.c.unit_id, unit_days.c.day).distinct()
        return int(connection.execute(select(func.count(days))).scalar_one())


def report(lab: ScaleLab) -> Costs:
    """Take the snapshot that a night takes."""
    with lab.engine.connect() as connection:
        (run,) = of_name(connection, LIVE)
    began = time.perf_counter()
    take_report(lab.engine, run, lab.lab.calendar, as_of=lab.first + DAYS * DAY_MS - 1)
    seconds = time.perf_counter() - began
    days = unit_days_of(lab.engine)
    return {"report_time": (seconds / days, days)}


def data_set(lab: ScaleLab) -> Costs:
    """Build a data set by the step of a night."""
    until = lab.first + DAYS * DAY_MS
    inputs = {"run": LIVE, "night": "scale", "first": lab.first, "until": until, "watermark": until}
    began = time.perf_counter()
    done = STEPS["build_dataset"].do(Context(lab.lab, lab.engine), {**inputs, "engine": "sql"})
    seconds = time.perf_counter() - began
    with lab.engine.connect() as connection:
        stored = connection.execute(select(func.count()).select_from(feedback)).scalar_one()
    assert done["behaviours"] == stored, "the data set lacks behaviours"
    return {"dataset_time": (seconds / lab.all_events, lab.all_events)}
