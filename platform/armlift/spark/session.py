"""A Spark session: of this machine, of a cluster, or by Spark Connect, as the settings say."""

import atexit
import logging
import os
import re
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from armlift.errors import InputError
from armlift.settings import SparkSettings
from armlift.spark.dbapi import first_line

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

LEAST_JAVA = 17
_JAVA_HINT = (
    f"install a Java {LEAST_JAVA} runtime (Debian and Ubuntu: `apt install openjdk-17-jre-headless`; macOS: "
    "`brew install openjdk@17`) and put it on PATH, or set JAVA_HOME"
)
_DEFAULTS = {
    "spark.app.name": "armlift",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Small shuffles become one task, large ones many.
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "16m",
    # A rank deep in the order: sort on all workers instead of keeping that many rows in each.
    "spark.sql.execution.topKSortFallbackThreshold": "100000",
}
_LOCAL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


PATIENCE = 10.0
"""Seconds a master or server may take to accept a connection."""


@contextmanager
def open_session(settings: SparkSettings) -> Iterator["SparkSession"]:
    """Open a session, and stop it afterwards; its Java stays for the next one, and ends with this process.

    Raises InputError, one line that says what to install where pyspark or Java is missing, or that the master
    does not answer.
    """
    try:
        import pyspark  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"Spark needs {error.name}: run `pip install 'armlift[spark]'`") from error
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    # It writes every error of a query to stderr, with Java's stack; what fails is told in one line.
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    _check_reachable(settings)
    session = _connect(settings) if settings.remote else _start(settings)
    try:
        yield session
    finally:
        session.stop()


def _check_reachable(settings: SparkSettings) -> None:
    """Refuse servers of which none accepts a connection: Spark itself would try for minutes."""
    errors = []
    for host, port in settings.servers:
        try:
            socket.create_connection((host, port), PATIENCE).close()
        except OSError as error:
            errors.append(f"{host}:{port}: {error.strerror or error}")
        else:
            return
    if errors:
        raise InputError(f"spark.url: {settings.url} cannot be reached ({'; '.join(errors)})")


def _connect(settings: SparkSettings) -> "SparkSession":
    """Open a session on a server of Spark Connect, which has its own memory."""
    from pyspark.errors import PySparkException, PySparkImportError
    from pyspark.sql import SparkSession

    asked = {name: value for name, value in _DEFAULTS.items() if name.startswith("spark.sql.")}
    try:
        session = SparkSession.builder.remote(settings.url).getOrCreate()
        for name, value in {**asked, **settings.conf}.items():
            session.conf.set(name, value)
    except PySparkImportError as error:
        needs = f"{first_line(error)}: run `pip install 'pyspark[connect]'`"
        raise InputError(f"spark.url: {settings.url} is Spark Connect, which needs more: {needs}") from error
    except PySparkException as error:
        raise InputError(f"spark.url: {settings.url} does not answer: {first_line(error)}") from error
    return session


def _start(settings: SparkSettings) -> "SparkSession":
    """Start Java with a session in it: on this machine, or as the driver of a cluster's."""
    _check_java()
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    chosen = {**_DEFAULTS, **(_LOCAL if settings.local else {}), **settings.conf}
    conf = SparkConf(loadDefaults=False).setMaster(settings.url).setAll(list(chosen.items()))
    conf.set("spark.driver.memory", settings.memory)
    # What Java says on its own account is no part of a report; it is looked into where it does not start.
    with tempfile.TemporaryFile() as said:
        try:
            return SparkSession(SparkContext(conf=conf, gateway=_java(conf, said)))
        except (PySparkException, Py4JError) as error:
            said.seek(0)
            lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
            told = [line for line in lines if re.search(r"Error|Exception|rror:", line)]
            why = told[0] if told else first_line(error)
            raise InputError(f"spark.url: no session on {settings.url}: {why[:500]}") from error


def _java(conf: "SparkConf", said: IO[bytes]) -> Any:
    """Start Java, unless this process has it; it ends with the process."""
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._gateway is not None:
        return SparkContext._gateway
    gateway = launch_gateway(conf, {"stdout": said, "stderr": said})  # type: ignore[no-untyped-call]
    atexit.register(_end, gateway)
    return gateway


def _end(gateway: Any) -> None:
    """Have Java end, which it does when its input ends, and wait for it.

    What Python still holds of it and lets go of later cannot be told to it any more, which is no error.
    """
    logging.getLogger("py4j").setLevel(logging.CRITICAL + 1)
    if gateway.proc is not None:
        gateway.proc.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            gateway.proc.wait(PATIENCE)


def _check_java() -> None:
    """Refuse a machine without Java, or with one that is too old for Spark."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java") if home else "java")
    if java is None:
        where = f"JAVA_HOME is {home}, which has no bin/java" if home else "there is no java on PATH"
        raise InputError(f"Spark needs Java, and {where}: {_JAVA_HINT}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is not None and int(version[1]) < LEAST_JAVA:
        raise InputError(f"Spark needs Java {LEAST_JAVA} or newer, and {java} is {version[1]}: {_JAVA_HINT}")
