"""Commands that fit arms and measure them offline: train, evaluate."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    open_lab,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar, training_progress

if TYPE_CHECKING:
    from armlift.arm import Arm, ArmConfig
    from armlift.evaluation import Difference, Evaluation
    from armlift.heldout import HeldOut
    from armlift.lab import Lab
    from armlift.sequences import SequenceSource
    from armlift.timesplit import LogSource

app = typer.Typer()

SEQUENCES_HELP = "A file of sequences, `user item item …` a line, in time order."
KindOption = Annotated[
    str | None,
    typer.Option("--kind", help="What the sequences are; default: the first of the arm's history_kinds."),
]


class Split(StrEnum):
    """Which item of each sequence is asked for: the last, or the one before, for tuning."""

    test = "test"
    valid = "valid"


@app.command()
def train(
    arm: Annotated[str, typer.Argument(help="The arm's name.")],
    log: Annotated[
        list[Path] | None, typer.Option("--log", help="A log file; give the option again for more.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="A time or day; earlier rows train.")] = None,
    sequences: Annotated[
        Path | None, typer.Option("--sequences", help=f"{SEQUENCES_HELP} The last item of each is left out.")
    ] = None,
    kind: KindOption = None,
    warm: Annotated[
        str | None,
        typer.Option("--warm", metavar="VERSION", help="Go on from the weights of this artefact of the arm."),
    ] = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit an arm on a log's earlier rows or on sequences, and store it as an artefact.

    Broken off and started again, it goes on from its last checkpoint. Under torchrun it uses all processes.
    """
    from armlift import processes
    from armlift.errors import InputError

    if sequences is not None and (log or until is not None):
        raise InputError(f"--sequences {sequences}: must stand without --log and --until")
    if sequences is None and not (log and until is not None):
        raise InputError("train must have either --log FILE with --until TIME, or --sequences FILE")
    if sequences is None and kind is not None:
        raise InputError(f"--kind {kind}: must stand with --sequences")
    opened = open_lab(lab, database)
    config = opened.arm(arm)
    if sequences is not None:
        done = _train_on_sequences(opened, config, sequences, kind, warm)
    else:
        assert log
        assert until is not None
        done = _train_on_log(opened, config, log, until, warm)
    if not processes.is_first():
        return
    folder = f"{opened.resolve(opened.settings.artefact_url)}/{arm}/{done['version']}"
    if as_json:
        shown = {key: value for key, value in done.items() if key != "said"}
        write_json({"arm": arm, **shown, "parent": warm, "artefact": folder})
    else:
        start = f" from {warm} on," if warm is not None else ""
        print(f"{arm} {done['version']}: trained{start} {done['said']}, stored in {folder}")


def _train_on_log(
    lab: "Lab", config: "ArmConfig", log: list[Path], until: str, warm: str | None
) -> dict[str, Any]:
    """Fit an arm on the rows of a log before `until`."""
    from armlift.errors import InputError
    from armlift.logs.reader import open_log
    from armlift.store.database import open_database
    from armlift.training import Trainer

    try:
        cut = lab.calendar.parse(until)
    except InputError as error:
        raise InputError(f"--until: {error}") from error
    rows = open_log(log)
    if cut <= rows.summary.first_ts:
        first = lab.calendar.show(rows.summary.first_ts)
        raise InputError(f"--until {until}: no row of the log is earlier, must be after {first}")
    trainer = Trainer(lab, open_database(lab, create=True), rows, cut, watch=training_progress)
    try:
        version = trainer.arm(config, warm=warm).version
    finally:
        trainer.close()
    return {"version": version, "data_until": cut, "said": f"until {lab.calendar.show(cut)}"}


def _train_on_sequences(
    lab: "Lab", config: "ArmConfig", path: Path, kind: str | None, warm: str | None
) -> dict[str, Any]:
    """Fit an arm on all but the last item of each sequence, as `evaluate` does for its test."""
    from armlift.fitted import FittedArms
    from armlift.sequences import SplitData, read_sequences
    from armlift.store.database import open_database

    kind = _kind_of(config, kind)
    data = SplitData(read_sequences(path), "test", kind)
    fitted = FittedArms(lab, open_database(lab, create=True), watch=training_progress)
    version = fitted.arm(config, data, warm=warm).version
    said = f"on all but the last item of {len(data.sequences.units):,} sequences"
    return {"version": version, "data_until": data.until, "said": said}


