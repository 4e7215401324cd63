"""What the page Pipelines shows: runs of jobs, the last night, where its time went, and its drift."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, case, func, select

from armlift.days import DAY_MS
from armlift.errors import InputError
from armlift.store.database import reading
from armlift.store.tables import job_runs
from armlift_pipelines.job_runs import FAILED, SKIPPED, SUCCEEDED, JobRun, Key, Record
from armlift_pipelines.night import JOB as NIGHTLY
from armlift_pipelines.night import Result
from armlift_pipelines.scheduler import MONITOR

NIGHTS = 14
"""Nights whose time is shown."""
SHORTEST = 6
"""Characters of an id that must be given: `armlift jobs` prints as many."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "data": ("roll_up", "build_dataset"),
    "train": ("retrain",),
    "evaluate": ("evaluate",),
    "gate": ("gate", "promote"),
    "prompts": ("write_prompts",),
    "report": ("drift", "snapshot", "archive", "retention"),
}
"""The parts of a night, in their order, and the steps of each."""
_PART_OF = {step: part for part, steps in PARTS.items() for step in steps}


class Choice(NamedTuple):
    """Which runs are asked for: of a job and with a status, or of all; the newest, so many."""

    job: str | None = None
    status: str | None = None
    limit: int = 20


class Looks(NamedTuple):
    """The monitor's looks of the last day: how many, how many failed, and the newest of all."""

    looks: int
    failed: int
    newest: JobRun


class Listing(NamedTuple):
    """Runs of whole jobs, the newest first; `looks` stands for the monitor's where they are not listed."""

    runs: list[JobRun]
    looks: Looks | None


class Opened(NamedTuple):
    """One run, the steps of its night in the order they began, and the newest run of the night of a step."""

    run: JobRun
    steps: list[JobRun]
    night: JobRun | None


class Spent(NamedTuple):
    """Seconds that a part of a night took, all attempts together."""

    night: str
    part: str
    seconds: float


class Shifted(NamedTuple):
    """A measure of drift: its status, what was found, what chance makes, and what it seldom exceeds."""

    name: str
    status: str
    value: float | None
    noise: float | None
    limit: float | None


def record_of(engine: Engine) -> Record:
    """Give the record of a page, which has no time to wait for a database that is away."""
    return Record(engine, patience=0.0)


def listing(engine: Engine, choice: Choice, now: int) -> Listing:
    """List the runs that are asked for; the monitor's are many, and listed only where it is chosen."""
    record = record_of(engine)
    jobs = record.jobs()
    wanted = [one for one in jobs if one != MONITOR] if choice.job is None else [choice.job]
    runs = record.runs(job=wanted, status=choice.status, steps=False, limit=choice.limit) if wanted else []
    looks = None
    if choice.job is None and MONITOR in jobs:
        with reading(engine) as connection:
            looks = _looks(connection, record, now)
    return Listing(runs, looks)


def _looks(connection: Connection, record: Record, now: int) -> Looks:
    j = job_runs.c
    failures = func.coalesce(func.sum(case((j.status == FAILED, 1), else_=0)), 0)
    asked = select(func.count(), failures).where(j.job == MONITOR, j.step == "", j.started > now - DAY_MS)
    count, failed = connection.execute(asked).one()
    (newest,) = record.runs(job=MONITOR, steps=False, limit=1)
    return Looks(count, int(failed), newest)


def last_night(engine: Engine) -> Result | None:
    """Give the newest night that was done, or is being done, with the newest attempt of each step."""
    record = record_of(engine)
    nights = record.runs(job=NIGHTLY, steps=False, limit=100)
    newest = next((one for one in nights if one.status != SKIPPED), None)
    return None if newest is None else Result(newest, list(_newest(_steps(record, newest)).values()))


def _steps(record: Record, night: JobRun) -> list[JobRun]:
    """Give the attempts of all steps of a night, in the order they began."""
    found = record.runs(job=night.job, subject=night.subject)
    return [one for one in reversed(found) if one.step]


