"""The rollup against plain Python over the same events, whatever the batches; and its cost."""

import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Table, delete, event, select, text

from armlift.aggregates import Question, Stratum, UnitTotals
from armlift.days import DAY_MS, Calendar
from armlift.events import (
    Alias,
    Event,
    Exposure,
    Feedback,
    Impression,
    alias_identity,
    event_identity,
    feedback_identity,
    request_day,
    request_identity,
)
from armlift.metric import METRICS, Measure, cuped_of, measures, window_of
from armlift.rollup import rebuild, roll_up, waiting
from armlift.rollup_rows import Subject
from armlift.stats.aggregates import Aggregates
from armlift.store.database import writing
from armlift.store.partitions import Partitions, expire
from armlift.store.sink import append, insert_new
from armlift.store.tables import aliases, exposures, feedback, impressions, touched_cells, unit_days

CALENDAR = Calendar("Asia/Shanghai")
START = CALENDAR.parse("2022-04-15")
TABLES: dict[type, Table] = {Exposure: exposures, Impression: impressions, Feedback: feedback, Alias: aliases}
METRICS_OF_ALL_KINDS = METRICS.validate_python(
    {
        "clicks": {"kind": "mean", "of": {"event": "click"}},
        "play": {"kind": "mean", "of": {"event": "play", "aggregate": "sum"}},
        "long_plays": {"kind": "mean", "of": {"event": "play", "minimum": 10}},
        "short_play": {"kind": "mean", "of": {"event": "play", "aggregate": "sum", "maximum": 10}},
        "middling": {
            "kind": "mean",
            "of": {"event": "rating", "aggregate": "sum", "minimum": -2, "maximum": 2},
        },
        "days": {"kind": "mean", "of": {"event": "click", "aggregate": "days"}},
        "shown": {"kind": "mean", "of": {"event": "impression"}},
        "clicked": {"kind": "proportion", "of": {"event": "click"}},
        "never": {"kind": "proportion", "of": {"event": "purchase"}},
        "ctr": {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}},
        "play_a_day": {
            "kind": "ratio",
            "numerator": {"event": "play", "aggregate": "sum"},
            "denominator": {"event": "play", "aggregate": "days"},
        },
        "clicks_by_past": {"kind": "mean", "cuped": "30h", "of": {"event": "click"}},
        "back_next_day": {"kind": "retention", "day": 1, "of": {"event": "click", "aggregate": "days"}},
        "back_two_days_on": {"kind": "retention", "day": 2},
        "clicks_first_day": {"kind": "mean", "window": "1d", "of": {"event": "click"}},
        "ctr_36h": {
            "kind": "ratio",
            "window": "36h",
            "numerator": {"event": "click"},
            "denominator": {"event": "impression"},
        },
    }
)
SUBJECTS = [
    Subject("routed", "demo", METRICS_OF_ALL_KINDS, False),
    Subject("paired", "demo", METRICS_OF_ALL_KINDS, True),
]
Rows = list[tuple[Any, ...]]
Happened = tuple[str, float, int]
"""Kind, value, and milliseconds since the first exposure."""


def store(engine: Engine, events: Sequence[Event], subjects: Sequence[Subject] = SUBJECTS) -> None:
    """Store a batch of events, and compute its cells, as the ingester does."""
    keep(engine, events)
    with writing(engine) as connection:
        roll_up(connection, lambda _, runs: [subject for subject in subjects if subject.run in runs])
        assert waiting(connection) == 0


def keep(engine: Engine, events: Sequence[Event]) -> None:
    """Store a batch of events with its marks."""
    rows: dict[Table, Rows] = {table: [] for table in TABLES.values()}
    for one in events:
        table = TABLES[type(one)]
        derived = {"request_day": request_day(one.event_id), "day": CALENDAR.day(one.ts)}
        rows[table].append(tuple(derived.get(c) or getattr(one, c) for c in table.c.keys()))  # noqa: SIM118
    marks: Rows = [
        (e.run, e.anonymous_id, None, None, None)
        if isinstance(e, Alias)
        else (e.run, e.unit_id, None, e.arm, e.ts)
        if isinstance(e, Exposure)
        else (e.run, e.unit_id, CALENDAR.day(e.ts), None, None)
        for e in events
    ]
    Partitions(engine).ensure(request_day(one.event_id) for one in events)
    with writing(engine) as connection:
        for table, some in rows.items():
            insert_new(connection, table, some)
        append(connection, touched_cells, marks)


