"""Retention deletes what it says, nothing else, and the same after it was killed, on both databases."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy import Engine, Table, func, insert, select

from armlift.arm import Behaviour, History, ItemTable, arm_class, new_arm
from armlift.artefacts import MANIFEST_FILE, load_artefact, save_artefact, stored_versions
from armlift.days import DAY_MS, utc_day
from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.nightly import RetentionSettings
from armlift.store.database import writing
from armlift.store.partitions import Partitions
from armlift.store.sink import insert_new
from armlift.store.tables import exposures, feedback, impressions, models, prompts, runs
from armlift_pipelines.retention import retain

NOW = 1_764_115_200_000
NOTHING = {"events": {}, "waiting_days": 0, "models": 0, "prompts": 0, "datasets": 0, "logs": 0}


@pytest.fixture(params=["local", "memory"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    init_lab(tmp_path / "lab")
    if request.param == "memory":
        path = tmp_path / "lab" / "armlift.toml"
        text = path.read_text(encoding="utf-8")
        assert text.count('artefact_url = "models"') == 1
        text = text.replace('"models"', f'"memory://{uuid4().hex}/models"')
        path.write_text(text, encoding="utf-8")
    yield Lab(tmp_path / "lab")
    MemoryFileSystem.store.clear()


local = pytest.mark.parametrize("lab", ["local"], indirect=True)
sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def url(lab: Lab) -> str:
    return lab.resolve(lab.settings.artefact_url)


def trained(lab: Lab, until: int, arm: str = "popularity") -> str:
    """Store a real artefact of an arm, of data that end at a time; gives its version."""
    config = arm_class("popularity").config_class.model_validate({"name": arm, "model": "popularity"})
    made = new_arm(config)
    histories = [History("u", [Behaviour(f"i{until % 97}", "click", 1.0, until - 1)])]
    made.fit(histories, ItemTable([f"i{until % 97}", f"j{until}"]), until=until)
    kept = save_artefact(made, url(lab), data_hash="d", data_until=until, created="2025-11-26T00:00:00+00:00")
    return kept.version


def model(engine: Engine, version: str, until: int, state: str = "retired", **other: object) -> None:
    row = {"arm": "popularity", "scope": "*", "version": version, "state": state, "data_until": until}
    with writing(engine) as connection:
        connection.execute(insert(models).values({**row, "data_hash": "d", "definition_hash": "e", **other}))


def said(engine: Engine, arm: str, version: str, count: int = 2) -> None:
    rows = [(arm, version, f"u{n}", 0, 0, "i", 0.5, "i", 1, "0" * 32, 1) for n in range(count)]
    with writing(engine) as connection:
        insert_new(connection, prompts, rows)


def run(engine: Engine, name: str, arms: dict[str, str]) -> None:
    with writing(engine) as connection:
        number = connection.execute(select(func.count()).select_from(runs)).scalar_one() + 1
        connection.execute(
            insert(runs).values(
                run=name, number=number, experiment="demo", mode="rerank", paired=False, k=5, seed=0,
                state="finished", synthetic=True, definition={}, arms=arms, log={}, resolution={}, dropped={},
            )
        )  # fmt: skip


def retained(lab: Lab, engine: Engine, **settings: object) -> dict[str, object]:
    return retain(lab, engine, RetentionSettings.model_validate(settings), now_ms=NOW)


def rows_of(engine: Engine, table: Table) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


@local
@sqlite
def test_an_empty_lab_loses_nothing(lab: Lab, engine: Engine) -> None:
    before = sorted(lab.folder.rglob("*"))
    assert retained(lab, engine) == NOTHING
    assert sorted(lab.folder.rglob("*")) == before


@local
def test_events_go_by_the_day_of_their_request(lab: Lab, engine: Engine) -> None:
    today = utc_day(NOW)
    days = [today - 40, today - 31, today - 30, today]
    Partitions(engine).ensure(days[:2])
    head = [(day, day, f"{n:032x}", "r", day * DAY_MS, "0" * 32) for n, day in enumerate(days)]
    with writing(engine) as connection:
        insert_new(connection, feedback, [(*row, "u", "v", "click", 1.0, 0) for row in head])
        shown = [(*row, "u", "a", "1", "v", 0, 0, None, None, False) for row in head[:3]]
        insert_new(connection, impressions, shown)
        insert_new(connection, exposures, [(*head[0][:5], "u", "demo", 0, 0, "a", "1", False, False)])
    assert retained(lab, engine)["events"] == {}
    assert retained(lab, engine, events="30d")["events"] == {"impressions": 2, "feedback": 2}
    assert retained(lab, engine, events="30d")["events"] == {"impressions": 0, "feedback": 0}
    assert [rows_of(engine, table) for table in (impressions, feedback, exposures)] == [1, 2, 1]


def test_artefacts_that_nothing_asks_for_go_and_their_rows_stay(lab: Lab, engine: Engine) -> None:
    versions = [trained(lab, until) for until in range(1_000, 1_009)]
    parent, used, served, *others = versions
    for until, version in enumerate(versions, 1_000):
        promoted = version == served
        state = "promoted" if promoted else "retired"
        model(engine, version, until, state, parent=parent if promoted else None)
    unknown, elsewhere = trained(lab, 5), trained(lab, 6, arm="other")
    run(engine, "r1", {"popularity": used, "random": "x"})
    run(engine, "r2", {"random": "y"})
    assert retained(lab, engine, models=2) == {**NOTHING, "models": 4}
    assert stored_versions(url(lab), "popularity") == sorted([parent, used, served, *others[-2:], unknown])
    assert stored_versions(url(lab), "other") == [elsewhere]
    assert rows_of(engine, models) == 9
    assert load_artefact(url(lab), "popularity", served)[1].version == served
    with pytest.raises(InputError, match="there is no such artefact"):
        load_artefact(url(lab), "popularity", others[0])
    assert retained(lab, engine, models=2) == NOTHING


def test_what_one_scope_keeps_another_does_not_remove(lab: Lab, engine: Engine) -> None:
    first, second, third = (trained(lab, until) for until in (1_000, 1_001, 1_002))
    for version, until in ((first, 1_000), (second, 1_001), (third, 1_002)):
        model(engine, version, until, "candidate")
    model(engine, first, 1_000, "refused", scope="demo")
    assert retained(lab, engine, models=1)["models"] == 1
    assert stored_versions(url(lab), "popularity") == sorted([first, third])


@sqlite
def test_an_artefact_that_was_removed_by_half_goes(lab: Lab, engine: Engine) -> None:
    old, new = trained(lab, 1_000), trained(lab, 1_001)
    model(engine, old, 1_000)
    model(engine, new, 1_001)
    files, root = url_to_fs(url(lab))
    files.rm_file(f"{root}/popularity/{old}/{MANIFEST_FILE}")
    assert retained(lab, engine, models=1)["models"] == 1
    assert stored_versions(url(lab), "popularity") == [new]


@local
def test_prompts_of_versions_that_serve_or_served_last_stay(lab: Lab, engine: Engine) -> None:
    model(engine, "now", 9, "promoted", promoted=90)
    model(engine, "before", 8, "retired", promoted=80)
    model(engine, "long-ago", 10, "retired", promoted=70)
    model(engine, "new", 11, "candidate")
    model(engine, "in-demo", 5, "promoted", scope="demo", promoted=1)
    model(engine, "long-ago", 10, "refused", scope="demo")
    for version in ("now", "before", "long-ago", "new", "in-demo", "never-known"):
        said(engine, "popularity", version)
    said(engine, "recgpt", "now", 3)
    assert retained(lab, engine)["prompts"] == 9
    with engine.connect() as connection:
        left = {*connection.execute(select(prompts.c.arm, prompts.c.version)).all()}
    assert sorted(version for _, version in left) == ["before", "in-demo", "now"]
    assert retained(lab, engine)["prompts"] == 0


def nights(lab: Lab, count: int) -> list[Path]:
    folders = []
    for day in range(count):
        folder = lab.folder / "datasets" / f"{date(2025, 11, 30) - timedelta(days=count - 1 - day)}"
        (folder / "parts").mkdir(parents=True)
        for part in range(3):
            (folder / "parts" / f"{part}.parquet").write_bytes(b"x")
        folders.append(folder)
    return folders


@local
@sqlite
def test_data_sets_of_the_newest_nights_stay(lab: Lab, engine: Engine, tmp_path: Path) -> None:
    folders = nights(lab, 5)
    others = [lab.folder / "datasets" / name for name in ("mine", ".hidden", "2025-notes.txt")]
    for folder in others[:2]:
        folder.mkdir()
    others[2].write_text("x", encoding="utf-8")
    (tmp_path / "precious").mkdir()
    link = lab.folder / "datasets" / "2001-01-01"
    link.symlink_to(tmp_path / "precious")
    file = lab.folder / "datasets" / "2001-01-02"
    file.write_text("x", encoding="utf-8")
    assert retained(lab, engine)["datasets"] == 2
    assert sorted((lab.folder / "datasets").iterdir()) == sorted([*folders[2:], *others, link, file])
    assert (tmp_path / "precious").is_dir()
    assert retained(lab, engine)["datasets"] == 0
    assert retained(lab, engine, datasets=1)["datasets"] == 2


@local
@sqlite
def test_logs_go_by_their_age(lab: Lab, engine: Engine, tmp_path: Path) -> None:
    logs = lab.folder / "logs" / "nightly"
    logs.mkdir(parents=True)
    old, edge, new = logs / "old.log", logs / "edge.log", lab.folder / "logs" / "new.log"
    for path, age in ((old, 2 * DAY_MS + 1), (edge, 2 * DAY_MS), (new, 0)):
        path.write_text("x", encoding="utf-8")
        os.utime(path, ns=((NOW - age) * 1_000_000,) * 2)
    kept = tmp_path / "kept.log"
    kept.write_text("x", encoding="utf-8")
    os.utime(kept, (1, 1))
    (logs / "link.log").symlink_to(kept)
    assert retained(lab, engine, logs="2d")["logs"] == 1
    assert sorted(logs.iterdir()) == sorted([edge, logs / "link.log"])
    assert new.exists()
    assert kept.exists()
    assert retained(lab, engine, logs="2d")["logs"] == 0


RETAIN = """
import sys
from pathlib import Path
from armlift.lab import Lab
from armlift.nightly import RetentionSettings
from armlift.store.database import connect
from armlift_pipelines.retention import retain
lab = Lab(Path(sys.argv[1]))
print("ready", flush=True)
engine = connect(sys.argv[2], lab.folder)
retain(lab, engine, RetentionSettings(models=1, datasets=1, logs="1d"), now_ms=int(sys.argv[3]))
"""


def left(lab: Lab) -> list[str]:
    return sorted(path.relative_to(lab.folder).as_posix() for path in lab.folder.rglob("*"))


@local
def test_killed_half_way_and_done_again_it_leaves_the_same(lab: Lab, engine: Engine) -> None:
    nights(lab, 60)
    versions = [trained(lab, until) for until in range(1_000, 1_040)]
    for until, version in enumerate(versions, 1_000):
        model(engine, version, until)
        said(engine, "popularity", version)
    logs = lab.folder / "logs"
    logs.mkdir()
    for number in range(100):
        (logs / f"{number}.log").write_text("x", encoding="utf-8")
        os.utime(logs / f"{number}.log", (1, 1))
    address = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", RETAIN, str(lab.folder), address, str(NOW)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while len(stored_versions(url(lab), "popularity")) > 30:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert 1 < len(stored_versions(url(lab), "popularity")) <= 30, "it was killed half-way"
    again = retained(lab, engine, models=1, datasets=1, logs="1d")
    assert again["logs"] == 100
    assert stored_versions(url(lab), "popularity") == [versions[-1]]
    assert [path for path in left(lab) if path.startswith(("datasets/", "logs/"))] == [
        *("datasets/2025-11-30", "datasets/2025-11-30/parts"),
        *(f"datasets/2025-11-30/parts/{number}.parquet" for number in range(3)),
    ]
    assert rows_of(engine, prompts) == 2, "those of the version that served last"
    assert retained(lab, engine, models=1, datasets=1, logs="1d") == NOTHING


@local
@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
@sqlite
def test_what_cannot_be_removed_is_named(lab: Lab, engine: Engine) -> None:
    (oldest, *_) = nights(lab, 4)
    oldest.joinpath("parts").chmod(0o500)
    try:
        with pytest.raises(InputError, match=r"2025-11-27: cannot be removed \(Permission denied\)"):
            retained(lab, engine)
    finally:
        oldest.joinpath("parts").chmod(0o700)