def _newest(steps: Sequence[JobRun]) -> dict[Key, JobRun]:
    return {one.key: one for one in steps}


def opened(engine: Engine, identity: str) -> Opened:
    """Give the run of an id, which may be cut short; raises InputError where it names none, or several."""
    record = record_of(engine)
    found = record.named(identity) if len(identity) >= SHORTEST else []
    if len(found) != 1:
        raise InputError(
            f"run {identity[:40]!r}: {'several begin so' if found else 'no job has such a run'}, "
            "must be an id that `armlift jobs --steps` shows"
        )
    (run,) = found
    if run.step:
        return Opened(run, [], record.newest(Key(run.job, run.subject)))
    return Opened(run, _steps(record, run), None)


def night_of(run: JobRun) -> tuple[str, str]:
    """Give the run whose events a night knows, and the night's day; both are in its subject."""
    of, _, day = run.subject.rpartition("/")
    return of, day


def nights_of(engine: Engine) -> list[str]:
    """Name the runs that had nights, the one with the newest night first."""
    nights = record_of(engine).runs(job=NIGHTLY, steps=False, limit=1000)
    return list(dict.fromkeys(night_of(one)[0] for one in nights if one.status != SKIPPED))


def spent(engine: Engine, run: str) -> list[Spent]:
    """Add up the seconds of the parts of a run's newest nights, the earliest night first."""
    j = job_runs.c
    begun = f"{run}/"
    of_run = (j.job == NIGHTLY, j.subject.startswith(begun, autoescape=True))
    newest = (
        select(j.subject).where(*of_run, j.step != "").distinct().order_by(j.subject.desc()).limit(NIGHTS)
    )
    with reading(engine) as connection:
        subjects = [one for one in connection.execute(newest).scalars() if _is_day(one.removeprefix(begun))]
        lasted = func.sum(j.ended - j.started)
        asked = select(j.subject, j.step, lasted).where(
            j.job == NIGHTLY, j.subject.in_(subjects), j.step != "", j.ended.is_not(None)
        )
        sums: dict[tuple[str, str], float] = {}
        for subject, step, ms in connection.execute(asked.group_by(j.subject, j.step)):
            place = subject.removeprefix(begun), _PART_OF.get(step, step)
            sums[place] = sums.get(place, 0.0) + float(ms) / 1000.0
    return [Spent(night, part, seconds) for (night, part), seconds in sorted(sums.items())]


def parts_of(found: Sequence[Spent]) -> list[str]:
    """Name the parts that nights had, in the order in which they are done."""
    there = {one.part for one in found}
    return [*(part for part in PARTS if part in there), *sorted(there - {*PARTS})]


def _is_day(text: str) -> bool:
    """Tell whether a subject ends with a day: the name of another run may begin alike."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def drift_of(night: Result) -> Mapping[str, Any] | None:
    """Give the drift that a night found, as its step gave it; None where that was not done."""
    done = (one for one in night.steps if one.step == "drift" and one.status == SUCCEEDED)
    found = next(done, None)
    return None if found is None else found.outputs.get("drift")


def shifted(drift: Mapping[str, Any]) -> Iterator[Shifted]:
    """Give the measures of drift."""
    for one in drift["measures"]:
        yield Shifted(one["name"], one["status"], one["value"], one["noise"], one["limit"])


def in_words(drift: Mapping[str, Any]) -> list[str]:
    """Tell what differs on the last day beyond chance, a sentence a measure, the worst first."""
    odd = [one for one in shifted(drift) if one.status in ("warn", "fail")]
    odd.sort(key=lambda one: one.status != "fail")
    return [
        f"{one.name}: {one.value:.3g}, where chance alone makes {one.noise:.3g} and seldom more than "
        f"{one.limit:.3g}: {'a large' if one.status == 'fail' else 'some'} drift."
        for one in odd
        if one.value is not None
    ]
