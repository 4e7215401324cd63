"""Data sets: what is read from SQL, and what each arm learns from."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from armlift.arm import Behaviour
from armlift.errors import InputError
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.sink import insert_new
from armlift_pipelines.dataset import DataSet, Lesson, Span
from armlift_pipelines.dataset_build import build_from_sql as build

SPAN = Span("live", 100, 1000, 2000)


def feedback(unit: str, item: str, ts: int, kind: str = "click", run: str = "live") -> tuple[object, ...]:
    identity = f"{unit}{item}{kind}{ts}{run}".ljust(32, "0")
    return (0, 0, identity, run, ts, identity, unit, item, kind, 1.0, 0)


def exposure(unit: str, arm: str, ts: int, experiment: str = "e") -> tuple[object, ...]:
    identity = f"x{unit}{arm}{ts}{experiment}".ljust(32, "0")
    return (0, 0, identity, "live", ts, unit, experiment, 0, 0, arm, "v1", False, False)


def impression(unit: str, item: str, ts: int) -> tuple[object, ...]:
    identity = f"i{unit}{item}{ts}".ljust(32, "0")
    return (0, 0, identity, "live", ts, identity, unit, "a", "v1", item, 0, 0, None, None, False)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with writing(engine) as connection:
        rows = [
            feedback("u2", "b", 500),
            feedback("u1", "c", 900, "like"),
            feedback("u1", "c", 900),
            feedback("u1", "a", 150),
            feedback("u1", "d", 1500),  # held out
            feedback("u1", "z", 50),  # before the window
            feedback("u1", "z", 2000),  # after the watermark
            feedback("u1", "z", 500, run="other"),
            feedback("guest", "e", 600),  # merged into u2
            feedback("u3", "f", 999),
        ]
        insert_new(connection, tables.feedback, rows)
        insert_new(
            connection, tables.impressions, [impression("u2", "shown", 700), impression("u2", "late", 1700)]
        )
        insert_new(
            connection,
            tables.exposures,
            [
                exposure("u1", "A", 400),
                exposure("u1", "B", 300),
                exposure("u2", "B", 550),
                exposure("u3", "A", 1200),
            ],
        )
        connection.execute(
            tables.aliases.insert().values(run="live", anonymous_id="guest", ts=1, unit_id="u2")
        )
    return engine


def test_a_data_set_holds_what_lies_in_its_span(filled: Engine, tmp_path: Path) -> None:
    meta = build(filled, SPAN, tmp_path / "sets" / "day")
    data = DataSet(tmp_path / "sets" / "day")
    assert data.meta == meta
    assert (meta.behaviours, meta.learned, meta.units, meta.items) == (7, 6, 3, 8)
    histories = {one.unit: one.behaviours for one in data.histories()}
    assert set(histories) == {"u1", "u2", "u3"}
    assert histories["u1"] == [
        Behaviour("a", "click", 1.0, 150),
        Behaviour("c", "click", 1.0, 900),
        Behaviour("c", "like", 1.0, 900),
        Behaviour("d", "click", 1.0, 1500),
    ]
    assert [one.item for one in histories["u2"]] == ["b", "e"]  # with the merged id's
    # The catalogue has what was met before the cut, shown or taken.
    assert list(data.items.ids) == ["a", "b", "c", "e", "f", "shown"]
    # The first exposure counts, and only before the cut.
    assert {one.unit: one[2:] for one in data.learnt("e")} == {
        "u1": ("B", 300),
        "u2": ("B", 550),
        "u3": (None, None),
    }


def test_the_same_events_make_the_same_data_set(filled: Engine, tmp_path: Path) -> None:
    first, again = build(filled, SPAN, tmp_path / "one"), build(filled, SPAN, tmp_path / "two")
    assert first.data_hash == again.data_hash
    replaced = build(filled, SPAN._replace(watermark=1200), tmp_path / "one")
    assert replaced.data_hash != first.data_hash
    assert DataSet(tmp_path / "one").meta == replaced
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["one", "two"]


def test_a_lesson_ends_at_the_cut_and_is_mixed_as_asked(filled: Engine, tmp_path: Path) -> None:
    build(filled, SPAN, tmp_path / "day")
    data = DataSet(tmp_path / "day")
    pooled = Lesson(data)
    assert pooled.until == 1000
    assert {one.unit: len(one.behaviours) for one in pooled.histories()} == {"u1": 3, "u2": 2, "u3": 1}
    own = Lesson(data, "own", "B", "e", ("A", "B"))
    assert {one.unit for one in own.histories()} >= {"u1", "u2"}
    assert (
        len({pooled.data_hash, own.data_hash, Lesson(data, "weighted", "B", "e", ("A", "B")).data_hash}) == 3
    )


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    for text in (None, "", "{}", "[]", '{"span": {}}', '{"span": {"run": "live"}, "shards": 3}'):
        if text is not None:
            (tmp_path / "day" / "dataset.json").write_text(text)
        with pytest.raises(InputError, match=r"day: is no data set \(dataset.json cannot be read"):
            DataSet(tmp_path / "day")


def test_a_damaged_file_is_named(filled: Engine, tmp_path: Path) -> None:
    build(filled, SPAN, tmp_path / "day")
    path = tmp_path / "day" / "behaviours" / "00000.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match=r"behaviours/00000.parquet: cannot be read") as refused:
        list(DataSet(tmp_path / "day").histories())
    assert "\n" not in str(refused.value)
    path.unlink()
    with pytest.raises(InputError, match=r"behaviours/00000.parquet: cannot be read"):
        list(Lesson(DataSet(tmp_path / "day"), "weighted", "B", "e", ("A", "B")).histories())
