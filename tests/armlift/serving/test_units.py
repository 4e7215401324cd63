"""Serving knows what units did: told or stored, in whatever order, with the ids that were merged."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from armlift.arm import Behaviour
from armlift.batch import Batch
from armlift.days import DAY_MS, Calendar
from armlift.events import (
    Alias,
    Event,
    Exposure,
    Feedback,
    Impression,
    alias_identity,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import write
from armlift.segments import tell
from armlift.serving.units import Unit, UnitFigures, Units
from armlift.splitter import Assignment
from armlift.store.database import DATABASE_ERRORS, writing
from armlift.store.partitions import Partitions

NOW = time.time_ns() // 1_000_000
LIMIT = 3
IDS = "abcd"


def feedback(
    unit: str,
    ts: int,
    item: str = "x",
    kind: str = "click",
    *,
    run: str = "live",
    late: int = 0,
    value: float = 1,
) -> Feedback:
    request = request_identity(ts - late * DAY_MS, f"{run}{unit}{ts}")
    identity = feedback_identity(request, item, kind, 0)
    return Feedback(identity, run, ts, request, unit, item, kind, float(value))


def exposure(
    unit: str, ts: int, arm: str = "one", experiment: str = "demo", *, forced: bool = False
) -> Exposure:
    identity = exposure_identity(ts, "live", unit, experiment, arm)
    return Exposure(identity, "live", ts, unit, experiment, 2, 1, arm, "v", forced)


def alias(anonymous: str, unit: str, ts: int) -> Alias:
    return Alias(alias_identity(ts, "live", anonymous, unit), "live", ts, unit, anonymous)


def ingest(engine: Engine, events: Sequence[Event]) -> None:
    batch = Batch(Calendar("UTC"))
    batch.add(events)
    Partitions(engine).ensure(batch.request_days)
    with writing(engine) as connection:
        write(connection, batch)


def read(units: Units, *ids: str) -> list[Unit]:
    return units.read([("live", one) for one in ids])


def items(unit: Unit | None) -> list[str] | None:
    return None if unit is None else [one.item for one in unit.history]


@contextmanager
def statements(
    engine: Engine, then: Callable[[str], None] = lambda _: None
) -> Iterator[list[tuple[str, Any]]]:
    """Note the statements and their parameters; `then` is called after each."""
    noted: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement != "BEGIN":
            noted.append((statement, parameters))
            then(statement)

    event.listen(engine, "after_cursor_execute", note)
    yield noted
    event.remove(engine, "after_cursor_execute", note)


def test_a_unit_is_read_as_it_is_stored(engine: Engine) -> None:
    request = request_identity(NOW, "r")
    shown = Impression(
        impression_identity(request, "x"), "live", NOW, request, "u", "one", "v", "x", 0, 0, None, None
    )
    did = [
        feedback("u", NOW, "b", "play", value=2.5),
        feedback("u", NOW, "b"),
        feedback("u", NOW, "a", "play"),
        feedback("u", NOW - 70 * DAY_MS, "old"),
        feedback("u", NOW, "z", run="other"),
        feedback("v", NOW, "w"),
    ]
    exposed = [
        exposure("u", NOW - 9, "forced", forced=True),
        exposure("u", NOW, "two"),
        exposure("u", NOW, "one"),
        exposure("u", NOW + 1, "one"),
        exposure("u", NOW + 1, "a", "other"),
    ]
    ingest(engine, [*did, *exposed, shown])
    with writing(engine) as connection:
        for attribute in ("country", "age"):
            tell(connection, "live", attribute, [("u", NOW, "de"), ("w", NOW, "fr")])
    units = Units(engine, limit=5)
    assert units.known("live", "u") is None
    met = Assignment("one", True, "stored", 1, 2)
    history = (
        Behaviour("old", "click", 1.0, NOW - 70 * DAY_MS),
        Behaviour("a", "play", 1.0, NOW),
        Behaviour("b", "click", 1.0, NOW),
        Behaviour("b", "play", 2.5, NOW),
    )
    told = {"country": "de", "age": "de"}
    expected = Unit(history, {"demo": met, "other": met._replace(arm="a")}, told, "u")
    nobody = Unit((), {}, {}, "nobody")
    elsewhere = Unit((Behaviour("z", "click", 1.0, NOW),), {}, {}, "u")
    asked = [("live", "u"), ("live", "u"), ("live", "nobody"), ("other", "u")]
    assert units.read(asked) == [expected, expected, nobody, elsewhere]
    assert units.known("live", "u") == expected
    assert units.known("live", "nobody") == nobody
    assert units.figures == UnitFigures(3, 2, 3, 2, 0, 0)
    [newest] = read(Units(engine, limit=2), "u")
    assert newest.history == expected.history[-2:]


def test_late_feedback_is_among_the_newest(engine: Engine) -> None:
    """The partition of its request is an old one, and of many days nothing else was done."""
    ingest(
        engine,
        [
            feedback("u", NOW - day * DAY_MS, f"{day}", late=late)
            for day, late in ((1, 31), (13, 31), (14, 0), (40, 20), (90, 0))
        ],
    )
    for limit, expected in ((1, ["1"]), (2, ["13", "1"]), (4, ["40", "14", "13", "1"])):
        assert items(read(Units(engine, limit=limit), "u")[0]) == expected


def test_many_units_are_read_by_few_statements_that_use_indexes(engine: Engine) -> None:
    ids = [f"u{number}" for number in range(64)]
    ingest(engine, [feedback(one, NOW - number, f"{number}") for one in ids for number in range(9)])
    units = Units(engine, limit=LIMIT)
    with statements(engine) as noted:
        assert [items(unit) for unit in read(units, *ids)] == [["2", "1", "0"]] * 64
        count = len(noted)
        read(units, *ids)
        assert len(noted) == count
    if engine.dialect.name == "postgresql":
        assert count == 5
        return
    assert count == 64 + 3
    with engine.connect() as connection:
        for statement, parameters in noted:
            plan = [
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
            scans = [line for line in plan if line.startswith("SCAN ")]
            assert all(line.split()[1].startswith(("ids", "names_of_")) for line in scans), plan


def test_what_is_told_counts_at_once_and_once(engine: Engine) -> None:
    units = Units(engine, limit=LIMIT)
    told = [feedback("u", NOW + number, f"{number}") for number in range(4)]
    units.apply([told[2], exposure("u", NOW, "forced", forced=True)])
    assert units.known("live", "u") is None, "who was not read is not known"
    ingest(engine, told[:2])
    for _ in range(2):
        assert items(read(units, "u")[0]) == ["0", "1", "2"]
        units.apply([told[2], told[1]])
    units.apply([told[3], exposure("u", NOW + 5, "two"), exposure("u", NOW + 5, "one")])
    unit = units.known("live", "u")
    assert items(unit) == ["1", "2", "3"]
    assert unit is not None
    assert unit.exposed == {"demo": Assignment("one", True, "stored", 1, 2)}
    assert units.figures.reads == 1
    units.forget_read()
    assert units.known("live", "u") is None
    assert read(units, "u") == [unit]


def test_a_merge_counts_at_once_and_the_first_one_wins(engine: Engine) -> None:
    units = Units(engine, limit=9)
    ingest(
        engine,
        [feedback("anon", NOW, "stored"), feedback("u", NOW + 1, "mine"), feedback("v", NOW + 1, "yours")],
    )
    units.apply([feedback("anon", NOW + 2, "told"), exposure("anon", NOW)])
    assert [items(unit) for unit in read(units, "u", "anon")] == [["mine"], ["stored", "told"]]
    units.apply([alias("anon", "u", NOW + 5)])
    assert units.known("live", "u") is units.known("live", "anon") is None
    merged, same = read(units, "u", "anon")
    assert items(merged) == ["stored", "mine", "told"]
    assert (merged, merged.counts_as, [*merged.exposed]) == (same, "u", ["demo"])
    units.apply([feedback("anon", NOW + 3, "later")])
    assert items(units.known("live", "u")) == ["stored", "mine", "told", "later"]
    units.apply([alias("anon", "v", NOW + 6), alias("anon", "u", NOW + 5)])
    assert items(read(units, "u")[0]) == ["stored", "mine", "told", "later"]
    ingest(engine, [alias("anon", "v", NOW + 4)])
    units.forget_read()
    assert [items(unit) for unit in read(units, "anon", "u")] == [
        ["stored", "yours", "told", "later"],
        ["mine"],
    ]
    units.apply([alias("u", "w", NOW)])
    assert [items(unit) for unit in read(units, "w", "u")] == [["mine"], ["mine"]]


def test_an_id_counts_as_one_unit_whoever_it_was_before(engine: Engine) -> None:
    """What was told of it goes with it, also where it seemed to be stored with what others did."""
    units = Units(engine, limit=9)
    ingest(engine, [exposure("v", NOW - 1), alias("anon", "v", NOW + 9)])
    units.apply([exposure("anon", NOW)])
    [other] = read(units, "v")
    assert [*other.exposed] == ["demo"]
    ingest(engine, [alias("anon", "u", NOW + 8)])
    assert units.known("live", "v") == other, "nobody told"
    assert [*read(units, "u")[0].exposed] == ["demo"]
    assert units.known("live", "v") is None
    assert [unit.counts_as for unit in read(units, "v", "anon")] == ["v", "u"]
    units.apply([alias("anon", "w", NOW + 7)])
    assert units.known("live", "u") is None
    assert [[*unit.exposed] for unit in read(units, "u", "v", "w")] == [[], ["demo"], ["demo"]]


def test_the_memory_is_bounded_and_counts_what_it_lost_too_soon(engine: Engine) -> None:
    clock = [0.0]
    units = Units(engine, limit=LIMIT, most=2, clock=lambda: clock[0])
    units.apply([feedback("a", NOW)])
    assert [items(unit) for unit in read(units, *"bcde")] == [[]] * 4
    assert units.figures == UnitFigures(2, 0, 4, 1, 3, 1)
    units.apply([feedback("f", NOW)])
    clock[0] = 61.0
    read(units, "g", "h")
    assert units.figures[-2:] == (6, 1), "what was told a minute ago is stored by now"
    ingest(engine, [feedback("i", NOW)])
    read(units, "i")
    units.apply([feedback("i", NOW)])
    assert items(units.known("live", "i")) == ["x"]


def test_a_unit_is_read_anew_where_a_merged_id_made_room(engine: Engine) -> None:
    units = Units(engine, limit=LIMIT, most=3)
    ingest(engine, [alias("anon", "u", NOW)])
    read(units, "u")
    told = feedback("anon", NOW, "told")
    units.apply([told])
    assert items(units.known("live", "u")) == ["told"]
    ingest(engine, [told])
    read(units, "b", "c")
    assert units.known("live", "anon") is None
    assert items(read(units, "u")[0]) == ["told"]


def test_events_are_kept_where_the_database_fails(engine: Engine) -> None:
    units = Units(engine, limit=LIMIT)
    units.apply([feedback("u", NOW, "told")])
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE feedback RENAME TO elsewhere"))
    with pytest.raises(DATABASE_ERRORS):
        read(units, "u")
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO feedback"))
    assert items(read(units, "u")[0]) == ["told"]


def test_a_merge_while_units_are_read_is_not_overlooked(engine: Engine) -> None:
    units = Units(engine, limit=LIMIT)
    ingest(engine, [feedback("anon", NOW, "stored")])
    sent: list[Event] = [
        alias("anon", "u", NOW),
        alias("b", "u", NOW),
        alias("c", "u", NOW),
        feedback("c", NOW, "y"),
    ]
    with statements(engine, lambda _: units.apply([sent.pop(0)] if sent else [])):
        assert [items(unit) for unit in read(units, "u", "c")] == [["stored", "y"]] * 2
    assert not sent
    assert items(read(units, "u")[0]) == ["stored", "y"]


def test_older_rows_that_come_late_do_not_hide_what_newer_ones_had(engine: Engine) -> None:
    """A read goes on while another finds an event stored, is kept, and is forgotten again."""
    units = Units(engine, limit=LIMIT, most=2)
    ingest(engine, [alias("anon", "u", NOW)])
    told = feedback("u", NOW, "told")
    units.apply([feedback("anon", NOW - 1, "anon's"), told])
    left = [1]

    def overtake(statement: str) -> None:
        if "FROM feedback" in statement and left:
            left.clear()
            ingest(engine, [told])
            assert items(read(units, "u")[0]) == ["anon's", "told"]
            units.apply([feedback("z", NOW)])
            assert units.known("live", "u") is None

    with statements(engine, overtake):
        assert "told" in (items(read(units, "u")[0]) or ())
    assert not left
    assert "told" in (items(units.known("live", "u")) or ())


def expected(events: Iterable[Event], asked: str) -> tuple[list[Behaviour], dict[str, str], str]:
    """Say what is known of an id, by all events there are."""
    first: dict[str, tuple[int, str]] = {}
    for one in events:
        if isinstance(one, Alias):
            first[one.anonymous_id] = min(
                (one.ts, one.unit_id), first.get(one.anonymous_id, (one.ts, one.unit_id))
            )
    counts = {one: first[one][1] if one in first else one for one in IDS}
    mine = [one for one in events if not isinstance(one, Alias) and counts[one.unit_id] == counts[asked]]
    did = [Behaviour(one.item_id, one.kind, one.value, one.ts) for one in mine if isinstance(one, Feedback)]
    met: dict[str, tuple[int, str]] = {}
    for one in mine:
        if isinstance(one, Exposure) and not one.forced:
            met[one.experiment] = min((one.ts, one.arm), met.get(one.experiment, (one.ts, one.arm)))
    history = sorted(did, key=lambda one: (one.ts, one.item, one.kind, one.value))[-LIMIT:]
    return history, {name: arm for name, (_, arm) in met.items()}, counts[asked]


moments = st.builds(lambda day, ms: NOW - day * DAY_MS + ms, st.sampled_from([0, 12, 50]), st.integers(0, 2))
one_event = st.one_of(
    st.builds(
        feedback, st.sampled_from(IDS), moments, st.sampled_from("xy"), st.sampled_from(["click", "play"]),
        late=st.sampled_from([0, 30]),
    ),
    st.builds(exposure, st.sampled_from(IDS), moments, st.sampled_from(["one", "two"])),
    st.builds(exposure, st.sampled_from(IDS), moments, st.just("forced"), forced=st.just(True)),
    st.builds(alias, st.sampled_from(IDS), st.sampled_from(IDS), moments).filter(
        lambda one: one.anonymous_id != one.unit_id
    ),
)  # fmt: skip
some_events = st.lists(one_event, min_size=1, max_size=3)
asked_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), some_events),
        st.tuples(st.just("ingest"), st.integers(0, 6)),
        st.tuples(st.just("read"), asked_ids),
        st.tuples(st.just("read while told"), asked_ids, some_events),
        st.tuples(st.just("elsewhere"), some_events),
        st.tuples(st.just("again"), st.integers(0, 20)),
        st.tuples(st.just("forget")),
    ),
    max_size=14,
)


class Model:
    """Drives units, and holds them against all events that were accepted."""

    def __init__(self, engine: Engine, most: int, *, at_once: bool) -> None:
        self.engine, self.at_once = engine, at_once
        self.units = Units(engine, limit=LIMIT, most=most)
        self.accepted: dict[str, Event] = {}
        self.waiting: dict[str, Event] = {}
        with writing(engine) as connection:
            for table in ("feedback", "exposures", "aliases", "touched_cells"):
                connection.execute(text(f"DELETE FROM {table}"))

    def step(self, name: str, *given: Any) -> None:
        if name == "apply":
            self.tell(given[0])
        elif name == "ingest":
            self.store([*self.waiting.values()][: given[0]])
        elif name == "read":
            self.look(given[0], self.units.read([("live", one) for one in given[0]]))
        elif name == "read while told":
            self.read_while_told(*given)
        elif name == "elsewhere":
            self.accepted |= {one.event_id: one for one in given[0]}
            self.store(given[0])
            self.units.forget_read()
        elif name == "again":
            self.units.apply([*self.accepted.values()][given[0] :])
        else:
            self.units.forget_read()
        for one in IDS:
            known = self.units.known("live", one)
            if known is not None:
                self.look([one], [known])

    def tell(self, events: Sequence[Event]) -> None:
        new = {one.event_id: one for one in events if one.event_id not in self.accepted}
        self.accepted |= new
        self.waiting |= new
        self.units.apply(events)
        if self.at_once:
            self.store([*new.values()])

    def store(self, events: Sequence[Event]) -> None:
        ingest(self.engine, events)
        for one in events:
            self.waiting.pop(one.event_id, None)

    def read_while_told(self, ids: Sequence[str], events: Sequence[Event]) -> None:
        """Let events come after each of the first statements; the last look is held against the model."""
        # In a crowded memory two would make each other go before what is read has its place there.
        left = [*events][: 1 if self.at_once else None]

        def tell(_: str) -> None:
            if left:
                one = left.pop()
                self.accepted.setdefault(one.event_id, one)
                self.waiting.setdefault(one.event_id, one)
                self.units.apply([one])

        with statements(self.engine, tell):
            self.units.read([("live", one) for one in ids])
        if self.at_once:
            self.store([*self.waiting.values()])
        self.look(ids, self.units.read([("live", one) for one in ids]))

    def look(self, ids: Sequence[str], found: Sequence[Unit]) -> None:
        for one, unit in zip(ids, found, strict=True):
            arms = {name: met.arm for name, met in unit.exposed.items()}
            assert ([*unit.history], arms, unit.counts_as) == expected(self.accepted.values(), one)


@pytest.mark.parametrize(("most", "at_once"), [(100, False), (2, True)], ids=["roomy", "crowded"])
def test_units_are_what_was_accepted_whatever_the_order(engine: Engine, most: int, at_once: bool) -> None:
    """In a crowded memory events are stored before others make them go; which ids go is left to chance."""

    @settings(
        max_examples=150 if engine.dialect.name == "sqlite" else 25,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(steps)
    def check(taken: list[tuple[Any, ...]]) -> None:
        model = Model(engine, most, at_once=at_once)
        for name, *given_ in taken:
            model.step(name, *given_)

    check()


def test_threads_see_their_own_events(engine: Engine) -> None:
    units = Units(engine, limit=500)
    waiting: list[Event] = []
    done = threading.Event()
    wrong: list[str] = []

    def store() -> None:
        while not done.is_set() or waiting:
            some = waiting[:20]
            ingest(engine, some)
            del waiting[: len(some)]
            if len(some) % 3 == 1:
                units.forget_read()

    def use(name: str) -> None:
        mine = []
        for number in range(60):
            one = feedback("shared", NOW + number, f"{name}{number}")
            mine.append(one.item_id)
            units.apply([one])
            waiting.append(one)
            found = units.known("live", "shared") or units.read([("live", "shared")])[0]
            missing = {*mine} - {did.item for did in found.history}
            wrong.extend(missing)

    storing = threading.Thread(target=store)
    users = [threading.Thread(target=use, args=(name,)) for name in "ab"]
    for thread in (storing, *users):
        thread.start()
    for thread in users:
        thread.join()
    done.set()
    storing.join()
    assert wrong == []
    everything = sorted(f"{name}{number}" for name in "ab" for number in range(60))
    assert sorted(items(read(units, "shared")[0]) or ()) == everything
    assert sorted(items(read(Units(engine, limit=500), "shared")[0]) or ()) == everything
