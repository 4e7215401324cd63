"""The command that says why a unit gets its arm: explain."""

from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands import running
from armlift.commands.definitions import state_of
from armlift.commands.options import (
    DatabaseOption,
    JsonOption,
    LabOption,
    open_lab,
    say,
    write_json,
)
from armlift.days import utc_now

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.splitter import Step
    from armlift.started import RunningExperiment

app = typer.Typer()


@app.command()
def explain(
    unit: Annotated[str, typer.Argument(help="The unit's id.")],
    experiment: Annotated[str, typer.Argument(help="The experiment.")],
    phase: Annotated[
        int | None, typer.Option(min=0, help="Phase, from 0; default: the one it is in, of a draft the last.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="NAME=VALUE, for the audience.")
    ] = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a unit gets its arm: each rule's answer, in the order the rules are asked.

    An experiment that was started is explained as it runs now, with what the unit met; a draft as its file
    says.
    """
    from armlift.errors import InputError
    from armlift.splitter import explain as explain_rules

    opened = open_lab(lab, database)
    started = running.find_started(opened, experiment)
    found = opened.experiment(experiment) if started is None else started.experiment
    last = len(found.phases) - 1
    if phase is not None and phase > last:
        raise InputError(f"--phase {phase} is not a phase of {experiment}, must be 0 to {last}")
    given = dict(map(_attribute, attribute or []))
    if started is None:
        of: int | None = last if phase is None else phase
        steps = explain_rules(opened.split(found), of or 0, unit, given)
    else:
        of = started.phase_at(utc_now()) if phase is None else phase
        steps = _steps(opened, started, of, unit, given)
    if as_json:
        rules = [step._asdict() for step in steps]
        named = {"unit": unit, "experiment": experiment}
        write_json({**named, **state_of(found, started), "phase": of, "rules": rules})
        return
    if started is None:
        say(f"experiment {experiment}: a draft, as its file says, phase {of}")
    else:
        say(running.line_of(opened, started))
    for step in steps:
        print(f"{step.rule:>9}  {step.answer}")


def _steps(
    lab: "Lab", one: "RunningExperiment", phase: int | None, unit: str, given: dict[str, object]
) -> "list[Step]":
    """Explain a unit as serving does, by what the database knows of it; no phase: it has not begun."""
    from armlift.serving.live import BEFORE
    from armlift.serving.units import Units
    from armlift.splitter import Step
    from armlift.splitter import explain as explain_rules
    from armlift.store.database import open_database

    (known,) = Units(open_database(lab), limit=1).read([(one.run, unit)])
    split, attributes = one.split(lab), {**known.attributes, **given}
    steps = explain_rules(split, phase or 0, unit, attributes, stored=known.exposed.get(one.name))
    if phase is not None:
        return steps
    begins = Step("begins", f"{lab.calendar.show(one.starts[0])}, nobody meets the arms before")
    decision = Step("decision", f"{split.default_arm}, does not take part ({BEFORE})")
    return [begins, *steps[:-1], decision]


def _attribute(text: str) -> tuple[str, object]:
    from armlift.errors import InputError

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise InputError(f"--attribute {text!r} is not understood, must be NAME=VALUE")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, {"true": True, "false": False}.get(value.lower(), value)
