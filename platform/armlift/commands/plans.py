"""Commands that plan an experiment and check its statistics on its own data: power, aa."""

from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    open_lab,
    stored_run,
    write_json,
)
from armlift.commands.progress import progress_bar

if TYPE_CHECKING:
    from armlift.experiment import Experiment
    from armlift.lab import Lab
    from armlift.planning import Aim, Baseline

app = typer.Typer()

ExperimentArgument = Annotated[str, typer.Argument(help="The experiment's name.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Default: the newest.")]
LOOK_AHEAD = 365


@app.command()
def power(
    experiment: ExperimentArgument,
    lift: Annotated[
        float | None,
        typer.Option("--lift", help="A fraction; default: the plan's smallest_lift, or 0.02."),
    ] = None,
    asked: Annotated[float, typer.Option("--power", help="The chance to find that lift.")] = 0.8,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=LOOK_AHEAD, help="Also look so many days ahead.")
    ] = None,
    run: RunOption = None,
    mean: Annotated[float | None, typer.Option("--mean", help="Without a run: the metric's mean.")] = None,
    sd: Annotated[
        float | None, typer.Option("--sd", help="With --mean: a unit's standard deviation.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Without a run: the share of units, of a proportion.")
    ] = None,
    units_per_day: Annotated[
        float | None, typer.Option("--units-per-day", help="With numbers: new units of all arms a day.")
    ] = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which lift a run can detect, and how many units and days another one takes.

    Without a run it plans from numbers: --mean and --sd, or --rate.
    """
    from armlift.errors import InputError

    opened = open_lab(lab, database)
    baseline = _baseline(mean, sd, rate, units_per_day, days)
    if lift is not None and not 0.0 < lift < 10.0:
        raise InputError(f"--lift {lift:g}: must be above 0 and below 10")
    if baseline is None:
        _plan_run(opened, experiment, run, lift, asked, days, as_json=as_json)
        return
    if run is not None:
        raise InputError(f"--run {run}: must stand without --mean, --sd, --rate and --units-per-day")
    _plan_given(opened.experiment(experiment), baseline, lift, asked, days, as_json=as_json)


@app.command()
def aa(
    experiment: ExperimentArgument,
    splits: Annotated[
        int, typer.Option("--splits", min=20, max=1_000_000, help="How often units are split afresh.")
    ] = 500,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only this metric; give the option again for more."),
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Units of all arms, not the control's.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the splits' salts.")] = 0,
    run: RunOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Split the units of one arm afresh, many times, and test whether p-values are what they say."""
    from armlift.aa import LEVEL, check, share_of
    from armlift.aggregates import UnitTotals
    from armlift.complaints import choices
    from armlift.errors import InputError
    from armlift.rendering.aa_text import text_of
    from armlift.rendering.words import SYNTHETIC
    from armlift.report import question_of, time_of_report
    from armlift.store.database import open_database

    opened = open_lab(lab, database)
    engine = open_database(opened)
    found = stored_run(opened, engine, experiment, run)
    definition, metrics = found.parsed()
    for name in metric or ():
        if name not in metrics:
            raise InputError(f"--metric {name!r}: {choices(name, metrics)}")
    if everybody and found.paired:
        raise InputError("--all: must not stand with a paired run, where every unit meets every arm")
    question = question_of(found, opened.calendar, time_of_report(found, None))
    names = list(dict.fromkeys(metric)) if metric else list(definition.metrics.roles)
    with engine.connect() as connection, progress_bar(f"splitting {experiment}") as tell:
        totals = UnitTotals(connection, question, metrics)
        checked = check(
            found, definition, metrics, totals, asked=names, splits=splits, seed=seed, everybody=everybody,
            tell=tell,
        )  # fmt: skip
    share, whose = share_of(definition), "all arms" if everybody else definition.control
    if as_json:
        document: dict[str, Any] = {
            "experiment": experiment,
            "run": found.run,
            "units_of": whose,
            "share": share,
        }
        document |= {"synthetic": found.synthetic, "splits": splits, "seed": seed, "level": LEVEL}
        document["sound"] = all(one.verdict in ("sound", "no_data") for one in checked)
        write_json(document | {"metrics": [one.as_dict() for one in checked]})
        return
    print(f"{experiment}, run {found.run}: units of {whose}, split {splits:,} times")
    if found.synthetic:
        print(SYNTHETIC)
    print(f"{share:.0%} : {1 - share:.0%}, seed {seed}; sound metrics are flagged in {LEVEL:.0%} of checks\n")
    for line in text_of(checked, definition.analysis.alpha):
        print(line)


