"""Data sets of many units: the same whatever their shards, mixed as in memory, whole or not there at all."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from acting_units import ARMS, SPAN, World
from sqlalchemy import Engine

from armlift.arm import Behaviour, History
from armlift.errors import InputError
from armlift.hashing import key_of
from armlift.store import tables
from armlift.store.database import connect
from armlift.training_mix import Mode
from armlift_pipelines import dataset_build, dataset_erasure
from armlift_pipelines.dataset import DataSet, Lesson, Meta
from armlift_pipelines.dataset_build import build_from_sql
from armlift_pipelines.dataset_erasure import erase, erase_from_all
from armlift_pipelines.shards import BEHAVIOURS, TABLES


def chance(text: str) -> float:
    return (key_of(text) >> 11) / 2**53


def own(world: World, arm: str) -> list[History]:
    """Take what `own` should, all units at once."""
    units = list(world.learnt())
    sizes = {name: len([1 for one in units if one[2] == name]) for name in ARMS}
    least = min(size for size in sizes.values() if size)
    kept = []
    for unit, acts, whose, _ in units:
        share = least / (sizes[arm] if whose == arm else sum(sizes.values()))
        if whose in (arm, None) and chance(unit) < share:
            kept.append(History(unit, acts))
    return kept


def weighted(world: World, arm: str) -> list[History]:
    """Take what `weighted` should, by a table of all behaviours after exposure."""
    units = list(world.learnt())
    after = [
        (key_of(unit) % 2, one.item, whose == arm)
        for unit, acts, whose, ts in units
        if ts is not None
        for one in acts
        if one.ts >= ts
    ]
    share = sum(mine for _, _, mine in after) / len(after)
    told = []
    for unit, acts, _, ts in units:
        copies: list[Behaviour] = []
        for one in acts:
            weight = 1.0
            if ts is not None and one.ts >= ts:
                others = [mine for half, item, mine in after if half != key_of(unit) % 2 and item == one.item]
                weight = min((sum(others) + 5 * share) / (len(others) + 5) / share, 10)
            more = chance(f"{unit}|{one.item}|{one.kind}|{one.ts}") < weight - int(weight)
            copies += [one] * (int(weight) + more)
        if copies:
            told.append(History(unit, copies))
    return told


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture
def filled(engine: Engine, world: World) -> Engine:
    world.fill(engine)
    return engine


@pytest.mark.parametrize("shard_rows", [1_000_000, 60])
def test_arms_learn_what_they_would_from_memory(
    filled: Engine, world: World, tmp_path: Path, shard_rows: int
) -> None:
    build_from_sql(filled, SPAN, tmp_path / "day", shard_rows=shard_rows)
    data = DataSet(tmp_path / "day")
    assert [*Lesson(data).histories()] == [History(unit, acts) for unit, acts, _, _ in world.learnt()]
    for arm in ARMS:
        expected: dict[Mode, list[History]] = {"own": own(world, arm), "weighted": weighted(world, arm)}
        for mode, histories in expected.items():
            lesson = Lesson(data, mode, arm, "e", ARMS)
            assert [*lesson.histories()] == histories
            assert [*lesson.histories()] == histories  # each time


def test_a_data_set_is_the_same_in_any_number_of_shards(filled: Engine, tmp_path: Path) -> None:
    metas: list[Meta] = []
    for shard_rows in (1_000_000, 500, 30):
        metas.append(build_from_sql(filled, SPAN, tmp_path / "day", shard_rows=shard_rows))
        data = DataSet(tmp_path / "day")
        assert len(list((tmp_path / "day" / "behaviours").iterdir())) == len(data.shards)
        assert sum(len(one.behaviours) for one in data.histories()) == data.meta.behaviours
    assert len({one.data_hash for one in metas}) == 1
    assert len({one._replace(shards=0) for one in metas}) == 1
    assert metas[0].shards == 1
    assert len({one.shards for one in metas}) == 3


BUILD = """
import sys
import time
from pathlib import Path
from armlift.store.database import connect
from armlift_pipelines import dataset_build
from armlift_pipelines.dataset import Span

write = dataset_build.write_shard
def slowly(*arguments):
    write(*arguments)
    print("wrote", flush=True)
    time.sleep(0.2)

