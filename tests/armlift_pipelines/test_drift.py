"""Drift on both databases: equal to NumPy over the same events, flagged where the world shifts, else not."""

import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import Engine

from armlift.days import DAY_MS, utc_day
from armlift.errors import InputError
from armlift.events import feedback_identity, impression_identity, request_identity
from armlift.segments import tell
from armlift.store.database import reading, writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback, impressions, prompts
from armlift_pipelines.drift import Drift, Measure, drift, render
from armlift_pipelines.shifts import Counts, Pair, Shift, binned, divergence, stability, turnover, unseen

DAY = 19_700
UNTIL = (DAY + 1) * DAY_MS
HOUR = 3_600_000
sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
SEEDS = (0, 1, 2)


class World(NamedTuple):
    """Events: whole arrays of one length."""

    unit: npt.NDArray[Any]
    item: npt.NDArray[Any]
    kind: npt.NDArray[Any]
    value: npt.NDArray[Any]
    ts: npt.NDArray[Any]

    def of(self, mask: npt.NDArray[np.bool_]) -> "World":
        return World(*(column[mask] for column in self))

    @property
    def now(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.ts >= DAY * DAY_MS)


def world(seed: int, days: int = 15, units: int = 250, *, shifted: bool = False) -> World:
    """Draw days of behaviours that end with DAY; on a shifted one's last day all is otherwise."""
    random = np.random.default_rng(seed)
    parts = []
    for day in range(DAY - days + 1, DAY + 1):
        odd = shifted and day == DAY
        per_unit = random.poisson(7 if odd else 3, units)
        unit = np.repeat(np.arange(units), per_unit)
        n = len(unit)
        popular = 1 / np.arange(1, 201.0) ** 0.8
        item = random.choice(200, n, p=popular / popular.sum()) + (150 if odd else 0)
        mix = [0.1, 0.2, 0.7] if odd else [0.6, 0.3, 0.1]
        kind = random.choice(["click", "play", "like"], n, p=mix)
        value = np.where(kind == "play", random.lognormal(4.0 if odd else 2.5, 0.8, n).round(2), 1.0)
        hour = random.integers(0, 6, n) if odd else random.integers(0, 24, n)
        ts = day * DAY_MS + hour * HOUR + random.integers(0, HOUR, n)
        parts.append(World(unit, item, kind, value, ts))
    return World(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def store(engine: Engine, told: World, run: str = "r") -> None:
    rows = []
    for number, (unit, item, kind, value, ts) in enumerate(zip(*(c.tolist() for c in told), strict=True)):
        request = request_identity(ts - 1_000, f"{run}{number}")
        identity = feedback_identity(request, f"i{item}", kind, 0)
        head = utc_day(ts - 1_000), utc_day(ts), identity, run, ts, request
        rows.append((*head, f"u{unit}", f"i{item}", kind, float(value), 0))
    with writing(engine) as connection:
        insert_new(connection, feedback, rows)


def measured(engine: Engine, run: str = "r", **chosen: Any) -> Drift:
    with reading(engine) as connection:
        return drift(connection, run, until_ms=UNTIL, **chosen)


def shift_of(found: Drift, name: str) -> Shift:
    (one,) = (measure for measure in found.measures if measure.name.startswith(name))
    assert one.shift is not None, name
    return one.shift


def counts_of(values: npt.NDArray[Any], now: npt.NDArray[np.bool_]) -> dict[Any, Counts]:
    first, second = Counter(values[now].tolist()), Counter(values[~now].tolist())
    return {value: (first[value], second[value]) for value in sorted({*first, *second})}


def same(shift: Shift, expected: Shift | None) -> None:
    assert expected is not None
    assert shift == pytest.approx(expected)


def test_every_measure_is_numpys(engine: Engine) -> None:
    told = world(7, shifted=True)
    store(engine, told)
    store(engine, world(8, days=2), run="other")
    found = measured(engine)
    last = told.of(told.ts >= (DAY - 7) * DAY_MS)
    now = last.now
    assert found.behaviours == (now.sum(), (~now).sum())
    assert found.units == (len({*last.unit[now]}), len({*last.unit[~now]}))

    items = counts_of(last.item, now)
    pairs = [Pair(n, m, 1) for n, m in items.values()]
    same(shift_of(found, "item shares"), divergence(pairs))
    same(shift_of(found, "behaviours on new items"), unseen(pairs))
    same(shift_of(measured(engine, top=30), "turnover of the top 30"), turnover(pairs, 30))

    per_day = Counter(zip(told.unit.tolist(), (told.ts // DAY_MS).tolist(), strict=True))
    recent = [(n, day == DAY) for (_, day), n in per_day.items() if day >= DAY - 7]
    table = np.array(recent)
    expected = stability(binned(counts_of(table[:, 0], table[:, 1].astype(bool))))
    same(shift_of(found, "behaviours per unit"), expected)
    lengths = np.array(
        [(sum(per_day[unit, day - back] for back in range(1, 8)), day == DAY)
         for unit, day in per_day if day >= DAY - 7]
    )  # fmt: skip
    expected = stability(binned(counts_of(lengths[:, 0], lengths[:, 1].astype(bool))))
    same(shift_of(found, "history length"), expected)

    same(shift_of(found, "kinds of feedback"), stability(counts_of(last.kind, now).values()))
    active = np.unique(np.stack([last.unit, last.ts // HOUR], axis=1), axis=0)
    hours = counts_of(active[:, 1] % 24, active[:, 1] >= DAY * 24)
    same(shift_of(found, "hour of day"), stability(hours.values()))
    plays = last.of(last.kind == "play")
    before = np.sort(plays.value[~plays.now])
    edges = sorted({float(part[-1]) for part in np.array_split(before, 10)})[:-1]
    bins = np.searchsorted(edges, plays.value)
    same(shift_of(found, "seconds of play"), stability(counts_of(bins, plays.now).values()))


def test_kinds_may_be_chosen(engine: Engine) -> None:
    told = world(3)
    store(engine, told)
    found = measured(engine, kinds=["click"])
    clicks = told.of((told.kind == "click") & (told.ts >= (DAY - 7) * DAY_MS))
    assert sum(found.behaviours) == len(clicks.ts)
    statuses = {one.name: one.status for one in found.measures}
    assert statuses["kinds of feedback, PSI"] == statuses["seconds of play, PSI"] == "no_data"


def test_shifted_worlds_are_flagged_and_others_are_not(engine: Engine) -> None:
    for seed in SEEDS:
        store(engine, world(seed), run=f"calm{seed}")
        store(engine, world(seed, shifted=True), run=f"shifted{seed}")
        calm = measured(engine, f"calm{seed}")
        assert {one.name: one.status for one in calm.measures if one.status != "ok"} == {}
        assert calm.status == "ok"
        shifted = measured(engine, f"shifted{seed}")
        statuses = {one.name: one.status for one in shifted.measures}
        assert statuses.pop("history length, PSI") == "ok", "what was done before the day is as it was"
        assert {*statuses.values()} == {"fail"}
        assert shifted.status == "fail"


@sqlite
def test_few_rows_differ_by_chance_and_are_not_flagged(engine: Engine) -> None:
    store(engine, world(4, units=4))
    found = measured(engine)
    assert found.status == "ok"
    hours = shift_of(found, "hour of day")
    assert hours.value > 0.25, "the rule of thumb alone would have cried out"


def test_unit_attributes_are_compared_by_unit_days(engine: Engine) -> None:
    told = world(5)
    # The younger units come more often on the last day: those of numbers below 100 lose all others there.
    told = told.of(~told.now | (told.unit < 100) | (told.unit >= 240))
    store(engine, told)
    country = {f"u{unit}": "de" if unit < 100 else "fr" for unit in range(240)}
    with writing(engine) as connection:
        tell(connection, "r", "country", [(unit, 1, value) for unit, value in country.items()])
        tell(connection, "r", "coin", [(f"u{unit}", 1, str(unit % 2)) for unit in range(250)])
        tell(connection, "else", "age", [("u1", 1, "7")])
    found = measured(engine)
    days = {*zip(told.unit.tolist(), (told.ts // DAY_MS).tolist(), strict=True)}
    table = np.array([(unit, day) for unit, day in days if day >= DAY - 7])
    names = np.array([country.get(f"u{unit}", "-") for unit in table[:, 0].tolist()])
    same(shift_of(found, "units by country"), stability(counts_of(names, table[:, 1] == DAY).values()))
    statuses = {one.name: one.status for one in found.measures if one.name.startswith("units by")}
    assert statuses == {"units by coin, PSI": "ok", "units by country, PSI": "fail"}


@sqlite
def test_histories_that_began_in_the_window_are_not_compared(engine: Engine) -> None:
    store(engine, world(6, days=8))
    found = {one.name: one for one in measured(engine).measures}
    assert found["history length, PSI"].status == "no_data"
    assert found["behaviours per unit, PSI"].status == "ok"


def test_nothing_is_no_data(engine: Engine) -> None:
    found = measured(engine)
    assert found.status == "no_data"
    assert {one.shift for one in found.measures} == {None}
    assert found.behaviours == found.units == (0, 0)
    assert "no data" in render(found)
    with pytest.raises(InputError, match="day_ms 0 and window 7 must both be 1 or more"):
        measured(engine, day_ms=0)


@sqlite
def test_it_is_plain_data_and_a_text_of_eighty_columns(engine: Engine) -> None:
    store(engine, world(2, shifted=True))
    with writing(engine) as connection:
        tell(connection, "r", "a_very_long_name_of_an_attribute", [(f"u{n}", 1, str(n)) for n in range(40)])
    found = measured(engine)
    document = found.as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["run"], document["until"], document["status"]) == ("r", UNTIL, "fail")
    (kinds,) = (one for one in document["measures"] if one["name"].startswith("kinds"))
    assert kinds == {"name": "kinds of feedback, PSI", "status": "fail", "warn": 0.1, "fail": 0.25} | (
        shift_of(found, "kinds")._asdict()
    )
    text = render(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "Drift of run r: fail" in text
    assert "Siddiqi" in text
    assert "units by a_very_long_name_of_an_…" in text


@pytest.mark.parametrize(
    ("value", "noise", "limit", "status"),
    [
        (0.09, 0.0, 0.01, "ok"),
        (0.11, 0.0, 0.01, "warn"),
        (0.11, 0.02, 0.05, "ok"),
        (0.40, 0.10, 0.45, "ok"),
        (0.40, 0.10, 0.20, "fail"),
        (0.40, 0.16, 0.20, "warn"),
    ],
)
def test_what_goes_beyond_chance_is_judged(value: float, noise: float, limit: float, status: str) -> None:
    assert Measure("m", 0.1, 0.25, Shift(value, noise, limit, 10, 10, 3)).status == status


def test_events_count_by_their_time_whatever_their_request_was(engine: Engine) -> None:
    """Feedback may come a month after its request, and a day before it by a client's clock."""
    rows = []
    for number, (asked, came) in enumerate(
        [(-31, 0), (1, 0), (0, 0), (-1, -1), (-38, -7), (0, 1), (-39, -8)]
    ):
        ts = (DAY + came) * DAY_MS + 5
        request = request_identity((DAY + asked) * DAY_MS + 5, str(number))
        head = DAY + asked, DAY + came, feedback_identity(request, "i", "click", 0), "r", ts, request
        rows.append((*head, "u", "i", "click", 1.0, 0))
    with writing(engine) as connection:
        insert_new(connection, feedback, rows)
    assert measured(engine).behaviours == (3, 2)


def test_prompts_of_the_day_before_are_measured_with_it(engine: Engine) -> None:
    written = DAY * DAY_MS - 1
    rows = [
        ("recgpt", version, "u0", 3, 0, "i0", 0.5, "i9", 1, "0" * 32, at)
        for version, at in (("new", written), ("old", written - DAY_MS), ("next", UNTIL))
    ]
    store(engine, world(1))
    request = request_identity(DAY * DAY_MS, "shown")
    head = DAY, DAY, impression_identity(request, "i0"), "r", DAY * DAY_MS, request
    with writing(engine) as connection:
        insert_new(connection, prompts, rows)
        insert_new(connection, impressions, [(*head, "u0", "recgpt", "new", "i0", 0, 0, None, None, False)])
    found = measured(engine)
    assert [(one.version, one.units, one.shown) for one in found.prompts] == [("new", 1, 1.0)]
    assert found.as_dict()["prompts"][0]["until"] == UNTIL - 1
    assert "recgpt new" in render(found)
