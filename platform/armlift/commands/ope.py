"""The command that values a policy from the log of another one: ope."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import DatabaseOption, JsonOption, LabOption, open_lab, write_json
from armlift.commands.progress import training_progress

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.logs.reader import Log
    from armlift.offpolicy.logged_rows import LoggedRows
    from armlift.offpolicy.policies import Policy

app = typer.Typer()

UNIFORM = "uniform"


class Unit(StrEnum):
    """What stands for a unit in Open Bandit files, which name no user."""

    features = "features"
    row = "row"


@app.command()
def ope(
    log: Annotated[
        list[Path],
        typer.Argument(metavar="LOG...", help="Open Bandit files, CSV with propensities, or KuaiRand logs."),
    ],
    policy: Annotated[
        str,
        typer.Option("--policy", help="uniform, a file (the policy its propensities tell), or an arm."),
    ],
    reward: Annotated[
        str | None,
        typer.Option("--reward", help="A feedback kind, or a CSV's column; default: click, or reward."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="An estimator; again for more; default: all.")
    ] = None,
    clip: Annotated[float | None, typer.Option("--clip", help="The largest weight a row has.")] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="Intervals hold 1 - alpha.")] = 0.05,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="A CSV's column under another name, such as unit=user_id."),
    ] = None,
    unit: Annotated[Unit, typer.Option(help="What Open Bandit files have for a unit.")] = Unit.features,
    pool: Annotated[
        int | None, typer.Option(min=1, help="KuaiRand: videos that random exposure draws from.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="KuaiRand: a time or day; an arm is fitted on the rows before it."),
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Items an arm's slate has.")] = 10,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Value a policy from the log of another one: what it would have earned, and whether to believe it."""
    from armlift.errors import InputError
    from armlift.offpolicy.assessment import METHODS, assess
    from armlift.offpolicy.readers import is_video_log
    from armlift.rendering.ope_text import text_of
    from armlift.stats.results import check_share

    check_share("--alpha", alpha)
    if clip is not None and not clip > 0.0:
        raise InputError(f"--clip {clip:g}: must be above 0")
    own: LoggedRows | None = None
    if is_video_log(log):
        if column:
            raise InputError(f"--column {column[0]}: a KuaiRand log has columns of its own")
        rows, valued = _of_videos(log, policy, reward or "click", pool, until, k, lab, database)
    else:
        if pool is not None or until is not None:
            raise InputError("--pool and --until must stand with a KuaiRand log")
        rows, valued, own = _of_rows(log, policy, reward, _columns(column or []), unit)
    found = assess(rows, valued, own=own, methods=method or METHODS, clip=clip, alpha=alpha)
    if as_json:
        write_json(found.as_dict())
        return
    for line in text_of(found):
        print(line)


def _columns(given: list[str]) -> dict[str, str]:
    from armlift.errors import InputError

    names: dict[str, str] = {}
    for one in given:
        name, equals, column = one.partition("=")
        if not equals or not column:
            raise InputError(f"--column {one}: must be NAME=COLUMN, such as unit=user_id")
        names[name] = column
    return names


def _of_rows(
    log: list[Path], policy: str, reward: str | None, columns: dict[str, str], unit: Unit
) -> "tuple[LoggedRows, Policy, LoggedRows | None]":
    """Read rows with propensities, and the policy: uniform, or told by a file, with that file's rows."""
    from armlift.errors import InputError
    from armlift.offpolicy.policies import told_by, uniform
    from armlift.offpolicy.readers import read_rows

    if policy != UNIFORM and not Path(policy).exists():
        raise InputError(f"--policy {policy}: must be {UNIFORM} or a file; an arm needs a KuaiRand log")
    rows = read_rows(log, reward=reward, columns=columns, unit=unit.value)
    if policy == UNIFORM:
        return rows, uniform(rows), None
    other = read_rows([Path(policy)], reward=reward, columns=columns, unit=unit.value)
    table, rows = told_by(other, rows, policy)
    return rows, table, other


def _of_videos(
    log: list[Path],
    policy: str,
    kind: str,
    pool: int | None,
    until: str | None,
    k: int,
    lab: Path | None,
    database: str | None,
) -> "tuple[LoggedRows, Policy]":
    """Take a KuaiRand log's random rows, and the policy: uniform, or an arm fitted before a cut."""
    from armlift.errors import InputError
    from armlift.logs.reader import open_log
    from armlift.offpolicy.policies import uniform
    from armlift.offpolicy.random_exposure import random_rows

    if policy == UNIFORM and until is None:
        rows = random_rows(open_log(log), kind, pool=pool)
        return rows, uniform(rows)
    if policy != UNIFORM and Path(policy).is_file():
        raise InputError(f"--policy {policy}: on a KuaiRand log it must be {UNIFORM} or an arm of the lab")
    opened = open_lab(lab, database)
    opened_log = open_log(log)
    start = _cut(opened, opened_log, until)
    if policy == UNIFORM:
        rows = random_rows(opened_log, kind, start=start, pool=pool)
        return rows, uniform(rows)
    return _of_arm(opened, opened_log, policy, kind, pool, start, k)


def _of_arm(
    lab: "Lab", log: "Log", name: str, kind: str, pool: int | None, start: int, k: int
) -> "tuple[LoggedRows, Policy]":
    from armlift.offpolicy.random_exposure import Settings, rows_and_slates
    from armlift.store.database import open_database
    from armlift.training import Trainer

    config = lab.arm(name)
    trainer = Trainer(lab, open_database(lab, create=True), log, start, watch=training_progress)
    try:
        arm = trainer.arm(config)
    finally:
        trainer.close()
    settings = Settings(k=k, history_limit=lab.settings.history_limit, start=start)
    return rows_and_slates(log, kind, arm, settings, pool=pool)


def _cut(lab: "Lab", log: "Log", until: str | None) -> int:
    """Give the cut, by default that of replays."""
    from armlift.errors import InputError
    from armlift.replay import default_cut

    if until is None:
        return default_cut(log, lab)
    try:
        cut = lab.calendar.parse(until)
    except InputError as error:
        raise InputError(f"--until: {error}") from error
    if cut > log.summary.last_ts:
        raise InputError(
            f"--until {until}: is after the log's last row, {lab.calendar.show(log.summary.last_ts)}"
        )
    return cut
