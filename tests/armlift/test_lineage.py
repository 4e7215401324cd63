"""A version says which data, code and definition made it, and the versions it goes back to."""

import shutil
from importlib.metadata import version as version_of_package
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, insert

from armlift.arm import ArmConfig, Behaviour, History, ItemTable, arm_class, new_arm
from armlift.artefacts import save_artefact
from armlift.errors import InputError
from armlift.lineage import code_versions, lineage
from armlift.promotions import add_candidate, promote
from armlift.store.database import writing
from armlift.store.tables import job_runs

AT = 1_700_000_000_000


def stored(folder: Path, data: str, parent: str | None = None) -> str:
    """Fit popularity on data of their own, and store it."""
    config: ArmConfig = arm_class("popularity").config_class.model_validate(
        {"name": "mine", "model": "popularity"}
    )
    arm = new_arm(config)
    behaviours = [Behaviour(item, "click", 1.0, AT) for item in data]
    arm.fit([History("u", behaviours)], ItemTable(sorted(set(data))), until=AT + len(data))
    return save_artefact(
        arm, str(folder), data_hash=data, data_until=AT + len(data), created="2023-11-15T00:00:00+00:00",
        parent=parent, code=code_versions(),
    ).version  # fmt: skip


def job(number: int, version: str, **changed: object) -> dict[str, object]:
    return {
        "id": f"job{number}", "job": "nightly", "subject": "live 2023-11-14", "step": "retrain",
        "arm": "mine",
        "scope": "*", "attempt": 1, "status": "succeeded", "started": AT + number, "ended": AT + number + 9,
        "owner": "host", "seen": AT, "inputs_hash": "i", "inputs": {"data": "ab"},
        "outputs": {"candidate": version, "seconds": 3}, "versions": {"armlift": "1"},
    } | changed  # fmt: skip


def test_a_version_goes_back_over_its_parents(engine: Engine, tmp_path: Path) -> None:
    oldest = stored(tmp_path, "ab")
    middle = stored(tmp_path, "abc", oldest)
    newest = stored(tmp_path, "abcd", middle)
    rows = [
        job(2, middle),
        job(1, middle, scope="demo"),
        job(3, middle, step="gate"),
        job(4, middle, status="failed"),
        job(5, middle, arm="other"),
        job(6, newest),
        job(7, newest, outputs={}),
    ]
    with writing(engine) as connection:
        for version, parent in ((oldest, None), (middle, oldest), (newest, middle)):
            add_candidate(
                connection, "mine", "*", version,
                data_hash="d", data_until=AT, definition_hash="f", parent=parent,
            )  # fmt: skip
        promote(connection, "mine", "*", middle, at=AT, by="ada", reason="better")
        connection.execute(insert(job_runs), rows)
        found = lineage(connection, str(tmp_path), "mine", newest)
        assert lineage(connection, str(tmp_path), "mine", middle) == found[1:]
    assert [origin.version for origin in found] == [newest, middle, oldest]
    assert [origin.parent for origin in found] == [middle, oldest, None]
    assert [[one.id for one in origin.jobs] for origin in found] == [["job6"], ["job1", "job2"], []]
    assert found[1].jobs[1].inputs == {"data": "ab"}
    assert [origin.rows[0].state for origin in found] == ["candidate", "promoted", "candidate"]
    manifest = found[0].manifest
    assert manifest is not None
    assert (manifest.data_hash, manifest.definition["model"]) == ("abcd", "popularity")
    assert manifest.code["numpy"] == np.__version__
    assert manifest.code["torch"] == version_of_package("torch")
    assert {*manifest.code} == {"python", "armlift", "torch", "numpy", "polars", "sqlalchemy"}


def test_what_was_removed_ends_the_way(engine: Engine, tmp_path: Path) -> None:
    gone = stored(tmp_path, "ab")
    kept = stored(tmp_path, "abc", gone)
    shutil.rmtree(tmp_path / "mine" / gone)
    with engine.connect() as connection:
        first, last = lineage(connection, str(tmp_path), "mine", kept)
        assert (first.version, first.rows, first.lost) == (kept, [], None)
        assert (last.version, last.manifest, last.parent) == (gone, None, None)
        assert last.lost is not None
        assert "there is no such artefact of 'mine'" in last.lost
        with pytest.raises(InputError, match="--version 'z' is not one of arm mine, must be one of none, as"):
            lineage(connection, str(tmp_path), "mine", "z")


def test_a_version_may_be_its_own_parent(engine: Engine, tmp_path: Path) -> None:
    with writing(engine) as connection:
        add_candidate(
            connection, "mine", "*", "0123456789ab",
            data_hash="d", data_until=AT, definition_hash="f", parent="0123456789ab",
        )  # fmt: skip
        (origin,) = lineage(connection, str(tmp_path), "mine", "0123456789ab")
        with pytest.raises(InputError, match="'z' is not one of arm mine, must be one of 0123456789ab"):
            lineage(connection, str(tmp_path), "mine", "z")
    assert origin.parent == "0123456789ab"