def stored(engine: Engine) -> Rows:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(select(unit_days)))


def clear(engine: Engine) -> None:
    with writing(engine) as connection:
        for table in (*TABLES.values(), unit_days):
            connection.execute(delete(table))


def recomputed(engine: Engine, subjects: Sequence[Subject] = SUBJECTS) -> Rows:
    """Compute `unit_days` from the event tables, one event at a time."""
    with engine.connect() as connection:
        return sorted(row for subject in subjects for row in recomputed_run(connection, subject))


def recomputed_run(connection: Connection, subject: Subject) -> Iterator[tuple[Any, ...]]:
    tables = [
        connection.execute(select(table).where(table.c.run == subject.run)).all()
        for table in (exposures, impressions, feedback, aliases)
    ]
    merges = {one.anonymous_id: one.unit_id for one in sorted(tables[3], reverse=True)}  # the first one last
    first: dict[tuple[str, str], int] = {}
    for one in tables[0]:
        if one.experiment == subject.experiment:
            key = (merges.get(one.unit_id, one.unit_id), one.arm)
            first[key] = min(one.ts, first.get(key, one.ts))
    arms = defaultdict(set)
    for one in tables[1]:
        arms[one.unit_id, one.day, one.request_id, one.item_id].add(one.arm)
    events = [(one, "impression", 1.0, {one.arm}) for one in tables[1]]
    for one in tables[2]:
        # In a paired run an arm is credited with feedback on what it showed itself.
        shown = arms[one.unit_id, one.day, one.request_id, one.item_id]
        events.append((one, one.kind, one.value, shown))
    events.sort(key=lambda event: event[0].event_id)
    cells: dict[tuple[Any, ...], list[Happened]] = defaultdict(list)
    for (unit, arm), ts in first.items():
        for one, kind, value, of_arms in events:
            if merges.get(one.unit_id, one.unit_id) == unit and (not subject.paired or arm in of_arms):
                side = "post" if one.ts >= ts else "pre"
                cells[unit, one.day, side, arm].append((kind, value, one.ts - ts))
    for (unit, day, side, arm), happened in cells.items():
        for name, metric in subject.metrics.items():
            within, since = window_of(metric) or float("inf"), cuped_of(metric) or float("inf")
            off = day - CALENDAR.day(first[unit, arm])
            early = [
                (kind, value)
                for kind, value, after in happened
                if -since <= after < within and off == getattr(metric, "day", off)
            ]
            parts = {part: matching(measure, early) for part, measure in measures(metric).items()}
            if any(parts.values()):
                num, den = (taken(measures(metric).get(part), parts.get(part, [])) for part in ("num", "den"))
                squares = added(value * value for value in parts["num"])
                yield (subject.run, subject.experiment, unit, day, name, side, arm, num, den, squares)


def matching(measure: Measure, happened: list[tuple[str, float]]) -> list[float]:
    low = float("-inf") if measure.minimum is None else measure.minimum
    high = float("inf") if measure.maximum is None else measure.maximum
    return [value for kind, value in happened if kind == measure.event and low <= value <= high]


def taken(measure: Measure | None, found: list[float]) -> float:
    if measure is None or not found:
        return 0.0
    return {"count": float(len(found)), "sum": added(found), "days": 1.0}[measure.aggregate]


def added(values: Iterable[float]) -> float:
    """Add one after the other: `sum` corrects what rounding takes."""
    return reduce(add, values, 0.0)


# Quarters: their sums and squares are exact in any order.
amounts = st.integers(-100, 400).map(lambda n: n / 4)
moments = st.integers(0, 4 * DAY_MS - 1).map(lambda n: START + n) | st.sampled_from(
    [START + DAY_MS - 1, START + DAY_MS, START + 2 * DAY_MS]
)
runs = st.sampled_from(["routed", "routed", "paired", "paired", "unknown"])
units = st.sampled_from(["u1", "ü|2", "device"])
arms = st.sampled_from(["a", "b"])
requests = st.integers(0, 5).map(lambda n: request_identity(START, str(n)))


def identity(run: str, unit: str, ts: int, *content: object) -> str:
    return event_identity(f"{ts:012x}", repr((run, unit, ts, *content)))


def exposure(run: str, unit: str, ts: int, arm: str, experiment: str) -> Event:
    name = identity(run, unit, ts, arm, experiment)
    return Exposure(name, run, ts, unit, experiment, 0, 0, arm, "1")


