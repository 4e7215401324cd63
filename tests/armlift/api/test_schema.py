"""The OpenAPI document holds: whatever is sent by it, or against it, is answered as it says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_lab import NAME, Answering, begin, make_lab, ready, serving, size_of
from sqlalchemy import NullPool, create_engine, make_url, text

from armlift import keys
from armlift.client import Client
from armlift.keys import SCOPES
from armlift.lab import Lab
from armlift.store.database import open_database, writing

EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "5")
"""Cases for each operation and kind of data."""
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 403, 404, 409]

# What a lab declares, and times far from now, are refused though their form is right.
[[operations]]
include-path-regex = "^/v1/(events|recommend)$"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 403, 404, 422]
"""
DEMO = "name: demo\nlayer: {name: models}"


def demo(lab: Lab) -> None:
    """Add the experiment that the examples name."""
    written = (lab.folder / "experiments" / f"{NAME}.yaml").read_text()
    (lab.folder / "experiments" / "demo.yaml").write_text(written.replace(f"name: {NAME}", DEMO))


def key_of(lab: Lab, name: str, scopes: tuple[str, ...]) -> str:
    engine = open_database(lab)
    with writing(engine) as connection:
        made = keys.create(connection, name, scopes, by="me", at=0)
    engine.dispose()
    return made.text


def holds(api: Answering, folder: Path, *options: str) -> dict[str, Any]:
    """Let schemathesis try the document; gives what it reports."""
    (folder / "schemathesis.toml").write_text(SETTINGS)
    program = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{api.url}/openapi.json"]
    common = ["--checks", "all", "--max-examples", EXAMPLES, "--seed", "1", "--no-color"]
    report = ["--report-json-path", str(folder / "report.json"), "--continue-on-failure"]
    done = subprocess.run(
        [*program, *common, *report, *options], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6_000:]
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_all_is_answered_as_the_document_says(tmp_path: Path) -> None:
    lab = ready(tmp_path / "lab", size_of(50, 1), users=50, serve={"budget_ms": 20_000})
    demo(lab)
    with serving(lab) as api, Client(api.url) as client:
        client.start("demo", "to be tried")
        found = holds(api, tmp_path)
        assert found["test_cases"]["generated"] > 500
        tried = [one["examples"]["accepted"] for one in found["valid_rates"].values() if "examples" in one]
        assert (len(tried), min(tried)) == (10, 1), "examples of all that can be told something"
        document = httpx.get(f"{api.url}/openapi.json", trust_env=False).json()
        assert "securitySchemes" not in document["components"]
        assert check_operations(document) == dict.fromkeys(check_operations(document), None)
        assert not [line for line in api.log if "error" in line], api.log


@pytest.fixture
def guarded(postgresql_url: str, tmp_path: Path) -> Iterator[Lab]:
    """Give a lab on PostgreSQL that asks for keys."""
    once = create_engine(postgresql_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with once.connect() as connection:
        connection.execute(text("CREATE DATABASE described"))
    url = make_url(postgresql_url).set(database="described").render_as_string(hide_password=False)
    lab = make_lab(tmp_path / "lab", serve={"require_keys": True, "budget_ms": 20_000}, database=url)
    engine = open_database(lab, create=True)
    begin(lab, engine, size_of(50, 1))
    engine.dispose()
    demo(lab)
    yield lab
    with once.connect() as connection:
        connection.execute(text("DROP DATABASE described WITH (FORCE)"))


def test_keys_and_their_scopes_are_asked_for_as_the_document_says(guarded: Lab, tmp_path: Path) -> None:
    whole, little = key_of(guarded, "whole", SCOPES), key_of(guarded, "little", ("metrics",))
    with serving(guarded) as api, Client(api.url, whole) as client:
        client.start("demo", "to be tried")
        found = holds(api, tmp_path, "-H", f"Authorization: Bearer {whole}")
        assert found["test_cases"]["generated"] > 500
        assert found["warnings"]["missing_auth"] == []
        holds(api, tmp_path, "-H", f"Authorization: Bearer {little}", "--phases", "examples")
        document = httpx.get(f"{api.url}/openapi.json", trust_env=False).json()
        assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        asked = check_operations(document)
        open_to_all = {name for name, security in asked.items() if security is None}
        assert open_to_all == {"get /healthz", "get /readyz"}
        assert not [line for line in api.log if "error" in line], api.log


def check_operations(document: dict[str, Any]) -> dict[str, Any]:
    """Check that each operation has a summary and examples; gives what each asks for."""
    found = {}
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            assert one["summary"].count(" ") > 1, path
            assert "example" in json.dumps(one["responses"]["202" if path == "/v1/events" else "200"])
            assert method == "get" or "examples" in json.dumps(one["requestBody"])
            found[f"{method} {path}"] = one.get("security")
    return found
