"""Slates of a unit: what each arm of an experiment would show it now, and the prompts it has in view."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.arm import Arm, Behaviour, Prompt, Request, Slate, new_arm
from armlift.artefacts import load_artefact
from armlift.errors import ArmliftError
from armlift.events import request_identity
from armlift.lab import Lab
from armlift.prompts import of_units, placed
from armlift.runs import Run
from armlift.store.database import reading
from armlift_dashboards.arm_versions import Answering, answering
from armlift_dashboards.run_units import Unit

SLATE = 10
"""Items of a slate where the run does not say how many."""

Load = Callable[[str, str], Arm]
"""Gives an arm of a version, from memory if it is there; raises ArmliftError where it cannot."""


class Column(NamedTuple):
    """What one arm shows a unit: its slate, or in `trouble` the line that says why there is none."""

    arm: str
    answering: Answering | None
    slate: Slate | None
    trouble: str | None

    @property
    def prompts(self) -> Sequence[Prompt]:
        """Give the prompts that the arm had in view."""
        return () if self.slate is None else self.slate.prompts


def load(lab: Lab, arm: str, version: str) -> Arm:
    """Load an artefact; raises ArmliftError, whatever it is that keeps it from being loaded."""
    try:
        return load_artefact(lab.resolve(lab.settings.artefact_url), arm, version)[0]
    except ArmliftError:
        raise
    except Exception as error:
        # Whatever a file system or a model raises, the other arms are shown.
        raise ArmliftError(f"{arm} {version} cannot be loaded: {_line(error)}") from error


def request_of(run: Run, unit: Unit, k: int | None = None) -> Request:
    """Ask for a unit right after what it did last; asking again asks for the same."""
    ts = unit.history[-1].ts + 1 if unit.history else unit.ts or 0
    identity = request_identity(ts, f"{run.run}|{unit.unit}|{ts}")
    return Request(identity, unit.unit, ts, k or run.k or SLATE, unit.history)


def columns(engine: Engine, lab: Lab, run: Run, unit: Unit, give: Load) -> list[Column]:
    """Let every arm of a run's experiment answer a unit, in the experiment's order."""
    experiment, _ = run.parsed()
    return [_column(engine, lab, run, unit, name, give) for name in experiment.arms]


def _column(engine: Engine, lab: Lab, run: Run, unit: Unit, name: str, give: Load) -> Column:
    with reading(engine) as connection:
        found = answering(connection, lab, run, name)
    if found is None:
        return Column(name, None, None, "has no version that can answer; a night, or a training, makes one")
    try:
        arm = new_arm(lab.arm(name)) if found.version is None else give(name, found.version)
        return Column(name, found, answer(engine, arm, found, request_of(run, unit)), None)
    except ArmliftError as error:
        return Column(name, found, None, str(error))


def answer(engine: Engine, arm: Arm, of: Answering, request: Request) -> Slate:
    """Let an arm answer with the prompts that are stored, as in service; raises ArmliftError if it cannot."""
    if "prompts" in arm.capabilities and of.version is not None:
        request = request._replace(prompts=stored_prompts(engine, arm, of.version, request) or None)
    try:
        return arm.recommend([request])[0]
    except ArmliftError:
        raise
    except Exception as error:
        raise ArmliftError(f"{of.arm} cannot answer: {_line(error)}") from error


def stored_prompts(engine: Engine, arm: Arm, version: str, request: Request) -> list[Prompt]:
    """Read the prompts a night stored for a unit, placed in its history of now."""
    with reading(engine) as connection:
        found = of_units(connection, arm.config.name, version, [request.unit])[request.unit]
    return placed(found, request.history, arm.config.history_kinds)


def last_prompts(slate: Slate) -> list[str]:
    """Give the items that a model said to the last behaviour it answered: what it expects next."""
    last = max((prompt.position for prompt in slate.prompts), default=-1)
    said = sorted((prompt for prompt in slate.prompts if prompt.position == last), key=lambda one: one.step)
    return list(dict.fromkeys(prompt.item for prompt in said))


def answered(prompt: Prompt, history: Sequence[Behaviour]) -> str:
    """Name the item that a prompt answers."""
    return history[prompt.position].item if 0 <= prompt.position < len(history) else ""


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
