"""Offline evaluation on the platform's own events, against numbers computed by hand."""

from collections.abc import Iterator, Mapping, Sequence
from math import log2
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from armlift.arm import Prompt, Request, Slate
from armlift.store.database import connect, writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback, impressions
from armlift_arms.popularity import Popularity, PopularityConfig
from armlift_pipelines import next_day
from armlift_pipelines.dataset import DataSet, Span
from armlift_pipelines.dataset_build import build_from_sql as build
from armlift_pipelines.next_day import Outcome, compared, held_out, measure

CLICKS = ("click",)


class Fixed(Popularity):
    """Answers what it was told to, and says prompts."""

    answers: Mapping[str, Sequence[str]]
    says: Mapping[int, str]
    capabilities = Popularity.capabilities | {"prompts"}

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        return [self._slate(one) for one in requests]

    def _slate(self, request: Request) -> Slate:
        items = self.answers.get(request.unit, ())[: request.k]
        n, at = len(items), len(request.history)
        said = [Prompt(at - 1, 0, self.says[at])] if at in self.says else []
        return Slate(items, [0.0] * n, [0] * n, [1.0] * n, prompts=said)


def fixed(answers: Mapping[str, Sequence[str]], says: Mapping[int, str] | None = None) -> Fixed:
    arm = Fixed(PopularityConfig(name="fixed", model="popularity"))
    arm.answers, arm.says = answers, says or {}
    return arm


def row(unit: str, item: str, ts: int, kind: str = "click") -> tuple[object, ...]:
    identity = f"{unit}{item}{kind}{ts}".ljust(32, "0")
    return (0, 0, identity, "live", ts, identity, unit, item, kind, 1.0, 0)


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "armlift.db").write_bytes(sqlite_template.read_bytes())
    engine = connect(f"sqlite:///{tmp_path / 'armlift.db'}", tmp_path)
    yield engine
    engine.dispose()


def data_of(database: Engine, rows: list[tuple[object, ...]], folder: Path) -> DataSet:
    with writing(database) as connection:
        insert_new(connection, feedback, rows)
    build(database, Span("live", 0, 1000, 2000), folder)
    return DataSet(folder)


ROWS = [
    row("u1", "a", 1),
    row("u1", "b", 2),
    row("u1", "c", 1100),
    row("u1", "d", 1200),
    row("u1", "a", 1300),  # met before
    row("u1", "e", 1400, "hate"),  # not asked for
    row("u2", "c", 3),
    row("u2", "d", 1500),
    row("u3", "a", 4),  # nothing later
    row("u4", "a", 1600),  # nothing before
    row("u5", "a", 5),
    row("u5", "a", 1700),  # nothing new
]


def test_who_is_asked_for_what(database: Engine, tmp_path: Path) -> None:
    test = held_out(data_of(database, ROWS, tmp_path / "day"), "fixed", CLICKS, 200, 1)
    assert test.units == 2
    assert {one.request.unit: [*one.targets] for one in test.asked} == {"u1": ["c", "d"], "u2": ["d"]}
    (first,) = [one.request for one in test.asked if one.request.unit == "u1"]
    assert [one.item for one in first.history] == ["a", "b"]
    assert first.ts == 1100


def test_a_history_keeps_its_latest_behaviours_and_meets_what_it_met(
    database: Engine, tmp_path: Path
) -> None:
    test = held_out(data_of(database, ROWS, tmp_path / "day"), "fixed", CLICKS, 1, 1)
    (first,) = [one for one in test.asked if one.request.unit == "u1"]
    assert [one.item for one in first.request.history] == ["b"]
    assert [*first.targets] == ["c", "d"]  # `a` was met, though the history no longer tells


def test_units_that_the_arm_served_are_left_out_where_enough_others_remain(
    database: Engine, tmp_path: Path
) -> None:
    with writing(database) as connection:
        places = [("u1", "fixed", 1050), ("u2", "other", 1050), ("u2", "fixed", 9)]
        shown = [
            (0, 0, f"i{n}".ljust(32, "0"), "live", ts, "r", unit, arm, "v", "c", 0, 0, None, None, False)
            for n, (unit, arm, ts) in enumerate(places)
        ]
        insert_new(connection, impressions, shown)
    data = data_of(database, ROWS, tmp_path / "day")
    neutral = held_out(data, "fixed", CLICKS, 200, 1)
    assert neutral.neutral
    assert [one.request.unit for one in neutral.asked] == ["u2"]
    everybody = held_out(data, "fixed", CLICKS, 200, 2)
    assert not everybody.neutral
    assert everybody.units == 2
    assert [one.request.unit for one in held_out(data, "other", CLICKS, 200, 1).asked] == ["u1"]


