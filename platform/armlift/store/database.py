"""Engines, and the schema's version."""

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from armlift.errors import InputError, StoreError
from armlift.lab import Lab
from armlift.store.tables import SCHEMA_REVISION, metadata

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_SECONDS = 30
PATIENCE: Mapping[str, int] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""How long a PostgreSQL whose host is gone is waited for, in seconds, the last in ms; a URL may say else."""
KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 3, "tcp_keepalives_count": 3}
"""How long PostgreSQL, in its turn, waits for a host that is gone, in seconds."""
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error)
"""What a database that cannot be reached, or does not answer, raises; a new SQLite connection its own."""
UPGRADE_LOCK = 0x61726D6C
"""PostgreSQL's advisory lock of whoever upgrades; SQLite has one writer anyway."""


def open_database(lab: Lab, *, create: bool = False, read_only: bool = False) -> Engine:
    """Open the lab's database at the current schema.

    With `create` an empty database gets its tables; one that is `read_only` refuses every statement that
    writes. Raises InputError when it has none, or those of another version, or cannot be reached.
    """
    engine = connect(lab.settings.database_url, lab.folder, read_only=read_only)
    names, found = _look(engine)
    if found == SCHEMA_REVISION:
        return engine
    if create and not names:
        upgrade(engine)
        return engine
    if found is None:
        raise InputError(f"database {shown(engine)} has no armlift tables; run `armlift db upgrade`")
    _check_known(engine, found)
    raise InputError(
        f"database {shown(engine)} has schema {found}, must be {SCHEMA_REVISION}; run `armlift db upgrade`"
    )


def open_existing(lab: Lab, *, read_only: bool = False) -> Engine | None:
    """Open the lab's database as `open_database` does; None where there is none yet, or an empty one."""
    engine = connect(lab.settings.database_url, lab.folder, read_only=read_only)
    file = engine.url.database
    if engine.dialect.name == "sqlite" and not (file and Path(file).is_file()):
        return None
    names, _ = _look(engine)
    return open_database(lab, read_only=read_only) if names else None


def connect(url: str, folder: Path, *, read_only: bool = False) -> Engine:
    """Make an engine; a relative SQLite path lies in `folder`.

    Raises InputError, without the password, for a URL of another form or a driver that is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # whose text may hold a part of the password
        raise InputError(
            f"database_url: {hidden(url)!r} is not a URL, must be like sqlite:///armlift.db"
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        parsed = parsed.set(database=str(folder / str(parsed.database)))
    waits = PATIENCE if parsed.get_backend_name() == "postgresql" else {}
    try:
        engine = create_engine(
            parsed, connect_args={name: value for name, value in waits.items() if name not in parsed.query}
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(
            f"database_url: {hidden(url)!r} cannot be opened ({error}), must be like sqlite:///armlift.db"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        if read_only:
            event.listen(engine, "connect", _refuse_writes)
    return engine.execution_options(postgresql_readonly=True) if read_only else engine


def shown(engine: Engine) -> str:
    """Write a database's address without its password."""
    return hidden(engine.url.render_as_string(hide_password=True))


def hidden(url: str) -> str:
    """Write a text that may hold a database's URL without the password."""
    url = re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url)
    return re.sub(r"password=[^&]*", "password=***", url)  # sslpassword too


def revision(engine: Engine) -> str | None:
    """Read the schema's revision; None for a database that Alembic has not touched.

    Raises InputError when the database cannot be reached.
    """
    return _look(engine)[1]


def _look(engine: Engine) -> tuple[list[str], str | None]:
    """Read the names of the tables and the revision; in this order, as another may just be making them."""
    try:
        with engine.connect() as connection:
            names = inspect(connection).get_table_names()
            if "alembic_version" not in names:
                return names, None
            return names, connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except (DBAPIError, sqlite3.Error) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise InputError(f"database {shown(engine)} cannot be read: {hidden(str(reason))}") from error


def upgrade(engine: Engine, target: str = "head") -> None:
    """Bring the schema to a revision, with its rows; raises InputError for a schema that is not known."""
    from alembic import command

    found = revision(engine)
    if found is not None:
        _check_known(engine, found)
    config = _history()
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, target)


def _history() -> "Config":
    """Give Alembic's configuration: where the schema's history lies."""
    from alembic.config import Config

    spec = find_spec("armlift_migrations")
    if spec is None or not spec.submodule_search_locations:
        raise StoreError("armlift_migrations is not installed, it holds the schema's history")
    config = Config()
    config.set_main_option("script_location", spec.submodule_search_locations[0].replace("%", "%%"))
    return config


def _check_known(engine: Engine, found: str) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_history()).walk_revisions()}
    if found not in known:
        raise InputError(
            f"database {shown(engine)} has schema {found!r}, must be at most {SCHEMA_REVISION}: "
            "a newer armlift made it, or another program"
        )


def writing(engine: Engine) -> Any:
    """Begin a transaction that writes; on SQLite it takes the write lock at once, so it cannot fail later."""
    return engine.execution_options(armlift_writes=True).begin()


def let_go(connection: Connection, seconds: float) -> None:
    """Have PostgreSQL end this transaction where the process that began it is silent for so long, or its host
    is gone: others wait for its locks.
    """
    if connection.dialect.name == "postgresql":
        waits = {"idle_in_transaction_session_timeout": round(seconds * 1000), **KEEPALIVES}
        local = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in waits.items())
        connection.execute(text(f"SELECT {local}"))


def reading(engine: Engine) -> Connection:
    """Connect to read: on PostgreSQL every query sees the same moment, as it does on SQLite anyway."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    return engine.connect()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling is switched off; `_begin_sqlite` begins them.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _keep_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -4096")


def _keep_log(connection: sqlite3.Connection) -> None:
    """Have changes written to a log beside the file, so that readers go on.

    SQLite waits for no other process that opens a new file in that moment, so it is waited for here.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _refuse_writes(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only = 1")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("armlift_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def scratch() -> Iterator[Engine]:
    """Make a database in memory that nobody keeps, and so not by Alembic."""
    engine = connect("sqlite://", Path())
    metadata.create_all(engine)
    try:
        yield engine
    finally:
        engine.dispose()
