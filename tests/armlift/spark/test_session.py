"""Sessions of Spark, in processes that report: one document with SQL, or one line on what is missing."""

import json
import os
import shutil
import socket
import subprocess
import sys
from math import isclose
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.replay import replay
from armlift.replayer import ReplayOptions
from armlift.store.database import open_database
from armlift.store.tables import snapshots
from armlift.streams.embedded import EmbeddedStream

EXPERIMENT = """
name: demo
arms: {popularity: 1, random: 1}
control: popularity
metrics: {primary: [click_rate], secondary: [clicks, back], guardrails: [most]}
analysis: {minimum_units: 5}
"""
METRICS = """
back: {kind: retention, day: 1}
most: {kind: quantile, quantile: 0.8, of: {event: click}}
"""
SMALL_LOG = GeneratorSettings(users=40, videos=60, days=4, sessions_per_day=2, rows_per_session=5)
CODE = "import sys; from armlift.cli import main; main(sys.argv[1:])"
WITHOUT_PYSPARK = (
    "import sys; sys.modules['pyspark'] = None; from armlift.cli import main; main(sys.argv[1:])"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a lab with a replayed and archived run."""
    folder = tmp_path_factory.mktemp("spark") / "lab"
    init_lab(folder)
    (folder / "experiments" / "demo.yaml").write_text(EXPERIMENT)
    with (folder / "metrics.yaml").open("a") as file:
        file.write(METRICS)
    generate(SMALL_LOG, folder / "log.csv")
    opened = Lab(folder)
    engine = open_database(opened, create=True)
    with EmbeddedStream(folder / "stream") as stream:
        log = open_log([folder / "log.csv"])
        replay(opened, opened.experiment("demo"), log, engine, stream, ReplayOptions("rerank", False, 5, 0))
    engine.dispose()
    assert called(folder, "archive").returncode == 0
    return folder


def called(lab: Path, *words: str, code: str = CODE, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call armlift in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code, *words, "--lab", str(lab)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Tell whether two documents are equal, numbers to nine digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def test_the_document_is_that_of_sql(lab: Path, spark_environment: dict[str, str], tmp_path: Path) -> None:
    own = shutil.copytree(lab, tmp_path / "lab")
    in_sql = called(own, "report", "demo", "--json")
    words = ("--engine", "spark", "--archive", str(own / "archive"))
    on_spark = called(own, "report", "demo", *words, "--json", **spark_environment)
    assert (on_spark.returncode, on_spark.stderr) == (0, "")
    wanted, found = json.loads(in_sql.stdout), json.loads(on_spark.stdout)
    assert wanted.pop("snapshot") != found.pop("snapshot")
    assert same(wanted, found)
    assert any(one["status"] == "ok" for one in found["comparisons"])
    stored = json.loads(in_sql.stdout)["snapshot"]
    verified = called(own, "report", "--snapshot", stored, "--verify", *words, **spark_environment)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "aggregates from the archive: equal, to 9 digits" in verified.stdout
    engine = open_database(Lab(own))
    with engine.connect() as connection:
        assert len(connection.execute(select(snapshots.c.id)).all()) == 2
    engine.dispose()


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Give the one line of a call that was refused."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_what_is_missing_is_said_in_one_line(lab: Path, quick_spark: object, tmp_path: Path) -> None:
    spark = ("report", "demo", "--engine", "spark")
    line = refused(called(lab, *spark, code=WITHOUT_PYSPARK))
    assert line == "armlift: Spark needs pyspark: run `pip install 'armlift[spark]'`"
    line = refused(called(lab, *spark, PATH="", JAVA_HOME=""))
    assert line.startswith(
        "armlift: Spark needs Java, and there is no java on PATH: install a Java 17 runtime"
    )
    line = refused(called(lab, *spark, JAVA_HOME=str(tmp_path)))
    assert f"JAVA_HOME is {tmp_path}, which has no bin/java: install a Java 17 runtime" in line
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    line = refused(called(lab, *spark, JAVA_HOME=str(tmp_path)))
    assert f"Spark needs Java 17 or newer, and {old} is 11" in line


def test_servers_that_are_away_are_said_in_one_line(lab: Path, quick_spark: object) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens at it
        port = taken.getsockname()[1]
        for scheme in ("spark", "sc"):
            url = f"{scheme}://127.0.0.1:{port}"
            line = refused(called(lab, "report", "demo", "--engine", "spark", ARMLIFT_SPARK__URL=url))
            assert f"spark.url: {url} cannot be reached (127.0.0.1:{port}: Connection refused)" in line
    line = refused(called(lab, "report", "demo", "--engine", "spark", ARMLIFT_SPARK__URL="http://x"))
    assert "ARMLIFT_SPARK__URL: 'http://x' is no Spark, must be local[N]" in line


def test_an_archive_that_is_empty_and_words_that_do_not_fit(
    lab: Path, quick_spark: object, tmp_path: Path
) -> None:
    spark = ("report", "demo", "--engine", "spark")
    line = refused(called(lab, *spark, "--archive", str(tmp_path)))
    assert f"archive {tmp_path} has no day of run " in line
    assert "`armlift archive` writes the days that are over" in line
    assert "--archive needs --engine spark" in refused(called(lab, "report", "demo", "--archive", "x"))
    assert "needs --verify" in refused(called(lab, *spark, "--snapshot", "x"))