dataset_build.write_shard = slowly
folder = Path(sys.argv[1])
engine = connect(f"sqlite:///{folder / 'armlift.db'}", folder)
span = Span("live", 15_000_000, 270_000_000, 300_000_000)
dataset_build.build_from_sql(engine, span, folder / "sets" / "day", shard_rows=50)
"""


def test_a_build_that_is_killed_leaves_no_data_set_and_is_done_again(
    world: World, sqlite_template: Path, tmp_path: Path
) -> None:
    (tmp_path / "armlift.db").write_bytes(sqlite_template.read_bytes())
    engine = connect(f"sqlite:///{tmp_path / 'armlift.db'}", tmp_path)
    world.fill(engine)
    whole = build_from_sql(engine, SPAN, tmp_path / "whole")
    sets = tmp_path / "sets"
    with subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    (left,) = sets.iterdir()
    assert left.name.startswith(".day-")
    with pytest.raises(InputError, match="is no data set"):
        DataSet(sets / "day")
    assert build_from_sql(engine, SPAN, sets / "day").data_hash == whole.data_hash
    assert [one.name for one in sets.iterdir()] == ["day"]
    assert sorted(one.name for one in (sets / "day").iterdir()) == [
        "behaviours",
        "dataset.json",
        "exposures",
        "items.parquet",
        "shown",
    ]
    engine.dispose()


def test_a_build_that_read_what_is_erased_meanwhile_fails(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merged(*_: object) -> Iterator[pl.DataFrame]:
        erase_from_all(tmp_path / "sets", ["unit-7"])
        yield pl.DataFrame(schema=BEHAVIOURS.schema)

    monkeypatch.setattr(dataset_build, "merged", merged)
    with pytest.raises(FileNotFoundError):
        build_from_sql(filled, SPAN, tmp_path / "sets" / "day")
    assert not list((tmp_path / "sets").iterdir())


def test_a_build_that_fails_leaves_the_data_set_there_was(filled: Engine, tmp_path: Path) -> None:
    before = build_from_sql(filled, SPAN, tmp_path / "sets" / "day")
    tables.exposures.drop(filled)
    with pytest.raises(Exception, match="exposures"):
        build_from_sql(filled, SPAN, tmp_path / "sets" / "day")
    assert DataSet(tmp_path / "sets" / "day").meta == before
    assert [one.name for one in (tmp_path / "sets").iterdir()] == ["day"]


@pytest.mark.parametrize("shard_rows", [1_000_000, 50])
def test_erased_units_are_as_if_they_had_never_been(
    world: World, sqlite_template: Path, tmp_path: Path, shard_rows: int
) -> None:
    engines = {}
    for name, leave_out in (("all", None), ("without", "unit-7")):
        (tmp_path / f"{name}.db").write_bytes(sqlite_template.read_bytes())
        engines[name] = connect(f"sqlite:///{tmp_path / name}.db", tmp_path)
        world.fill(engines[name], leave_out)
        build_from_sql(engines[name], SPAN, tmp_path / name / "day", shard_rows=shard_rows)
    built = DataSet(tmp_path / "all" / "day")
    before = {path: path.stat().st_ino for path in (tmp_path / "all" / "day").rglob("*.parquet")}
    behaviours = sum(SPAN.first <= one.ts < SPAN.watermark for one in world.acts["unit-7"])
    assert erase(tmp_path / "all" / "day", ["unit-7", "stranger"]) == behaviours + 1 + 2
    erased, without = DataSet(tmp_path / "all" / "day"), DataSet(tmp_path / "without" / "day")
    assert erased.meta.erased
    assert erased.meta.data_hash != built.meta.data_hash
    assert [*erased.histories()] == [*without.histories()]
    assert [*erased.learnt("e")] == [*without.learnt("e")]
    assert (erased.meta.behaviours, erased.meta.units) == (without.meta.behaviours, without.meta.units)
    for table in TABLES:
        assert all("unit-7" not in erased.read(table, number)["unit"] for number in erased.shards)
    changed = [path for path, number in before.items() if path.stat().st_ino != number]
    assert len(changed) == 3  # a shard of each table
    assert erase(tmp_path / "all" / "day", ["unit-7"]) == 0
    assert DataSet(tmp_path / "all" / "day").meta == erased.meta
    for engine in engines.values():
        engine.dispose()


def test_an_erasure_that_is_broken_off_is_done_again(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("day", "other"):
        build_from_sql(filled, SPAN, tmp_path / name, shard_rows=50)
    erase(tmp_path / "other", ["unit-7", "unit-8"])

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(dataset_erasure, "write_meta", fail)
        with pytest.raises(KeyboardInterrupt):
            erase(tmp_path / "day", ["unit-7", "unit-8"])
    assert not DataSet(tmp_path / "day").meta.erased
    erase(tmp_path / "day", ["unit-7", "unit-8"])
    assert DataSet(tmp_path / "day").meta == DataSet(tmp_path / "other").meta


def test_units_are_erased_from_all_data_sets_and_what_killed_builds_left(
    filled: Engine, tmp_path: Path
) -> None:
    assert erase_from_all(tmp_path / "none", ["unit-7"]) == {}
    for name in ("one", "two"):
        build_from_sql(filled, SPAN, tmp_path / "sets" / name)
    (tmp_path / "sets" / f".two-{'0' * 32}" / "behaviours").mkdir(parents=True)
    (tmp_path / "sets" / ".others").mkdir()
    found = erase_from_all(tmp_path / "sets", ["unit-7"])
    assert set(found) == {"one", "two"}
    assert found["one"] == found["two"] > 0
    assert sorted(one.name for one in (tmp_path / "sets").iterdir()) == [".others", "one", "two"]
