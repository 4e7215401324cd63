"""What jobs did, written out for the terminal; it fits 80 columns."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.lab import Lab
from armlift_pipelines.job_runs import SUCCEEDED, JobRun, Record
from armlift_pipelines.night import JOB as NIGHTLY
from armlift_pipelines.night import Result
from armlift_pipelines.timetable import planned

_WIDTH = 80
_DRIFT = {"ok": "no drift", "warn": "some drift", "fail": "large drift", "no_data": "nothing to compare"}


def select_runs(
    engine: Engine, *, job: str | None, night: str | None, steps: bool, limit: int
) -> list[JobRun]:
    """Read runs, the newest first; of a night all its steps."""
    record = Record(engine)
    if night is None:
        return record.runs(job=job, steps=steps, limit=limit)
    found = [one for one in record.runs(job=NIGHTLY, limit=100_000) if one.subject.endswith(f"/{night}")]
    return found[:limit]


def next_runs(lab: Lab, engine: Engine) -> dict[str, str]:
    """Give when each job is due next, in the lab's time zone; nothing before a scheduler ever ran."""
    with engine.connect() as connection:
        return {job: lab.calendar.show(at) for job, at in planned(connection).items()}


def print_log(lab: Lab, engine: Engine, identity: str) -> None:
    """Print what a run wrote; its id may be cut short where that is unambiguous."""
    found = Record(engine).named(identity)
    if len(found) != 1:
        raise InputError(
            f"--log {identity!r} names {'several runs' if found else 'no run'}; see `armlift jobs --steps`"
        )
    (run,) = found
    if run.error:
        print(f"{run.status}: {run.error}")
    if run.log is None:
        return
    try:
        print((lab.folder / run.log).read_text(encoding="utf-8", errors="replace"), end="")
    except OSError as error:
        raise InputError(f"{lab.folder / run.log}: cannot be read: {error.strerror}") from error


def render(runs: Sequence[JobRun], nexts: dict[str, str], calendar: Calendar) -> str:
    """Write runs out, a line each, and when jobs are due next."""
    lines = (
        [f"{'started':<16} {'took':>9}  {'status':<10}{'what':<35} {'id'}"]
        if runs
        else ["no job was done yet"]
    )
    for one in runs:
        started = calendar.show(one.started)[:16].replace("T", " ")
        what = f"  {one.step} {one.arm}" if one.step else f"{one.job} {one.subject}"
        lines.append(f"{started:<16} {_took(one):>9}  {one.status:<10}{what[:35]:<35} {one.id[:6]}")
        if one.error:
            lines.append(f"  {' '.join(one.error.split())}"[:_WIDTH])
    lines += [f"next {job}: {at}" for job, at in nexts.items()]
    return "\n".join(lines)


def line(one: JobRun) -> str:
    """Write a step out as it ends."""
    plain = one.scope in ("*", "", one.subject.rpartition("/")[0])  # what learns from a run serves in it
    what = " ".join(filter(None, [one.step, one.arm, "" if plain else f"({one.scope})"]))
    end = one.error or came_to(one)
    return f"{what:<32} {one.status} in {_took(one)}{f': {end}' if end else ''}"


def night_lines(result: Result) -> list[str]:
    """Write a night out: which version of each arm serves now, and what went wrong."""
    done = sum(one.status == SUCCEEDED for one in result.steps)
    took = sum(one.seconds or 0.0 for one in result.steps)
    lines = [f"night {result.run.subject}: {done} of {len(result.steps)} steps done, {took:,.1f} s of work"]
    for one in result.steps:
        if one.step == "promote":
            what = "promoted" if one.outputs["promoted"] else "stays"
            lines.append(f"  {one.arm:<20} {one.outputs['serving'] or 'nothing'} {what}")
    lines += [
        f"  refused: {one.arm}: {reason}" for one in result.refused for reason in one.outputs["reasons"]
    ]
    return lines + [f"  failed: {one.key}: {one.error}" for one in result.failed]


def _took(one: JobRun) -> str:
    if one.seconds is None:
        since = datetime.now(UTC).timestamp() - one.started / 1000.0
        return f"{since:,.0f} s…"
    return f"{one.seconds:,.{1 if one.seconds < 1_000 else 0}f} s"


def came_to(one: JobRun) -> str:
    """Say in a few words what a step came to; nothing of one that did not succeed, or only did its work."""
    outputs: Any = one.outputs
    told = {
        "build_dataset": lambda: f"{outputs['units']:,} units, {outputs['behaviours']:,} behaviours",
        "retrain": lambda: f"version {outputs['candidate']}",
        "evaluate": lambda: _metric(outputs["evaluation"]),
        "gate": lambda: "passed" if outputs["passed"] else f"refused: {'; '.join(outputs['reasons'])}",
        "promote": lambda: f"{outputs['serving'] or 'nothing'} serves",
        "write_prompts": lambda: f"{outputs['prompts']:,} prompts to {outputs['prompted']:,} units",
        "drift": lambda: _DRIFT[outputs["drift"]["status"]],
        "archive": lambda: f"{outputs['archived']['days']:,} days, {outputs['archived']['rows']:,} events",
        "retention": lambda: _waiting(outputs["deleted"]["waiting_days"]),
    }
    return told[one.step]() if one.step in told and one.status == SUCCEEDED else ""


def _waiting(days: int) -> str:
    return f"{days:,} days wait for the archive" if days else ""


def _metric(evaluation: dict[str, Any]) -> str:
    name = "NDCG@10"
    if name not in evaluation["metrics"]:
        return "nobody can be asked"
    found = f"{name} {evaluation['metrics'][name]:.4f} of {evaluation['asked']:,} units"
    before = evaluation["promoted"].get(name)
    return found if before is None else f"{found}, promoted {before:.4f}"
