"""Backup and restore by the very commands of the document: a harmed lab becomes as one that never was."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, make_url, select, text

from armlift import running
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS, Calendar, utc_day
from armlift.events import (
    Alias,
    Codec,
    Event,
    Exposure,
    Feedback,
    Impression,
    alias_identity,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import Ingester
from armlift.lab import Lab, init_lab
from armlift.report import make_report
from armlift.runs import Subjects, latest
from armlift.store import tables
from armlift.store.database import open_database, writing
from armlift.streams.opening import open_stream

NOW = time.time_ns() // 1_000_000
BEGIN = (utc_day(NOW) - 4) * DAY_MS
UNITS = [f"u{number}" for number in range(12)]
SAME = (
    "runs", "exposures", "impressions", "feedback", "aliases", "unit_days", "touched_cells", "stream_offsets",
    "dead_letters", "experiments", "phases",
)  # fmt: skip
"""Tables that a restored lab shares, row by row, with one that was never harmed."""


def request(unit: str, ts: int) -> list[Event]:
    asked, arm = request_identity(ts, f"{unit}{ts}"), ("popularity", "random")[int(unit[1:]) % 2]
    shown = [
        Impression(impression_identity(asked, i), "live", ts, asked, unit, arm, "v", i, 0, 0, None, None)
        for i in "ab"
    ]
    click = Feedback(
        feedback_identity(asked, "a", "click", 0), "live", ts + 9, asked, unit, "a", "click", 1.0
    )
    met = Exposure(exposure_identity(ts, "live", unit, "demo", arm), "live", ts, unit, "demo", 0, 0, arm, "v")
    return [met, *shown, click]


def messages(day: int) -> list[tuple[str, bytes]]:
    """Give the messages of a day: a unit is merged into another, and one message is none."""
    codec = Codec(["click"])
    at = BEGIN + day * DAY_MS + 3_600_000
    sent = [(unit, codec.encode(request(unit, at + place))) for place, unit in enumerate(UNITS)]
    merge = Alias(alias_identity(at, "live", f"u{day}", "u11"), "live", at, "u11", f"u{day}")
    return [*sent, ("u11", codec.encode([merge])), (f"u{day}", b"no message of day %d" % day)]


def publish(lab: Lab, *days: int) -> None:
    with open_stream(lab) as stream:
        for day in days:
            for key, value in messages(day):
                stream.publish(key, value)
        stream.flush()


def ingest(lab: Lab, engine: Engine) -> None:
    with open_stream(lab) as stream:
        Ingester(engine, stream, Codec(["click"]), Calendar("UTC"), Subjects(), batch=7).drain(wait=60)


class Place:
    """A folder with a lab, which commands of the document run in."""

    def __init__(self, folder: Path, server: str | None, stream: str | None) -> None:
        folder.mkdir()
        self.folder, self.server = folder, server
        self.name = f"lab_{uuid4().hex}"
        init_lab(folder / "LAB")
        settings = folder / "LAB" / "armlift.toml"
        written = settings.read_text().replace('"Asia/Shanghai"', '"UTC"')
        if server is not None:
            self.administer(f"CREATE DATABASE {self.name}")
            url = self._url(f"/{self.name}", "postgresql+psycopg")
            written = re.sub(r'(?m)^database_url = ".*"', f'database_url = "{url}"', written)
        if stream is not None:
            url = f"{stream}/{self.name}"
            written = re.sub(r'(?m)^stream_url = ".*"', f'stream_url = "{url}"', written)
        settings.write_text(written)
        self.lab = Lab(folder / "LAB")
        self.engine = open_database(self.lab, create=True)
        with writing(self.engine) as connection:
            running.start(connection, self.lab, "demo", reason="now", by="me", at=BEGIN)

    def _url(self, database: str, driver: str = "postgresql") -> str:
        assert self.server is not None
        url = make_url(self.server).set(database=database[1:], drivername=driver)
        return url.render_as_string(hide_password=False)

    def administer(self, statement: str) -> None:
        assert self.server is not None
        engine = create_engine(self.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def run(self, script: str) -> None:
        """Run a block as a reader would; what fails in it ends it."""
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        if self.server is not None:
            env |= {"DATABASE": self._url(f"/{self.name}"), "SERVER": self._url("/postgres")}
        words = ["bash", "-eu", "-o", "pipefail", "-c", script]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=env, cwd=self.folder)
        assert done.returncode == 0, f"{script}: {done.stderr}"

    def destroy(self) -> None:
        """Lose the database, the models and the archive."""
        self.engine.dispose()
        if self.server is not None:
            self.administer(f"DROP DATABASE {self.name} WITH (FORCE)")
        for path in (self.folder / "LAB").glob("armlift.db*"):
            path.unlink()
        for part in ("models", "archive"):
            shutil.rmtree(self.folder / "LAB" / part, ignore_errors=True)

    def archive(self) -> None:
        url = self.lab.resolve(self.lab.settings.archive_url)
        done = archive_closed(self.engine, Archive(url), NOW, after=0, deep=True)
        assert (done.short, done.lost) == ([], [])

    def rows(self) -> dict[str, list[str]]:
        """Give the rows of the tables that labs share, as text; a stream's name is its own."""
        found = {}
        with self.engine.connect() as connection:
            for name in SAME:
                table = tables.metadata.tables[name]
                columns = [one for one in table.c if one.name not in ("stream_id", "mark", "by")]
                rows = connection.execute(select(*columns)).all()
                found[name] = sorted(
                    str([bytes(one) if isinstance(one, memoryview) else one for one in row]) for row in rows
                )
        return found

    def figures(self) -> list[object]:
        """Give what the report compares."""
        with self.engine.connect() as connection:
            run = latest(connection, "demo", None)
        report = make_report(self.engine, run, self.lab.calendar, as_of=BEGIN + 4 * DAY_MS)
        return [one.mean for one in report.comparisons]


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """Give two labs that begin alike: on SQLite and its own stream, on PostgreSQL and Kafka."""
    server = stream = None
    if request.param == "postgresql":
        if shutil.which("pg_dump") is None:
            pytest.skip("pg_dump is not installed")
        server = request.getfixturevalue("postgresql_url")
        stream = request.getfixturevalue("broker").url("topic").rpartition("/")[0]
    both = Place(tmp_path / "harmed", server, stream), Place(tmp_path / "unharmed", server, stream)
    yield both
    for one in both:
        one.engine.dispose()
        if server is not None:
            one.administer(f"DROP DATABASE IF EXISTS {one.name} WITH (FORCE)")


