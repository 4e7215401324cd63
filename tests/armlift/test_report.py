"""One replay, from its log to its report, says the same on PostgreSQL as on SQLite, number for number."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, select

from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.replay import replay
from armlift.replayer import Mode, ReplayOptions
from armlift.report import Report, make_report
from armlift.store import tables
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

TABLES = (tables.runs, tables.exposures, tables.impressions, tables.feedback, tables.unit_days)


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    generate(
        GeneratorSettings(
            users=150, videos=20, days=2, sessions_per_day=2, rows_per_session=6, random_share=1, seed=3
        ),
        path,
    )
    return path


def run_replay(lab: Lab, log: Path, engine: Engine, options: ReplayOptions) -> Report:
    with EmbeddedStream(lab.folder / f"stream-{engine.dialect.name}", 2) as stream:
        run = replay(lab, lab.experiment("baselines"), open_log([log]), engine, stream, options)
    return make_report(engine, run, lab.calendar)


def content(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    """Read a table; databases add up in an order of their own, so numbers are told to 12 digits."""
    with engine.connect() as connection:
        rows = connection.execute(select(table))
        told = (tuple(float(f"{v:.12g}") if isinstance(v, float) else v for v in row) for row in rows)
        return sorted(told, key=repr)


def flat(document: Any, path: str = "") -> dict[str, Any]:
    """Give the leaves of a document by their paths."""
    if isinstance(document, dict):
        parts = [flat(value, f"{path}/{key}") for key, value in document.items()]
    elif isinstance(document, list):
        parts = [flat(value, f"{path}/{number}") for number, value in enumerate(document)]
    else:
        return {path: document}
    return {key: value for part in parts for key, value in part.items()}


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("mode", "paired"), [("rerank", False), ("match", True)])
def test_a_replay_says_the_same_in_every_database(
    engine: Engine, tmp_path: Path, log_file: Path, mode: Mode, paired: bool
) -> None:
    init_lab(tmp_path / "lab")
    lab = Lab(tmp_path / "lab")
    options = ReplayOptions(mode, paired, 3, 0)
    sqlite = open_database(lab, create=True)
    expected = run_replay(lab, log_file, sqlite, options)
    found = run_replay(lab, log_file, engine, options)
    for table in TABLES:
        rows = content(sqlite, table)
        assert rows, table.name
        assert content(engine, table) == rows, table.name
    said, wanted = flat(found.as_dict()), flat(expected.as_dict())
    assert said.keys() == wanted.keys()
    for key, value in wanted.items():
        number = isinstance(value, float)
        assert said[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if number else value), key
    assert any(one.p_value is not None for one in expected.comparisons)
    sqlite.dispose()
