"""Commands on definitions: arm, experiment."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands import decisions, promotions, running
from armlift.commands.options import DatabaseOption, JsonOption, LabOption, open_lab, say, write_json

if TYPE_CHECKING:
    from armlift.experiment import Experiment
    from armlift.lab import Lab
    from armlift.splitter import Split
    from armlift.started import RunningExperiment

app = typer.Typer()
DRAFT = "draft"
"""The state of an experiment that was not started."""
arm = typer.Typer(help="Look at the lab's arms, and say which version of each serves.")
experiment = typer.Typer(help="Look at the lab's experiments, start, change and stop them.")
app.add_typer(arm, name="arm")
app.add_typer(experiment, name="experiment")
arm.add_typer(promotions.app)
experiment.add_typer(running.app)
experiment.add_typer(decisions.app)

Names = Annotated[list[str] | None, typer.Argument(help="Default: all of the lab.")]


@arm.command("check")
def check_arms(names: Names = None, lab: LabOption = None) -> None:
    """Check arm definitions; the first complaint names file, line, key, value and what is allowed."""
    opened = open_lab(lab)
    checked = [opened.arm(name) for name in names or opened.arm_names()]
    if not checked:
        say(f"{opened.folder}: has no arms to check")
    for config in checked:
        print(f"arm {config.name}: fine")


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
    """Check experiments against the lab's arms, metrics and layers; without names also nights and filters."""
    opened = open_lab(lab)
    checked = [_checked(opened, name) for name in names or opened.experiment_names()]
    files = [] if names else _checked_files(opened)
    if not checked:
        say(f"{opened.folder}: has no experiments to check")
    for found in checked:
        print(f"experiment {found.name}: fine ({', '.join(found.arms)}; control {found.control})")
        for doubt in doubts_of(found):
            say(f"experiment {found.name}: {doubt}")
    for file in files:
        print(f"{file}: fine")


def _checked_files(lab: "Lab") -> list[str]:
    """Check the files of nights and filters, and name those that are there."""
    from armlift.nightly import FILE as NIGHTLY
    from armlift.serving.filters import FILE as SERVING

    read = {NIGHTLY: lab.nightly, SERVING: lab.filters}
    return [file for file in read if (lab.folder / file).is_file()]


def _checked(lab: "Lab", name: str) -> "Experiment":
    found = lab.experiment(name)
    lab.check_parts(found)
    return found


def doubts_of(found: "Experiment") -> list[str]:
    """Say what is allowed in an experiment and yet hardly meant."""
    from armlift.splitter import generations

    weights = [weights for _, weights in generations(found)]
    idle = [arm for arm in found.arms if not any(one[arm] for one in weights)]
    doubts = [f"arm {arm} has weight 0 in every phase, no unit meets it" for arm in idle]
    if not any(phase.traffic for phase in found.phases):
        doubts.append("traffic is 0 in every phase, no unit takes part")
    return doubts


