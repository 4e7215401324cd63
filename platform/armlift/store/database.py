"""Engines, and the schema's version."""

import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from armlift.errors import InputError, StoreError
from armlift.lab import Lab
from armlift.store.tables import SCHEMA_REVISION

BUSY_SECONDS = 30


def open_database(lab: Lab, *, create: bool = False) -> Engine:
    """Open the lab's database at the current schema.

    With `create` an empty database gets its tables. Raises InputError when it has none, or older ones.
    """
    engine = connect(lab.settings.database_url, lab.folder)
    found = revision(engine)
    if found == SCHEMA_REVISION:
        return engine
    if found is None and create and not inspect(engine).get_table_names():
        upgrade(engine)
        return engine
    state = "has no armlift tables" if found is None else f"has schema {found}, must be {SCHEMA_REVISION}"
    raise InputError(f"database {shown(engine)} {state}; run `armlift db upgrade`")


def connect(url: str, folder: Path) -> Engine:
    """Make an engine; a relative SQLite path lies in `folder`."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
            parsed = parsed.set(database=str(folder / str(parsed.database)))
        engine = create_engine(parsed)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(
            f"database_url: {url!r} cannot be opened ({error}), must be like sqlite:///armlift.db"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def shown(engine: Engine) -> str:
    """Write a database's address without its password."""
    return engine.url.render_as_string(hide_password=True)


def revision(engine: Engine) -> str | None:
    """Read the schema's revision; None for a database that Alembic has not touched."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine, target: str = "head") -> None:
    """Bring the schema to a revision, with its rows."""
    from alembic import command
    from alembic.config import Config

    spec = find_spec("armlift_migrations")
    if spec is None or not spec.submodule_search_locations:
        raise StoreError("armlift_migrations is not installed, it holds the schema's history")
    config = Config()
    config.set_main_option("script_location", spec.submodule_search_locations[0].replace("%", "%%"))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target)


def writing(engine: Engine) -> Any:
    """Begin a transaction that writes; on SQLite it takes the write lock at once, so it cannot fail later."""
    return engine.execution_options(armlift_writes=True).begin()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling is switched off; `_begin_sqlite` begins them.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -65536")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("armlift_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
