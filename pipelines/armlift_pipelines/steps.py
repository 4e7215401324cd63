"""The steps of a night: small functions that say what they need and what they give.

A step is given its inputs by name and gives its outputs by name, both plain data, so that it can run in any
process, and so that the hash of its inputs names what it does: a step that has succeeded on equal inputs is
not done again. Everything large lies in the data set, the artefacts or the database.
"""

from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.durations import milliseconds
from armlift.errors import StoreError
from armlift.nightly import ArchiveSettings, RetentionSettings
from armlift.reproduction import take_report
from armlift.rollup import roll_up_all
from armlift.runs import Subjects, of_name
from armlift.store.database import reading
from armlift_pipelines import drift, retention
from armlift_pipelines.arm_steps import OF_ARM
from armlift_pipelines.dataset import DATASETS, Span
from armlift_pipelines.dataset_build import build_from_sql
from armlift_pipelines.dataset_spark import archive_and_build
from armlift_pipelines.step import OF_DATA, Context, Inputs, Outputs, Step


def roll_up(context: Context, inputs: Inputs) -> Outputs:
    """Compute what marked cells of the rollup count."""
    roll_up_all(context.engine, Subjects())
    return {"rolled_up": inputs["watermark"]}


def build_dataset(context: Context, inputs: Inputs) -> Outputs:
    """Read what units did up to the watermark, for all arms, by the engine that is asked for."""
    name = inputs["night"] if inputs["run"] == "live" else f"{inputs['night']}-{inputs['run']}"
    span = Span(inputs["run"], inputs["first"], inputs["until"], inputs["watermark"])
    folder = context.lab.folder / DATASETS / name
    if inputs["engine"] == "spark":
        meta = archive_and_build(context.lab, context.engine, span, folder)
    else:
        meta = build_from_sql(context.engine, span, folder)
    return {
        "dataset": name,
        "data_hash": meta.data_hash,
        "behaviours": meta.learned,
        "units": meta.units,
        "items": meta.items,
    }


def report_drift(context: Context, inputs: Inputs) -> Outputs:
    """Compare the last day with the days before it."""
    with reading(context.engine) as connection:
        found = drift.drift(connection, inputs["run"], until_ms=inputs["watermark"])
    print(drift.render(found))
    return {"drift": found.as_dict()}


def snapshot(context: Context, inputs: Inputs) -> Outputs:
    """Take the report of every run that is read at night, as of the watermark."""
    made = {}
    with context.engine.connect() as connection:
        found = of_name(connection, inputs["run"])
    for run in found:
        report = take_report(context.engine, run, context.lab.calendar, as_of=inputs["watermark"] - 1)
        made[run.experiment] = report.snapshot
    return {"snapshots": made}


def archive(context: Context, inputs: Inputs) -> Outputs:
    """Write closed days of events to the archive; fails where it finds it damaged for good."""
    settings = ArchiveSettings.model_validate(inputs["archive"])
    place = Archive(context.lab.resolve(context.lab.settings.archive_url))
    done = archive_closed(context.engine, place, inputs["now"], after=milliseconds(settings.after))
    print(done.text())
    if not done.sound:
        raise StoreError("; ".join(done.complaints()))
    return {"archived": done.document()}


def retain(context: Context, inputs: Inputs) -> Outputs:
    """Delete what is older than what is kept."""
    settings, archived = RetentionSettings.model_validate(inputs["retention"]), inputs["archive"] is not None
    done = retention.retain(context.lab, context.engine, settings, now_ms=inputs["now"], archived=archived)
    return {"deleted": done}


BEFORE = (
    Step("roll_up", ("run", "watermark"), ("rolled_up",), roll_up),
    Step(
        "build_dataset",
        ("run", "night", "first", "until", "watermark", "engine", "rolled_up"),
        (*OF_DATA, "behaviours", "units", "items"),
        build_dataset,
    ),
)
"""What is done once, before the arms."""
AFTER = (
    Step("drift", ("run", "watermark", "rolled_up"), ("drift",), report_drift),
    Step("snapshot", ("run", "watermark", "rolled_up"), ("snapshots",), snapshot),
    Step("archive", ("archive", "now"), ("archived",), archive),
    Step("retention", ("retention", "archive", "now"), ("deleted",), retain),
)
"""What is done once, after the arms."""
STEPS = {step.name: step for step in (*BEFORE, *OF_ARM, *AFTER)}