def _baseline(
    mean: float | None, sd: float | None, rate: float | None, units_per_day: float | None, days: int | None
) -> "Baseline | None":
    """Read the numbers of a plan without a run; None where none is given."""
    from armlift.errors import InputError
    from armlift.planning import Baseline

    if units_per_day is not None and not 0.0 < units_per_day < inf:
        raise InputError(f"--units-per-day {units_per_day:g}: must be above 0")
    if rate is not None:
        if mean is not None or sd is not None:
            raise InputError("--rate: must stand without --mean and --sd")
        if not 0.0 < rate < 1.0:
            raise InputError(f"--rate {rate:g}: must be above 0 and below 1")
        found = Baseline.of_rate(rate, units_per_day)
    elif mean is not None and sd is not None:
        for option, value in (("--mean", mean), ("--sd", sd)):
            if not 0.0 < value < inf:
                raise InputError(f"{option} {value:g}: must be above 0")
        found = Baseline(mean, sd, units_per_day=units_per_day)
    elif mean is None and sd is None and units_per_day is None:
        return None
    else:
        raise InputError("a plan from numbers must have --mean with --sd, or --rate")
    if days is not None and units_per_day is None:
        raise InputError(f"--days {days}: must stand with --units-per-day, or with a run")
    return found


def _aim(experiment: "Experiment", lift: float | None, power: float, days: int | None) -> "Aim":
    from armlift.errors import InputError
    from armlift.planning import LIFT, Aim

    alpha = experiment.analysis.alpha
    if not alpha < power < 1.0:
        raise InputError(f"--power {power:g}: must be above alpha, {alpha:g}, and below 1")
    return Aim(lift or experiment.analysis.smallest_lift or LIFT, power, days)


def _plan_run(
    lab: "Lab", name: str, run: str | None, lift: float | None, power: float, days: int | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Plan from a run's own figures."""
    from armlift.answers import Answers
    from armlift.errors import InputError
    from armlift.outlooks import plan_from
    from armlift.rendering.plan_text import text_of
    from armlift.rendering.words import SYNTHETIC
    from armlift.report import question_of, time_of_report
    from armlift.store.database import open_database

    try:
        engine = open_database(lab)
        found = stored_run(lab, engine, name, run)
    except InputError as error:
        if run is not None:
            raise
        lab.experiment(name)  # where the name is wrong, that is what is said
        raise InputError(f"{error}, or give numbers: --mean and --sd, or --rate") from error
    experiment, metrics = found.parsed()
    aim = _aim(experiment, lift, power, days)
    at = time_of_report(found, None)
    question = question_of(found, lab.calendar, at)
    with engine.connect() as connection:
        totals = Answers.from_database(connection, question, metrics)
        planned = plan_from(found, lab.calendar, at, totals, aim)
    plans, arrivals = planned.plans, planned.arrivals
    alpha, shown = experiment.analysis.alpha, lab.calendar.show(at)
    if as_json:
        document: dict[str, Any] = {"experiment": name, "run": found.run, "mode": found.mode, "as_of": shown}
        document |= {"synthetic": found.synthetic, "alpha": alpha, "power": power, "days": days}
        document |= {"arrivals": arrivals, "plans": [one.as_dict() for one in plans]}
        write_json(document)
        return
    print(f"{name}, run {found.run}: {found.mode}, as of {shown}")
    if found.synthetic:
        print(SYNTHETIC)
    told = f"{sum(arrivals):,} units came in {len(arrivals)} complete days"
    for line in text_of(plans, aim, alpha, told):
        print(line)


def _plan_given(
    experiment: "Experiment", baseline: "Baseline", lift: float | None, power: float, days: int | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Plan from numbers alone."""
    from armlift.planning import plan_given
    from armlift.rendering.plan_text import text_of

    aim = _aim(experiment, lift, power, days)
    plans = plan_given(experiment, baseline, aim)
    alpha = experiment.analysis.alpha
    if as_json:
        document: dict[str, Any] = {"experiment": experiment.name, "run": None, "mode": None, "as_of": None}
        document |= {"synthetic": None, "alpha": alpha, "power": power, "days": days}
        write_json(document | {"arrivals": [], "plans": [one.as_dict() for one in plans]})
        return
    print(f"{experiment.name}, planned from numbers: mean {baseline.mean:g}, sd {baseline.deviation:.4g}")
    per_day = baseline.units_per_day
    told = "arrivals are not known" if per_day is None else f"{per_day:,.10g} new units a day"
    for line in text_of(plans, aim, alpha, told):
        print(line)