@experiment.command("list")
def list_experiments(
    lab: LabOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """List the lab's experiments, and whether they are drafts, running, paused or stopped."""
    opened = open_lab(lab, database)
    states = running.states(opened)
    found = [(opened.experiment(name), states.get(name, DRAFT)) for name in opened.experiment_names()]
    if as_json:
        listed = [{**one.model_dump(mode="json"), "state": state} for one, state in found]
        write_json({"experiments": listed})
        return
    for one, state in found:
        print(f"{one.name}  {state}  {' : '.join(one.arms)}  {one.description}".rstrip())


@experiment.command("show")
def show_experiment(
    name: Annotated[str, typer.Argument(help="The experiment.")],
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Its file, with the phases as they went.")] = False,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an experiment with its defaults filled in, and which units each phase gives to each arm.

    One that was started is shown as it is in the database, a draft as it is in its file.
    """
    opened = open_lab(lab, database)
    started = running.find_started(opened, name)
    found = opened.experiment(name) if started is None else started.experiment
    if as_yaml:
        print(_yaml(found), end="")
        return
    phases = _phases(opened, found)
    if as_json:
        definition = {"experiment": found.model_dump(mode="json"), "phases": phases}
        write_json({**definition, **state_of(found, started)})
        return
    lines = [line for phase in phases for line in _phase_lines(phase)]
    print("\n".join([*_facts(found, started), *lines]))


def state_of(found: "Experiment", started: "RunningExperiment | None") -> dict[str, Any]:
    """Tell what an experiment's state is; a started one's hash is that of the file it was started from."""
    if started is None:
        return {"hash": found.content_hash, "state": DRAFT, "version": None, "run": None}
    return {
        "hash": started.hash,
        "state": started.state,
        "version": started.version,
        "run": started.run,
    }


def _yaml(found: "Experiment") -> str:
    """Write an experiment as a file that says the same; what has its default is left out."""
    import yaml

    said = found.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def _phases(lab: "Lab", found: "Experiment") -> list[dict[str, Any]]:
    """Give each phase's generation and, by arm, the share of eligible units with its range of draws.

    A range is [from, to) of the 2^64 draws as two texts, since JSON's readers often round whole numbers; an
    arm that no unit meets has none.
    """
    from armlift.splitter import generations

    split = lab.split(found)
    phases = []
    for index, (phase, (generation, _)) in enumerate(zip(found.phases, generations(found), strict=True)):
        start = lab.calendar.show(lab.calendar.parse(phase.start)) if phase.start is not None else None
        given = _ranges(split, index)
        arms = {
            arm: {
                "share": (given[arm][1] - given[arm][0]) / 2**64 if arm in given else 0.0,
                "range": list(map(str, given[arm])) if arm in given else None,
            }
            for arm in found.arms
        }
        phases.append(
            {"phase": index, "start": start, "traffic": phase.traffic, "generation": generation, "arms": arms}
        )
    return phases


def _ranges(split: "Split", phase: int) -> dict[str, tuple[int, int]]:
    """Give each arm's range of draws in a phase; an arm without one is left out."""
    here = split.phases[phase]
    edges = [0, *here.bounds, 2**64]
    sides = zip(here.outcomes, edges, edges[1:], strict=False)
    return {outcome.arm: (low, high) for outcome, low, high in sides if outcome.exposed}


def _facts(found: "Experiment", started: "RunningExperiment | None") -> list[str]:
    low, high = found.layer.slice
    told = state_of(found, started)
    version = "" if started is None else f", version {started.version}, run {started.run}"
    rows = {
        "state": f"{told['state']}{version}",
        "hash": told["hash"],
        "control": found.control,
        "layer": f"{found.layer.name}, slice [{low:g}, {high:g})",
        "audience": found.audience or "everybody",
        "forced": ", ".join(f"{unit} to {arm}" for unit, arm in found.forced.items()) or "nobody",
        **{role: ", ".join(getattr(found.metrics, role)) for role in ("primary", "secondary", "guardrails")},
        "training": found.training_data,
        "analysis": f"alpha {found.analysis.alpha:g}, at least {found.analysis.minimum_units} units an arm",
    }
    return [f"{found.name}  {found.description}".rstrip(), *(f"  {key:<11} {rows[key]}" for key in rows)]


def _phase_lines(phase: dict[str, Any]) -> list[str]:
    start = f"from {phase['start']}" if phase["start"] else "from the beginning"
    about = f"{start}, generation {phase['generation']}, traffic {phase['traffic']:g}"
    lines = [f"  {'phase ' + str(phase['phase']):<11} {about}"]
    for arm, given in phase["arms"].items():
        bounds = f"draws [{', '.join(given['range'])})" if given["range"] else "no draws"
        lines.append(f"    {arm:<20} {given['share']:8.4%}  {bounds}")
    return lines
