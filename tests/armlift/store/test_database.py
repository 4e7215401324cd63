"""Opening the lab's database: where it lies, what is refused, and in which words."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import OperationalError

from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.store.database import connect, open_database, revision, shown, upgrade, writing
from armlift.store.tables import SCHEMA_REVISION, metadata


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_lab(tmp_path / "lab")
    return tmp_path / "lab"


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def foreign(path: Path, *statements: str) -> str:
    """Make another program's SQLite file, and give its URL."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


def test_a_relative_path_lies_in_the_lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    engine = open_database(Lab(folder), create=True)
    assert (folder / "armlift.db").is_file()
    assert not Path("armlift.db").exists()
    assert shown(engine) == f"sqlite:///{folder / 'armlift.db'}"
    assert set(metadata.tables) < set(inspect(engine).get_table_names())
    engine.dispose()


def test_an_absolute_path_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'elsewhere.db'}", folder)
    upgrade(engine)
    engine.dispose()
    assert (tmp_path / "elsewhere.db").is_file()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_works(folder: Path, url: str) -> None:
    engine = connect(url, folder)
    upgrade(engine)
    assert revision(engine) == SCHEMA_REVISION
    assert not list(folder.glob("*memory*"))
    engine.dispose()


def test_tables_are_made_only_when_asked_for(folder: Path) -> None:
    lab = Lab(folder)
    expected = f"database sqlite:///{folder / 'armlift.db'} has no armlift tables; run `armlift db upgrade`"
    assert refusal(open_database, lab) == expected
    first = open_database(lab, create=True)
    again = open_database(lab)
    assert revision(again) == SCHEMA_REVISION
    first.dispose()
    again.dispose()


def test_another_programs_database_is_left_alone(folder: Path, tmp_path: Path) -> None:
    url = foreign(tmp_path / "other.db", "CREATE TABLE bills (id INTEGER)")
    for create in (False, True):
        assert "has no armlift tables" in refusal(open_database, Lab(folder, database=url), create=create)
    engine = connect(url, folder)
    assert inspect(engine).get_table_names() == ["bills"]
    engine.dispose()


@pytest.mark.parametrize("found", ["9999", "1975ea83b712"])
def test_an_unknown_schema_is_named(folder: Path, tmp_path: Path, found: str) -> None:
    url = foreign(
        tmp_path / "other.db",
        "CREATE TABLE alembic_version (version_num TEXT)",
        f"INSERT INTO alembic_version VALUES ('{found}')",
    )
    for create in (False, True):
        message = refusal(open_database, Lab(folder, database=url), create=create)
        assert f"has schema '{found}', must be at most {SCHEMA_REVISION}: a newer armlift" in message
        assert "db upgrade" not in message


def test_an_older_schema_says_how_to_upgrade(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(folder)
    open_database(lab, create=True).dispose()
    # The code of a later version: it asks for a revision that is not there yet.
    monkeypatch.setattr("armlift.store.database.SCHEMA_REVISION", "later")
    for create in (False, True):
        message = refusal(open_database, lab, create=create)
        assert message.endswith(f"has schema {SCHEMA_REVISION}, must be later; run `armlift db upgrade`")


BAD_URLS = {
    "nonsense": "is not a URL",
    "": "is not a URL",
    "postgresql://ann:secret@host:port/x": "is not a URL",
    "postgresql+nothing://ann:sec@ret:1/@host/x": "sqlalchemy.dialects:postgresql.nothing",
    "oracle9://ann:secret@host/x": "sqlalchemy.dialects:oracle9",
    "postgresql+nothing://ann:secret@host/x": "sqlalchemy.dialects:postgresql.nothing",
    "postgresql+pg8000://ann:secret@host/x?password=secret": "No module named 'pg8000'",
}


@pytest.mark.parametrize(("url", "reason"), BAD_URLS.items(), ids=BAD_URLS)
def test_a_bad_url_is_refused_in_one_line_without_its_password(url: str, reason: str, tmp_path: Path) -> None:
    message = refusal(connect, url, tmp_path)
    assert message.startswith("database_url: '")
    assert reason in message
    assert message.endswith("must be like sqlite:///armlift.db")
    assert "sec" not in message
    assert ("***" in message) == ("ann" in url)


def test_what_is_shown_has_no_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    queries = ("password=secret&sslmode=require", "sslkey=x&sslpassword=secret")
    for url in ("ann:secret@host/x", *(f"ann@host/x?{query}" for query in queries)):
        engine = connect(f"postgresql+psycopg://{url}", tmp_path)
        assert "secret" not in shown(engine)
        assert "***" in shown(engine)
        assert engine.url.render_as_string(hide_password=False).endswith(url)


def test_a_server_that_does_not_answer_is_one_line_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    engine = connect("postgresql+psycopg://ann:secret@127.0.0.1:1/x", tmp_path)
    with pytest.raises(InputError, match=r"database postgresql.*ann:\*\*\*@127.* cannot be read: ") as caught:
        revision(engine)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"user_id,video_id\n" * 100)
    message = refusal(revision, connect("sqlite:///log.db", tmp_path))
    assert message == f"database sqlite:///{tmp_path / 'log.db'} cannot be read: file is not a database"
    assert (tmp_path / "log.db").read_bytes() == b"user_id,video_id\n" * 100


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = refusal(revision, connect("sqlite:///no/such.db", tmp_path))
    assert message.endswith("cannot be read: unable to open database file")


