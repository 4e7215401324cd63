"""What prompts were worth on the day after, against NumPy over the same events, on both databases."""

import numpy as np
import pytest
from sqlalchemy import Engine

from armlift.days import DAY_MS, utc_day
from armlift.events import feedback_identity, impression_identity, request_identity
from armlift.store.database import reading, writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback, impressions, prompts
from armlift_pipelines.prompt_quality import PromptQuality, prompt_quality, stored_versions

WRITTEN = 19_700 * DAY_MS + 12_345
UNTIL = WRITTEN + DAY_MS


def said(unit: str, item: str, *, position: int = 5, step: int = 0, **other: object) -> tuple[object, ...]:
    told = {"arm": "recgpt", "version": "v1", "score": 0.5, "written": WRITTEN} | other
    place = told["arm"], told["version"], unit, position, step
    return (*place, item, told["score"], "i0", WRITTEN - 9, "0" * 32, told["written"])


def did(unit: str, item: str, ts: int = WRITTEN + 5, kind: str = "click") -> tuple[object, ...]:
    request = request_identity(ts, f"{unit}{item}{kind}")
    days = utc_day(ts), utc_day(ts)
    return (*days, feedback_identity(request, item, kind, 0), "r", ts, request, unit, item, kind, 1.0, 0)


def saw(unit: str, item: str, ts: int = WRITTEN + 5) -> tuple[object, ...]:
    request = request_identity(ts, f"{unit}{item}")
    head = utc_day(ts), utc_day(ts), impression_identity(request, item), "r", ts, request, unit
    return (*head, "recgpt", "v1", item, 0, 0, None, None, False)


def store(engine: Engine, **rows: list[tuple[object, ...]]) -> None:
    tables = {"prompts": prompts, "feedback": feedback, "impressions": impressions}
    with writing(engine) as connection:
        for name, some in rows.items():
            assert insert_new(connection, tables[name], some) == len(some)


def quality(engine: Engine, kinds: list[str] | None = None) -> PromptQuality:
    with reading(engine) as connection:
        return prompt_quality(connection, "r", "recgpt", "v1", WRITTEN, UNTIL, kinds)


def test_by_hand(engine: Engine) -> None:
    store(
        engine,
        prompts=[
            said("a", "x"), said("a", "y", step=1, score=0.9),
            said("b", "x"), said("b", "z", position=2),  # answered long since: not what it says of tomorrow
            said("c", "w", score=0.1),
            said("d", "x", written=WRITTEN + 1), said("e", "x", version="v2"),
        ],
        feedback=[
            did("a", "y"), did("a", "y", kind="like"), did("b", "z"), did("c", "w", kind="hate"),
            did("b", "x", ts=UNTIL), did("b", "x", ts=WRITTEN - 1),
        ],
        impressions=[saw("a", "x"), saw("a", "q"), saw("b", "x", UNTIL), saw("c", "w"), saw("d", "x")],
    )  # fmt: skip
    found = quality(engine)
    assert found[:7] == ("recgpt", "v1", WRITTEN, UNTIL, 3, 3, 4)
    assert found[7:] == pytest.approx((2 / 3, 2 / 4, 3 / 4, (0.5 + 0.9 + 0.5 + 0.1) / 4))
    chosen = quality(engine, ["click", "like"])
    assert chosen.active == 2
    assert chosen.hit == pytest.approx(1 / 3)
    with reading(engine) as connection:
        assert stored_versions(connection, WRITTEN + 1) == [
            ("recgpt", "v1", WRITTEN), ("recgpt", "v2", WRITTEN),
        ]  # fmt: skip
        assert stored_versions(connection, WRITTEN) == []


def test_many_units_are_numpys(engine: Engine) -> None:
    random = np.random.default_rng(0)
    units, items = 60, 25
    table = np.array([random.choice(items, 4, replace=False) for _ in range(units)])
    taken, shown = random.random((units, items)) < 0.1, random.random((units, items)) < 0.3
    scores = random.random((units, 4))
    store(
        engine,
        prompts=[
            said(f"u{u}", f"i{table[u, s]}", step=s, score=float(scores[u, s]))
            for u in range(units) for s in range(4)
        ],
        feedback=[did(f"u{u}", f"i{i}") for u, i in np.argwhere(taken)],
        impressions=[saw(f"u{u}", f"i{i}") for u, i in np.argwhere(shown)],
    )  # fmt: skip
    rows = np.arange(units)[:, None]
    assert quality(engine)[4:] == pytest.approx(
        (
            units, taken.any(axis=1).sum(), 4 * units, taken[rows, table].any(axis=1).mean(),
            shown[rows, table].mean(), len(np.unique(table)) / (4 * units), scores.mean(),
        )
    )  # fmt: skip


def test_without_prompts_there_is_nothing_to_tell(engine: Engine) -> None:
    store(engine, feedback=[did("a", "x")])
    found = quality(engine)
    assert found[4:] == (0, 0, 0, None, None, None, None)
    assert found.as_dict()["hit"] is None