@app.command()
def evaluate(
    arms: Annotated[
        list[str], typer.Argument(metavar="ARM...", help="The arms' names; the first is the control.")
    ],
    sequences: Annotated[Path | None, typer.Option("--sequences", help=SEQUENCES_HELP)] = None,
    split: Annotated[
        Split, typer.Option(help="Rank each unit's last item, or the one before, for tuning.")
    ] = Split.test,
    study: Annotated[
        str | None,
        typer.Option("--study", help="Answer an open question about the arm, with the seeds 0, 1, 2."),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option("--log", help="A log file; give the option again for more."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="A time or day; the log's earlier rows train.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option("--users", help="With --study: attributes of users, CSV with user_id.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="A column of --users whose groups are told apart; again for more."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="With --study: write tables and plots as a page.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=MAX_SEED, help="Instead of the arms' own; give the option again for more."),
    ] = None,
    kind: KindOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit arms on sequences or a log and rank each unit's held-out item against the whole catalogue."""
    from armlift.commands.studies import Given, open_source
    from armlift.commands.studies import run as run_study
    from armlift.errors import InputError
    from armlift.evaluation import paired_difference

    opened = open_lab(lab, database)
    configs = [opened.arm(name) for name in dict.fromkeys(arms)]
    of_kind = "" if sequences is None else _kind_of(configs[0], kind)
    given = Given(sequences, split.value, of_kind, log or [], until, users, by or [], html, as_json)
    if study is not None:
        if len(configs) > 1:
            raise InputError(f"--study {study}: must be of one arm, is of {', '.join(dict.fromkeys(arms))}")
        run_study(opened, configs[0], study, seed or [], given)
        return
    if users or by or html:
        raise InputError("evaluate: --users, --by and --html must stand with --study")
    with open_source(opened, given) as source:
        data = [_held_out(source, config, configs[0], kind) for config in configs]
        rounds = _evaluated(opened, configs, data, seed)
    evaluations = [one for found in rounds for one in found]
    differences = [paired_difference(one, found[0]) for found in rounds for one in found[1:]]
    if as_json and len(evaluations) == 1:
        write_json(_evaluation_document(evaluations[0]))
    elif as_json:
        write_json(
            {
                "evaluations": list(map(_evaluation_document, evaluations)),
                "differences": list(map(_difference_document, differences)),
            }
        )
    else:
        _print(evaluations, differences)


def _evaluated(
    lab: "Lab",
    configs: "list[ArmConfig]",
    held_out: "list[HeldOut]",
    seeds: list[int] | None,
) -> "list[list[Evaluation]]":
    """Evaluate every arm with every seed: a list a seed, in the order of the arms."""
    from armlift.evaluation import evaluate as evaluate_arm
    from armlift.fitted import FittedArms
    from armlift.store.database import open_database

    fitted = FittedArms(lab, open_database(lab, create=True), watch=training_progress)
    found: list[list[Evaluation]] = []
    for seed in dict.fromkeys(seeds) if seeds else (None,):
        row: list[Evaluation] = []
        for config, data in zip(configs, held_out, strict=True):
            seeded = config if seed is None else config.model_copy(update={"seed": seed})
            arm: Arm | None = fitted.known(seeded, data.data_hash)
            if arm is None:
                say(f"training {config.name}, seed {seeded.seed}")
                arm = fitted.fit(seeded, data)
            with progress_bar(f"evaluating {config.name}") as tell:
                row.append(evaluate_arm(arm, data, progress=tell))
        found.append(row)
    return found


def _held_out(
    source: "SequenceSource | LogSource", config: "ArmConfig", control: "ArmConfig", kind: str | None
) -> "HeldOut":
    """Give what an arm is fitted on and asked for; on a log all are asked for the control's kinds."""
    from armlift.errors import InputError
    from armlift.sequences import SequenceSource, SplitData

    if isinstance(source, SequenceSource):
        return SplitData(source.sequences, source.split, _kind_of(config, kind))
    if kind is not None:
        raise InputError(f"--kind {kind}: must stand with --sequences")
    found = source.data(control.history_kinds)
    if found is None:
        wanted, told = ", ".join(control.history_kinds), ", ".join(sorted(source.kinds))
        raise InputError(f"the log tells of {told}, must tell of a history_kind of {control.name}: {wanted}")
    return found


def _kind_of(config: "ArmConfig", given: str | None) -> str:
    """Say what kind of feedback the sequences are to an arm; raises InputError if it is not of its kinds."""
    from armlift.errors import InputError

    if given is not None and given not in config.history_kinds:
        raise InputError(
            f"--kind {given}: must be one of the history_kinds of arm {config.name}: "
            f"{', '.join(config.history_kinds)}"
        )
    return given or config.history_kinds[0]


def _evaluation_document(one: "Evaluation") -> dict[str, Any]:
    return {
        "arm": one.arm,
        "version": one.version,
        "seed": one.seed,
        "split": one.split,
        "users": len(one.units),
        "skipped": one.skipped,
        "repeats": one.repeats,
        "items": one.items,
        "recall": list(one.recall),
        "metrics": one.metrics,
        "intervals": {name: [interval.low, interval.high] for name, interval in one.intervals.items()},
    }


def _difference_document(one: "Difference") -> dict[str, Any]:
    return {
        "arm": one.arm,
        "version": one.version,
        "control": one.control,
        "control_version": one.control_version,
        "metrics": {name: interval.value for name, interval in one.intervals.items()},
        "intervals": {name: [interval.low, interval.high] for name, interval in one.intervals.items()},
    }


def _print(evaluations: "Sequence[Evaluation]", differences: "Sequence[Difference]") -> None:
    """Write tables for people; each line fits 80 columns."""
    first = evaluations[0]
    print(
        f"{first.split}: {len(first.units):,} users, {first.items:,} items, whole catalogue ranked; "
        f"{first.skipped:,} skipped"
    )
    for one in evaluations:
        print(f"\n{one.arm} {one.version}, seed {one.seed}, recall {list(one.recall)}")
        for name, interval in one.intervals.items():
            print(f"  {name:<12}{interval.value:>9.4f}   [{interval.low:.4f}, {interval.high:.4f}]")
        print(f"  {'coverage@10':<12}{one.coverage:>9.4f}")
        print(f"  {'novelty@10':<12}{one.novelty:>9.2f}   bits")
    for difference in differences:
        print(f"\n{difference.arm} {difference.version} - {difference.control} {difference.control_version}")
        for name, interval in difference.intervals.items():
            print(f"  {name:<12}{interval.value:>+9.4f}   [{interval.low:+.4f}, {interval.high:+.4f}]")
