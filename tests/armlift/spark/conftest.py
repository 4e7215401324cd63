"""Fixtures of Spark's tests: one session, with a Java that starts fast; skipped where there is no Java."""

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from armlift.settings import SparkSettings
from armlift.spark.session import open_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
}
"""For a minute of small queries compilers cost more than they save."""


@pytest.fixture(scope="session")
def quick_spark() -> SparkSettings:
    """Give settings for small data; skips where Spark cannot start."""
    if find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed")
    return SparkSettings(url="local[2]", memory="1g", conf=QUICK)


@pytest.fixture(scope="module")
def session(quick_spark: SparkSettings) -> Iterator["SparkSession"]:
    """Start Spark for this module's tests: a process has one at a time."""
    with open_session(quick_spark) as opened:
        yield opened


@pytest.fixture
def spark_environment(quick_spark: SparkSettings) -> dict[str, str]:
    """Give the settings as environment variables."""
    return {
        "ARMLIFT_SPARK__URL": quick_spark.url,
        "ARMLIFT_SPARK__MEMORY": quick_spark.memory,
        "ARMLIFT_SPARK__CONF": json.dumps(quick_spark.conf),
    }