def test_sqlite_is_set_up_for_one_writer_and_many_readers(engine_on_file: Engine) -> None:
    settings = {"journal_mode": "wal", "busy_timeout": 30_000, "synchronous": 1, "foreign_keys": 0}
    with engine_on_file.connect() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in settings}
    assert found == settings


@pytest.fixture
def engine_on_file(sqlite_template: Path, tmp_path: Path) -> Any:
    (tmp_path / "armlift.db").write_bytes(sqlite_template.read_bytes())
    engine = connect("sqlite:///armlift.db", tmp_path)
    yield engine
    engine.dispose()


def test_a_writer_takes_the_lock_at_once_and_readers_go_on(
    engine_on_file: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("armlift.store.database.BUSY_SECONDS", 0)
    other = connect("sqlite:///armlift.db", tmp_path)
    with writing(engine_on_file) as connection:
        connection.execute(text("INSERT INTO stream_offsets VALUES ('s', 0, 7)"))
        with pytest.raises(OperationalError, match="locked"), writing(other):
            pass
        with other.connect() as reader:
            assert reader.execute(text("SELECT COUNT(*) FROM stream_offsets")).scalar() == 0
    with other.connect() as reader:
        assert reader.execute(text("SELECT next FROM stream_offsets")).scalar() == 7
    other.dispose()


def test_a_failed_writer_leaves_nothing_not_even_its_tables(engine_on_file: Engine) -> None:
    class StopError(Exception):
        pass

    def write() -> None:
        with writing(engine_on_file) as connection:
            connection.execute(text("CREATE TABLE mine (id INTEGER)"))
            connection.execute(text("INSERT INTO stream_offsets VALUES ('s', 0, 7)"))
            raise StopError

    with pytest.raises(StopError):
        write()
    assert "mine" not in inspect(engine_on_file).get_table_names()
    with engine_on_file.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM stream_offsets")).scalar() == 0


CREATE = """
import sys
from pathlib import Path
from armlift.lab import Lab
from armlift.store.database import open_database, revision
engine = open_database(Lab(Path(sys.argv[1])), create=True)
print(revision(engine))
"""


def test_several_processes_may_make_the_tables_at_once(folder: Path) -> None:
    command = [sys.executable, "-c", CREATE, str(folder)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    ended = [process.communicate(timeout=60) for process in started]
    assert ended == [(f"{SCHEMA_REVISION}\n", "")] * 4


def test_a_new_file_may_be_opened_by_several_at_once(folder: Path) -> None:
    def look(engine: Engine) -> str | None:
        together.wait()
        return revision(engine)

    together = Barrier(3)
    with ThreadPoolExecutor(3) as pool:
        for number in range(100):  # each is a race, that a few in a hundred lose
            engines = [connect(f"sqlite:///{number}.db", folder) for _ in range(3)]
            assert [*pool.map(look, engines)] == [None] * 3
            for engine in engines:
                engine.dispose()