def impression(run: str, unit: str, ts: int, arm: str, request: str, item: str) -> Event:
    name = identity(run, unit, ts, arm, request, item)
    return Impression(name, run, ts, request, unit, arm, "1", item, 0, 0, None, None)


def reaction(run: str, unit: str, ts: int, request: str, kind: str, value: float) -> Event:
    name = identity(run, unit, ts, request, kind, value)
    return Feedback(name, run, ts, request, unit, "v", kind, value)


def alias(run: str, ts: int, anonymous_id: str, unit: str) -> Event:
    return Alias(alias_identity(ts, run, anonymous_id, unit), run, ts, unit, anonymous_id)


anything = st.one_of(
    st.builds(alias, runs, moments, st.sampled_from(["device", "ü|2"]), units),
    st.builds(exposure, runs, units, moments, arms, st.sampled_from(["demo", "demo", "demo", "other"])),
    st.builds(impression, runs, units, moments, arms, requests, st.sampled_from(["v", "w"])),
    st.builds(
        reaction, runs, units, moments, requests, st.sampled_from(["click", "play", "rating"]), amounts
    ),
)
histories = st.lists(anything, min_size=15, max_size=45) | st.lists(anything, max_size=5)


def batches(events: Sequence[Event], rng: random.Random) -> Iterator[list[Event]]:
    """Deliver the events in any order and in batches of any size, some of them again."""
    order = [*events, *rng.sample(events, len(events) // 4)]
    rng.shuffle(order)
    while order:
        size = rng.choice((1, 3, 10, len(order)))
        yield order[:size]
        order = order[size:]


def of_hypothesis(examples: int) -> Callable[[Any], Any]:
    shared = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, suppress_health_check=shared)


@of_hypothesis(50)
@given(events=histories, rng=st.randoms(use_true_random=False))
def test_the_rollup_equals_plain_python_whatever_the_batches(
    engine: Engine, events: list[Event], rng: random.Random
) -> None:
    clear(engine)
    for batch in batches(events, rng):
        store(engine, batch)
    assert stored(engine) == recomputed(engine)


def test_an_earlier_exposure_of_another_experiment_hides_none(engine: Engine) -> None:
    store(engine, [reaction("routed", "u1", START, "0" * 32, "click", 1)])
    met = [exposure("routed", "u1", START + ts, "a", name) for ts, name in ((9, "demo"), (5, "other"))]
    store(engine, met)
    assert stored(engine) == recomputed(engine) != []


def test_a_rebuild_makes_the_rollup_of_events_that_came_before_their_run(engine: Engine) -> None:
    rng = random.Random(8)
    events = [*history(rng, unit_count=4, days=3), *history(rng, unit_count=4, days=3, run="paired")]
    store(engine, events)
    whole = stored(engine)
    clear(engine)
    store(engine, events, [])
    assert stored(engine) == []
    for subject in SUBJECTS:
        with writing(engine) as connection:
            rebuild(connection, subject)
    assert stored(engine) == whole
    with writing(engine) as connection:
        rebuild(connection, SUBJECTS[0])
        rebuild(connection, Subject("unknown", "demo", METRICS_OF_ALL_KINDS, False))
    assert stored(engine) == whole


def test_days_that_lost_events_to_retention_keep_what_they_counted(engine: Engine) -> None:
    """A first exposure that moves, or a rebuild, computes only days that have all their events."""
    asked = request_identity(START, "old")
    long_after = Feedback(
        feedback_identity(asked, "v", "click", 0),
        "routed",
        START + 20 * DAY_MS,
        asked,
        "u1",
        "v",
        "click",
        1.0,
    )
    recent = [
        reaction("routed", "u1", START + day * DAY_MS + 1, asked, "click", 1.0) for day in (0, 20, 40, 42)
    ]
    store(engine, [exposure("routed", "u1", START + 41 * DAY_MS, "a", "demo"), long_after, *recent])
    before = [row for row in stored(engine) if row[4] == "clicks"]
    first = before[0][3]
    assert [(row[3] - first, row[5], row[7]) for row in before] == [
        (0, "pre", 1.0),
        (20, "pre", 2.0),
        (40, "pre", 1.0),
        (42, "post", 1.0),
    ]
    expire(engine, START // DAY_MS + 2)
    store(engine, [exposure("routed", "u1", START - DAY_MS, "a", "demo")])
    moved = [row for row in stored(engine) if row[4] == "clicks"]
    assert [(row[3] - first, row[5], row[7]) for row in moved] == [
        (0, "pre", 1.0),
        (20, "pre", 2.0),
        (40, "post", 1.0),
        (42, "post", 1.0),
    ]
    everything = stored(engine)
    with writing(engine) as connection:
        rebuild(connection, SUBJECTS[0])
    assert stored(engine) == everything


def history(rng: random.Random, *, unit_count: int, days: int, run: str = "routed") -> list[Event]:
    """Give units that meet an arm on some day, with impressions and feedback of any value on all days."""
    events: list[Event] = []
    for number in range(unit_count):
        unit, arm = f"u{number}", rng.choice("ab")
        events.append(exposure(run, unit, START + rng.randrange(days * DAY_MS), arm, "demo"))
        for day in range(days):
            request = request_identity(START + day * DAY_MS, f"{run}{unit}")
            for place in range(6):
                ts = START + day * DAY_MS + rng.randrange(DAY_MS)
                events.append(impression(run, unit, ts, arm, request, f"v{place}"))
                kind = rng.choice(("click", "play", "rating"))
                events.append(reaction(run, unit, ts, request, kind, rng.lognormvariate(0, 3)))
    return events


def test_sums_are_equal_bit_for_bit_whatever_the_batches(engine: Engine) -> None:
    events = history(random.Random(1), unit_count=3, days=3)
    store(engine, events)
    expected = recomputed(engine)
    assert stored(engine) == expected
    for seed in range(8):
        clear(engine)
        for batch in batches(events, random.Random(seed)):
            store(engine, batch)
        assert stored(engine) == expected


def test_an_exposure_that_arrives_late_moves_days_long_stored(engine: Engine) -> None:
    """The first known exposure turns out not to be the first, then another arm turns up."""
    events = [reaction("routed", "u1", START + day * DAY_MS, "0" * 32, "click", 1) for day in range(4)]
    store(engine, events)
    assert not stored(engine)

    def sides() -> dict[str, str]:
        found: dict[str, str] = defaultdict(str)
        for row in stored(engine):
            if row[4] == "clicks":
                found[row[6]] += row[5][:2] + " "
        return found

    store(engine, [exposure("routed", "u1", START + 2 * DAY_MS, "a", "demo")])
    assert sides() == {"a": "pr pr po po "}
    store(engine, [exposure("routed", "u1", START + DAY_MS, "a", "demo")])
    assert sides() == {"a": "pr po po po "}
    store(engine, [exposure("routed", "u1", START + 3 * DAY_MS, "a", "demo")])
    assert sides() == {"a": "pr po po po "}
    store(engine, [exposure("routed", "u1", START + 3 * DAY_MS, "b", "demo")])
    assert sides() == {"a": "pr po po po ", "b": "pr pr pr po "}


def test_events_of_one_run_or_experiment_move_no_other(engine: Engine) -> None:
    store(engine, history(random.Random(2), unit_count=3, days=2))
    before = stored(engine)
    store(engine, history(random.Random(3), unit_count=3, days=2, run="paired"))
    store(engine, [exposure("routed", "u1", START, "a", "other")])
    after = stored(engine)
    assert [row for row in after if row[0] == "routed"] == before
    assert len(after) > len(before)


def test_windows_equal_numpy(engine: Engine) -> None:
    """Only [first exposure, first exposure + window) counts, and units whose window is over."""
    metrics = METRICS.validate_python(
        {
            f"plays_{window}": {
                "kind": "mean",
                "window": window,
                "of": {"event": "play", "aggregate": "sum"},
            }
            for window in ("1d", "90m", "60h")
        }
    )
    subject = Subject("routed", "demo", metrics, False)
    events = history(random.Random(9), unit_count=60, days=5)
    firsts = [one for one in events if isinstance(one, Exposure)]
    for one in firsts[:10]:  # an event at each edge of each window
        for window in map(window_of, metrics.values()):
            for off in (-1, 0):
                ts = one.ts + (window or 0) + off
                events.append(reaction("routed", one.unit_id, ts, "0" * 32, "play", 1000.0))
    for batch in batches(events, random.Random(9)):
        store(engine, batch, [subject])
    plays = [one for one in events if isinstance(one, Feedback) and one.kind == "play"]
    times, values = np.array([one.ts for one in plays]), np.array([one.value for one in plays])
    unit_of = np.array([one.unit_id for one in plays])
    left_out = set()
    for at in (START + 2 * DAY_MS + 5_000_000, START + 4 * DAY_MS, START + 9 * DAY_MS):
        with engine.connect() as connection:
            question = Question("routed", "demo", False, at, CALENDAR.day(at))
            totals = UnitTotals(connection, question, metrics)
            opened = totals.too_young()
            for name, metric in metrics.items():
                length = window_of(metric)
                assert length
                met = [one for one in firsts if one.ts <= at]
                whole = [one for one in met if one.ts + length - 1 <= at]
                assert opened[name] == len(met) - len(whole)
                left_out.add(opened[name])
                found = totals.by_stratum(name)
                for arm in "ab":
                    sums = [
                        values[(unit_of == e.unit_id) & (times >= e.ts) & (times < e.ts + length)].sum()
                        for e in whole
                        if e.arm == arm
                    ]
                    of_arm = found.get(Stratum(arm, 0, 0), Aggregates.empty(("num",)))
                    assert of_arm.n == len(sums)
                    if sums:
                        assert of_arm.mean("num") == pytest.approx(np.mean(sums), rel=1e-12)
                        assert of_arm.variance("num") == pytest.approx(np.var(sums, ddof=1))
    assert 0 in left_out
    assert len(left_out) > 3


def test_merged_units_equal_numpy_whatever_the_order(engine: Engine) -> None:
    """Half of the units did half of what they did under other names; figures are as if they had not."""
    known = history(random.Random(10), unit_count=40, days=4)
    rng = random.Random(11)
    events: list[Event] = []
    for one in known:
        number = int(one.unit_id[1:])
        other = f"device{number}-{rng.randrange(2)}"
        split = number % 2 and rng.random() < 0.5
        events.append(msgspec.structs.replace(one, unit_id=other) if split else one)
    for number in range(1, 40, 2):
        for device in range(2):
            name = f"device{number}-{device}"
            events.append(alias("routed", START + rng.randrange(9 * DAY_MS), name, f"u{number}"))
            late = START + 10 * DAY_MS + number
            events.append(alias("routed", late, name, "u0"))  # a second claim, which comes too late
    subject, runs_found = SUBJECTS[0], []
    store(engine, known, [subject])
    expected, question = stored(engine), Question("routed", "demo", False, START + 9 * DAY_MS, 30_000)
    for seed in range(3):
        clear(engine)
        for batch in batches(events, random.Random(seed)):
            store(engine, batch, [subject])
        found = stored(engine)
        assert [row[:7] for row in found] == [row[:7] for row in expected]
        sums, wanted = (np.array([row[7:] for row in rows]) for rows in (found, expected))
        np.testing.assert_allclose(sums, wanted, rtol=1e-12)
        runs_found.append(found)
        with engine.connect() as connection:
            totals = UnitTotals(connection, question, METRICS_OF_ALL_KINDS)
            assert totals.left_out() == {"forced": 0, "several_arms": 0}
            firsts = {one.unit_id: one for one in known if isinstance(one, Exposure)}
            clicked = [one for one in known if isinstance(one, Feedback) and one.kind == "click"]
            times, unit_of = np.array([e.ts for e in clicked]), np.array([e.unit_id for e in clicked])
            for arm in "ab":
                counts = [
                    np.count_nonzero((unit_of == unit) & (times >= e.ts))
                    for unit, e in firsts.items()
                    if e.arm == arm
                ]
                aggregates = totals.by_stratum("clicks")[Stratum(arm, 0, 0)]
                assert aggregates.n == len(counts)
                assert aggregates.mean("num") == pytest.approx(np.mean(counts))
    assert runs_found[0] == runs_found[1] == runs_found[2]  # bit for bit


def test_a_merge_moves_days_long_stored_and_an_earlier_one_moves_them_again(engine: Engine) -> None:
    store(
        engine, [reaction("routed", "device", START + day * DAY_MS, "0" * 32, "click", 1) for day in (0, 3)]
    )
    store(engine, [reaction("routed", "u1", START + DAY_MS, "0" * 32, "click", 1)])
    store(engine, [exposure("routed", "u1", START + DAY_MS, "a", "demo")])

    def clicks() -> list[tuple[str, int, str]]:
        first = CALENDAR.day(START)
        return [(row[2], row[3] - first, row[5]) for row in stored(engine) if row[4] == "clicks"]

    assert clicks() == [("u1", 1, "post")]
    store(engine, [alias("routed", START + 5, "device", "u1")])
    assert clicks() == [("u1", 0, "pre"), ("u1", 1, "post"), ("u1", 3, "post")]
    store(engine, [exposure("routed", "device", START, "a", "demo")])
    assert clicks() == [("u1", 0, "post"), ("u1", 1, "post"), ("u1", 3, "post")]
    store(engine, [alias("routed", START + 4, "device", "u2")])
    assert clicks() == [("u1", 1, "post"), ("u2", 0, "post"), ("u2", 3, "post")]
    store(engine, [alias("routed", START + 6, "device", "u3"), alias("paired", START, "device", "u3")])
    assert clicks() == [("u1", 1, "post"), ("u2", 0, "post"), ("u2", 3, "post")]


@contextmanager
def statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is executed meanwhile."""
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        if not many:
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("analysed", [False, True])
def test_no_query_reads_a_whole_run(engine: Engine, analysed: bool) -> None:
    store(engine, history(random.Random(4), unit_count=50, days=4))
    if analysed:
        with writing(engine) as connection:
            connection.execute(text("ANALYZE"))
    plans = []
    for subject in SUBJECTS:
        with statements(engine) as seen:
            new = history(random.Random(5), unit_count=3, days=1, run=subject.run)
            store(engine, [*new, alias(subject.run, START, "device", "u1")], [subject])
        with engine.connect() as connection:
            for statement, parameters in seen:
                # Whether there is any alias is told by the first one.
                if (
                    re.match("WITH|SELECT(?! aliases.run)|INSERT|DELETE", statement)
                    and "sqlite_" not in statement
                ):
                    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                    plans += [row.detail for row in plan]
    tables = r"\b(impressions|feedback|exposures|unit_days|aliases)"
    on_tables = [plan for plan in plans if re.search(tables, plan)]
    assert len(on_tables) >= 20
    for plan in on_tables:
        assert "unit_id=?" in plan or "anonymous_id=?" in plan, plans


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_postgresql_looks_up_what_it_has_not_counted(engine: Engine) -> None:
    """When a run seems to it as rare as a unit, and reading everything as good as an index."""
    store(engine, history(random.Random(4), unit_count=1000, days=2))
    with statements(engine) as seen:
        new = [exposure("routed", f"u{unit}", START - 1, "a", "demo") for unit in range(30)]
        store(engine, [*new, alias("routed", START, "device", "u1")])
    conditions = []
    with writing(engine) as connection:
        for statement, parameters in seen:
            if statement.startswith("SET LOCAL"):
                connection.exec_driver_sql(statement)
            elif re.match("WITH|INSERT INTO (named|moved|unit_days)|DELETE FROM unit_days", statement):
                lines = [*connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()]
                tables = "Scan .* on ((impressions|feedback)_20220415|exposures|unit_days)"
                conditions += [pair for pair in pairwise(lines) if re.search(tables, pair[0])]
    looked_up = [pair for pair in conditions if "TID Cond" not in pair[1]]
    assert len(looked_up) >= 9
    for pair in looked_up:
        assert re.search(r"Index Cond: .*unit_id\)?(::text)? = ", pair[1]), pair


def test_each_cell_of_a_backlog_is_computed_once(engine: Engine) -> None:
    """An experiment of the same run that needs other cells loses none."""
    both = [SUBJECTS[0], Subject("routed", "other", METRICS_OF_ALL_KINDS, False)]
    rng = random.Random(8)
    for part in batches(history(rng, unit_count=40, days=4), rng):
        keep(engine, part)
    later = [exposure("routed", f"u{unit}", START + 2 * DAY_MS, "b", "other") for unit in range(40)]
    keep(engine, [*later, alias("routed", START, "u3", "u4")])
    with engine.connect() as connection:
        marks = waiting(connection)
    done = []
    while True:
        with writing(engine) as connection:
            done.append(roll_up(connection, lambda _, __: both, marks=20))
        if not done[-1]:
            break
    assert sum(done) == marks
    assert len(done) < marks / 20 / 2
    found = stored(engine)
    assert found == recomputed(engine, both)
    for subject in both:
        with writing(engine) as connection:
            rebuild(connection, subject)
    assert stored(engine) == found


def test_a_batch_costs_the_same_however_much_is_stored(engine: Engine) -> None:
    new = history(random.Random(6), unit_count=30, days=1)

    def seconds() -> float:
        if engine.dialect.name == "postgresql":
            with writing(engine) as connection:
                connection.execute(text("ANALYZE"))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            store(engine, new)
            times.append(time.perf_counter() - start)
        return min(times)

    stored_before = history(random.Random(7), unit_count=1000, days=2)
    store(engine, stored_before[: len(stored_before) // 10])
    little = seconds()
    store(engine, stored_before)
    assert seconds() < 3 * little
