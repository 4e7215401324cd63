"""Commands on definitions: arm, experiment, explain."""

from typing import Annotated

import typer

from armlift.commands.options import JsonOption, LabOption, open_lab, write_json

app = typer.Typer()
arm = typer.Typer(help="Look at the lab's arms.")
experiment = typer.Typer(help="Look at the lab's experiments.")
app.add_typer(arm, name="arm")
app.add_typer(experiment, name="experiment")

Names = Annotated[list[str] | None, typer.Argument(help="Default: all of the lab.")]


@arm.command("check")
def check_arms(names: Names = None, lab: LabOption = None) -> None:
    """Check arm definitions; the first complaint names file, line, key, value and what is allowed."""
    opened = open_lab(lab)
    for name in names or opened.arm_names():
        opened.arm(name)
        print(f"arm {name}: fine")


@arm.command("list")
def list_arms(lab: LabOption = None, as_json: JsonOption = False) -> None:
    """List the lab's arms and their models."""
    opened = open_lab(lab)
    configs = [opened.arm(name) for name in opened.arm_names()]
    if as_json:
        write_json({"arms": [config.model_dump(mode="json") for config in configs]})
        return
    for config in configs:
        print(f"{config.name}  ({config.model})  {config.description}")


@experiment.command("check")
def check_experiments(names: Names = None, lab: LabOption = None) -> None:
    """Check experiments against the lab's arms, metrics and layers."""
    opened = open_lab(lab)
    for name in names or opened.experiment_names():
        found = opened.experiment(name)
        for arm_name in found.arms:
            opened.arm(arm_name)
        print(f"experiment {name}: fine ({', '.join(found.arms)}; control {found.control})")


@experiment.command("list")
def list_experiments(lab: LabOption = None, as_json: JsonOption = False) -> None:
    """List the lab's experiments."""
    opened = open_lab(lab)
    found = [opened.experiment(name) for name in opened.experiment_names()]
    if as_json:
        write_json({"experiments": [one.model_dump(mode="json") for one in found]})
        return
    for one in found:
        print(f"{one.name}  {' : '.join(one.arms)}  {one.description}")


@app.command()
def explain(
    unit: Annotated[str, typer.Argument(help="The unit's id.")],
    experiment: Annotated[str, typer.Argument(help="The experiment.")],
    phase: Annotated[int | None, typer.Option(min=0, help="Phase, from 0; default: the last.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="NAME=VALUE, for the audience.")
    ] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a unit gets its arm: each rule's answer, in the order the rules are asked."""
    from armlift.errors import InputError
    from armlift.splitter import explain as explain_rules

    opened = open_lab(lab)
    found = opened.experiment(experiment)
    last = len(found.phases) - 1
    if phase is not None and phase > last:
        raise InputError(f"--phase {phase} is not a phase of {experiment}, must be 0 to {last}")
    steps = explain_rules(
        opened.split(found), last if phase is None else phase, unit, dict(map(_attribute, attribute or []))
    )
    if as_json:
        write_json({"unit": unit, "experiment": experiment, "rules": [step._asdict() for step in steps]})
        return
    for step in steps:
        print(f"{step.rule:>9}  {step.answer}")


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