def blocks(root: Path) -> dict[str, str]:
    """Give the blocks of the document's section, by what each is for."""
    document = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    section = document.split("## Backup and restore\n")[1].split("\n## ")[0]
    names = ("sqlite", "postgresql", "files", "records", "restore sqlite", "restore postgresql", "go on")
    return dict(zip(names, re.findall(r"```\n(.*?)```", section, re.S), strict=True))


def test_a_restored_lab_is_as_one_that_was_never_harmed(root: Path, places: tuple[Place, Place]) -> None:
    says = blocks(root)
    for place in places:
        kind = place.engine.dialect.name
        harmed = place is places[0]
        publish(place.lab, 0, 1)
        ingest(place.lab, place.engine)
        place.archive()
        if harmed:
            place.run(says[kind])
            place.run(says["files"])
        publish(place.lab, 2)
        ingest(place.lab, place.engine)
        place.archive()
        place.run("armlift forget u7 --yes --by me --lab LAB")
        if harmed:
            place.run(says["records"])
            publish(place.lab, 3)
            place.destroy()
            place.run(says[f"restore {kind}"])
            place.run(says["go on"])
            place.engine = open_database(place.lab)
        else:
            publish(place.lab, 3)
            ingest(place.lab, place.engine)
        place.archive()
    restored, unharmed = places
    rows = restored.rows()
    assert rows == unharmed.rows()
    assert {name: len(rows[name]) for name in ("exposures", "feedback", "aliases", "touched_cells")} == {
        "exposures": 44, "feedback": 44, "aliases": 4, "touched_cells": 0,
    }  # fmt: skip
    assert not [row for name, some in rows.items() for row in some if "'u7'" in row and name != "runs"]
    assert restored.figures() == unharmed.figures() != []
    manifests = [Archive(one.lab.resolve(one.lab.settings.archive_url)).manifests("live") for one in places]
    assert [one.tables for one in manifests[0]] == [one.tables for one in manifests[1]]
