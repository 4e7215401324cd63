"""Files of rows with propensities: Open Bandit, and CSV with columns of one's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from armlift.errors import InputError
from armlift.logs.csvfile import read_frames, read_header
from armlift.logs.kuairand import FORMAT
from armlift.offpolicy.logged_rows import (
    ITEM,
    POSITION,
    PROPENSITY,
    REQUEST,
    REWARD,
    UNIT,
    LoggedRows,
    rows_of,
)

UnitOf = Literal["features", "row"]
OPEN_BANDIT = ("item_id", "position", "click", "propensity_score")
FEATURES = tuple(f"user_feature_{number}" for number in range(4))
NEEDED = (UNIT, ITEM, POSITION, REWARD, PROPENSITY)
_NUMBERS: Mapping[str, pl.DataType] = {
    POSITION: pl.Int64(), REWARD: pl.Float64(), PROPENSITY: pl.Float64()
}  # fmt: skip


def is_video_log(paths: Sequence[Path]) -> bool:
    """Tell whether files are a KuaiRand-form log of impressions, which has no propensities of its own."""
    header = set(read_header(paths[0]))
    return bool(header & FORMAT.marks) and set(FORMAT.required) <= header


def read_rows(
    paths: Sequence[Path],
    *,
    reward: str | None = None,
    columns: Mapping[str, str] | None = None,
    unit: UnitOf = "features",
) -> LoggedRows:
    """Read the rows of files of one kind: Open Bandit by its header, else CSV with the columns NEEDED.

    `reward` names the column of rewards (Open Bandit: `click` alone), `columns` maps others of NEEDED and
    `request` to the file's. Open Bandit names no users: `unit` says that all rows with the same four user
    features are one unit, or that each row is. Raises InputError for a file that is neither.
    """
    header = read_header(paths[0])
    if set(OPEN_BANDIT) <= set(header) and not columns:
        if reward not in (None, "click"):
            raise InputError(f"--reward {reward}: an Open Bandit file tells of click alone")
        return _open_bandit(paths, unit)
    names = {name: name for name in (*NEEDED, REQUEST)} | dict(columns or {})
    if reward is not None:
        names[REWARD] = reward
    if REQUEST not in (columns or {}) and REQUEST not in header:
        del names[REQUEST]
    _check_columns(paths[0], header, names)
    types = {names[name]: dtype for name, dtype in _NUMBERS.items()}
    frame = _read(paths, types, [pl.col(column).alias(name) for name, column in names.items()])
    return rows_of(frame, "CSV", f"column {names[UNIT]}")


def _check_columns(path: Path, header: Sequence[str], names: Mapping[str, str]) -> None:
    if unknown := sorted(names.keys() - {*NEEDED, REQUEST}):
        raise InputError(
            f"--column {unknown[0]}: is no column of rows with propensities, must be one of "
            f"{', '.join((*NEEDED, REQUEST))}"
        )
    for name, column in names.items():
        if column not in header:
            raise InputError(
                f"{path}: line 1: column {column} is missing, must be an Open Bandit file, a KuaiRand log, "
                f"or have a column for each of {', '.join(NEEDED)} (--column {name}=COLUMN)"
            )


def _open_bandit(paths: Sequence[Path], unit: UnitOf) -> LoggedRows:
    """Read Open Bandit files (Saito et al. 2021): one row an impression, with its propensity.

    The four user features are hashes of a user's attributes. They name no user, but all rows of a user lie
    within one combination of them, so that clusters of combinations hold whatever hangs together in a user.
    """
    header = set(read_header(paths[0]))
    if missing := [name for name in FEATURES if name not in header and unit == "features"]:
        raise InputError(f"{paths[0]}: line 1: column {missing[0]} is missing; --unit row does without")
    types: dict[str, pl.DataType] = {
        "position": pl.Int64(), "click": pl.Float64(), "propensity_score": pl.Float64()
    }  # fmt: skip
    whose = (
        pl.concat_str(FEATURES, separator="|")
        if unit == "features"
        else pl.int_range(pl.len()).cast(pl.String)
    )
    wanted = [
        whose.alias(UNIT),
        pl.col("item_id").alias(ITEM),
        pl.col("position").alias(POSITION),
        pl.col("click").alias(REWARD),
        pl.col("propensity_score").alias(PROPENSITY),
    ]
    said = "combinations of user features" if unit == "features" else "rows"
    return rows_of(_read(paths, types, wanted), "Open Bandit", said)


def _read(paths: Sequence[Path], types: Mapping[str, pl.DataType], wanted: Sequence[pl.Expr]) -> pl.DataFrame:
    """Read columns of all files, numbers by `types`; raises InputError where there is no row."""
    parts: list[pl.DataFrame] = []
    needed = sorted({name for one in wanted for name in one.meta.root_names()})
    for path in paths:
        header = read_header(path)
        if missing := [name for name in needed if name not in header]:
            raise InputError(f"{path}: line 1: column {missing[0]} is missing, {paths[0]} has it")
        schema = {name: types.get(name, pl.String()) for name in header}
        parts += [frame.select(needed or header[:1]) for frame in read_frames(path, schema)]
    if not sum(map(len, parts)):
        raise InputError(f"{paths[0]}: has a header but no rows")
    return pl.concat(parts).select(wanted)