def test_a_sample_is_asked_where_there_are_many(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(f"u{n}", item, ts) for n in range(30) for item, ts in (("a", 1), ("b", 1500))]
    data = data_of(database, rows, tmp_path / "day")
    monkeypatch.setattr(next_day, "MOST_UNITS", 7)
    test = held_out(data, "fixed", CLICKS, 200, 1)
    assert (test.units, len(test.asked)) == (30, 7)
    assert held_out(data, "fixed", CLICKS, 200, 1).asked == test.asked


def test_figures_by_hand(database: Engine, tmp_path: Path) -> None:
    data = data_of(database, ROWS, tmp_path / "day")
    test = held_out(data, "fixed", CLICKS, 200, 1)
    found = measure(fixed({"u1": ["x", "d", "c"], "u2": ["a", "b"]}), data, test).metrics
    ideal = 1 + 1 / log2(3)
    assert found["HR@10"] == found["HR@20"] == 0.5
    assert found["NDCG@10"] == pytest.approx((1 / log2(3) + 1 / 2) / ideal / 2)
    assert found["coverage@10"] == 5 / 3  # x and d are in no catalogue, which holds a, b and c
    assert found["milliseconds"] > 0
    assert "prompt_gap" not in found


def test_the_order_of_what_was_shown_by_hand(database: Engine, tmp_path: Path) -> None:
    shown = {"u1": ["a", "c", "x", "y"], "u2": ["d"]}  # `a` was met before; u2 took all it was shown
    with writing(database) as connection:
        rows = [
            (
                0,
                0,
                f"{unit}{item}".ljust(32, "0"),
                "live",
                1050,
                "r",
                unit,
                "other",
                "v",
                item,
                0,
                0,
                0,
                0,
                False,
            )
            for unit, items in shown.items()
            for item in items
        ]
        insert_new(connection, impressions, rows)
    data = data_of(database, ROWS, tmp_path / "day")
    test = held_out(data, "fixed", CLICKS, 200, 1)
    asked = {one.request.unit: one.reranked for one in test.asked}
    assert asked["u2"] is None
    one = asked["u1"]
    assert one is not None
    assert one.request.candidates == ["c", "x", "y"]
    assert one.targets == ["c"]
    found = measure(fixed({"u1": ["x", "c", "y"], "u2": ["a"]}), data, test)
    assert found.gains["rerank_NDCG@10"].tolist() == [pytest.approx(1 / log2(3))]
    assert len(found.gains["NDCG@10"]) == 2


def test_the_gap_between_what_prompts_know_and_what_they_tell(database: Engine, tmp_path: Path) -> None:
    rows = [row(f"u{n}", item, ts) for n in range(10) for ts, item in enumerate("abc")]
    rows += [row(f"u{n}", "d" if n < 3 else "e", 1500) for n in range(10)]
    data = data_of(database, rows, tmp_path / "day")
    test = held_out(data, "fixed", CLICKS, 200, 1)
    # After two items it says the third, which all took; after three it says `d`, which three of ten took.
    found = measure(fixed({}, {2: "c", 3: "d"}), data, test).metrics
    assert found["prompt_gap"] == pytest.approx(1.0 - 0.3)


def test_miscalibration_tells_popular_slates_from_what_is_taken(database: Engine, tmp_path: Path) -> None:
    rows = [row(f"u{n}", f"i{n % 20:02}", 1 + n) for n in range(100)]
    rows += [row(f"u{n}", f"i{(n + 7) % 20:02}", 1500) for n in range(100)]
    data = data_of(database, rows, tmp_path / "day")
    test = held_out(data, "fixed", CLICKS, 200, 1)
    alike = measure(fixed({one.request.unit: [*one.targets] for one in test.asked}), data, test)
    one_item = measure(fixed({one.request.unit: ["i00"] for one in test.asked}), data, test)
    assert alike.metrics["miscalibration@10"] == pytest.approx(0.0, abs=1e-12)
    # All slates in the first of ten groups: 1 / 2 (log2(1 / .55) + .1 log2(.1 / .55) + .9 log2(.9 / .45)).
    expected = (log2(1 / 0.55) + 0.1 * log2(0.1 / 0.55) + 0.9) / 2
    assert one_item.metrics["miscalibration@10"] == pytest.approx(expected)


def test_comparisons_are_paired() -> None:
    random = np.random.default_rng(0)
    before = random.random(400)
    after = before * random.normal(1.1, 0.01, 400)
    found = compared(Outcome({"NDCG@10": after}, {}), Outcome({"NDCG@10": before}, {}), 0.05)["NDCG@10"]
    assert found.lift == pytest.approx(0.1, abs=0.001)
    assert found.lift_low is not None
    assert found.lift_low > 0.098  # units differ a lot, pairs little
    assert found.units == 400
