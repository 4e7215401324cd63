"""The schema's history: every earlier revision upgrades with its rows, and its end is `tables.py`."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    create_engine,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import JSON

from armlift.errors import InputError
from armlift.store.database import connect, revision, shown, upgrade, writing
from armlift.store.tables import SCHEMA_REVISION, is_partition, metadata

SPEC = find_spec("armlift_migrations")
assert SPEC is not None
assert SPEC.submodule_search_locations
SCRIPTS = ScriptDirectory(SPEC.submodule_search_locations[0])
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Give an engine on a database without tables."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    if request.param == "postgresql":
        server = create_engine(request.getfixturevalue("postgresql_url"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS migrated WITH (FORCE)"))
            connection.execute(text("CREATE DATABASE migrated"))
        server.dispose()
        url = make_url(server.url).set(database="migrated").render_as_string(hide_password=False)
    engine = connect(url, tmp_path)
    yield engine
    engine.dispose()


def a_value(kind: Any, number: int) -> object:
    """Give some value of a column's type."""
    if isinstance(kind, JSON):
        return {"number": number, "text": "é"}
    if isinstance(kind, Boolean):
        return number % 2 == 0
    if isinstance(kind, Float):
        return number + 0.1
    if isinstance(kind, Integer):
        return 1000 + number
    if isinstance(kind, LargeBinary):
        return bytes([0, 255, number])
    return f"é{number}"[: getattr(kind, "length", None)]


def fill(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Put three rows into every table the schema has now, as it has them now."""
    found = MetaData()
    found.reflect(engine, only=lambda name, _: not is_partition(name))
    rows = {}
    with writing(engine) as connection:
        for table in found.sorted_tables:
            if table.name != "alembic_version":
                rows[table.name] = [
                    {column.name: a_value(column.type, number) for column in table.c} for number in range(3)
                ]
                connection.execute(table.insert(), rows[table.name])
    return rows


def rows_of(engine: Engine, table: Table) -> list[dict[str, Any]]:
    key = list(table.primary_key.columns)
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table).order_by(*key))]


@pytest.mark.parametrize("start", ["base", *REVISIONS])
def test_a_filled_database_upgrades_from_every_revision_with_its_rows(empty: Engine, start: str) -> None:
    before = {}
    if start != "base":
        upgrade(empty, start)
        assert revision(empty) == start
        before = fill(empty)
        assert before
    upgrade(empty)
    assert revision(empty) == SCHEMA_REVISION
    for name, rows in before.items():
        kept = rows_of(empty, metadata.tables[name])
        assert [{column: row[column] for column in rows[0]} for row in kept] == rows


def test_the_schema_is_that_of_the_tables(empty: Engine) -> None:
    upgrade(empty)
    with empty.connect() as connection:
        asked = {
            "compare_type": True,
            "include_name": lambda name, kind, _: not (kind == "table" and is_partition(name)),
        }
        context = MigrationContext.configure(connection, opts=asked)
        assert compare_metadata(context, metadata) == []
    found = inspect(empty)
    for table in metadata.sorted_tables:
        key = found.get_pk_constraint(table.name)
        assert key["name"] == f"pk_{table.name}"
        # Neither autogenerate nor a name tells the order, by which rows lie together.
        assert key["constrained_columns"] == [column.name for column in table.primary_key.columns]
        indexes = {index["name"]: index["column_names"] for index in found.get_indexes(table.name)}
        for index in table.indexes:
            assert indexes[index.name] == [column.name for column in index.columns]


@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_sqlite_keeps_events_in_the_order_of_their_key(empty: Engine) -> None:
    upgrade(empty)
    with empty.connect() as connection:
        made = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")).all()
    without = {row.name for row in made if re.search(r"WITHOUT ROWID\s*$", row.sql)}
    asked = {t.name for t in metadata.sorted_tables if not t.dialect_options["sqlite"]["with_rowid"]}
    assert without == asked
    assert {"exposures", "impressions", "feedback", "unit_days"} <= without


def test_the_newest_revision_is_the_one_the_code_asks_for() -> None:
    assert SCRIPTS.get_current_head() == SCHEMA_REVISION
    assert sorted(REVISIONS) == REVISIONS, "numbered, so that a later one is the greater"


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(empty: Engine) -> None:
    upgrade(empty)
    rows = fill(empty)
    before = structure(empty)
    upgrade(empty)
    assert structure(empty) == before
    assert all(rows_of(empty, metadata.tables[name]) == some for name, some in rows.items())


def structure(engine: Engine) -> list[str]:
    found = MetaData()
    found.reflect(engine, only=lambda name, _: not is_partition(name))
    return [str(CreateTable(table).compile(engine)) for table in found.sorted_tables]


def test_an_upgrade_that_fails_leaves_nothing_behind(empty: Engine) -> None:
    with writing(empty) as connection:
        connection.execute(text("CREATE TABLE unit_days (mine INTEGER)"))
    with pytest.raises(Exception, match="unit_days"):
        upgrade(empty)
    assert inspect(empty).get_table_names() == ["unit_days"]
    assert revision(empty) is None


@pytest.mark.parametrize("found", ["9999", "1975ea83b712"])
def test_an_upgrade_of_an_unknown_schema_is_refused(empty: Engine, found: str) -> None:
    upgrade(empty)
    with writing(empty) as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{found}'"))
    with pytest.raises(InputError) as caught:
        upgrade(empty)
    assert str(caught.value) == (
        f"database {shown(empty)} has schema '{found}', must be at most {SCHEMA_REVISION}: "
        "a newer armlift made it, or another program"
    )
    assert revision(empty) == found


def test_two_upgrades_at_once_make_one_schema(empty: Engine) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(upgrade, [empty] * 4))
    assert revision(empty) == SCHEMA_REVISION


def test_maintainers_upgrade_with_alembic_itself(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`alembic upgrade head` works by `alembic.ini`, on the database that the environment names."""
    from alembic import command

    path = tmp_path / "own.db"
    monkeypatch.setenv("ARMLIFT_DATABASE_URL", f"sqlite:///{path}")
    monkeypatch.chdir(root)
    command.upgrade(Config("alembic.ini"), "head")
    engine = connect(f"sqlite:///{path}", tmp_path)
    assert revision(engine) == SCHEMA_REVISION
    engine.dispose()
