"""Imports: what is read, what is dropped and why, and what reports make of it."""

import datetime as dt
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import Engine, func, select

from armlift import imports
from armlift.batch import write
from armlift.errors import InputError
from armlift.imports import Import
from armlift.lab import Lab, init_lab
from armlift.mapping import Mapping
from armlift.report import make_report
from armlift.runs import IMPORTED, Run
from armlift.store import tables
from armlift.store.database import open_database
from armlift.tabular import open_table

EXPERIMENT = """
name: own
arms: {old: 1, new: 1}
control: old
metrics:
  primary: [buyers]
  secondary: [spend, early_spend, back, days_active, per_view, shown]
"""
METRICS = """
buyers: {kind: proportion, of: {event: purchase}}
spend: {kind: mean, of: {event: purchase, aggregate: sum}}
early_spend: {kind: mean, of: {event: purchase, aggregate: sum}, window: 1d, cuped: 14d}
back: {kind: retention, day: 1, of: {event: click, aggregate: days}}
days_active: {kind: mean, of: {event: click, aggregate: days}}
per_view: {kind: ratio, numerator: {event: purchase}, denominator: {event: impression}}
shown: {kind: mean, of: {event: impression}}
"""
MAP = """
exposures: {unit_id: user, ts: seen, arm: variant}
events: {unit_id: user, ts: at, kind: what, value: amount}
arms: {A: old, B: new}
kinds: {buy: purchase, view: click}
"""
START = dt.datetime(2024, 3, 1, 12)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "lab"
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "own.yaml").write_text(EXPERIMENT)
    (folder / "metrics.yaml").write_text(METRICS)
    (folder / "map.yaml").write_text(MAP)
    for arm in ("old", "new"):
        (folder / "arms" / f"{arm}.yaml").write_text(f"name: {arm}\nmodel: random\n")
    return Lab(folder)


def exposures(units: int = 80) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": range(units),
            "seen": [START] * units,
            "variant": ["A", "B"] * (units // 2),
            "more": [1] * units,
        }
    )


def events(units: int = 80) -> pl.DataFrame:
    """Give what units did: every third bought, every second came back a day later, all viewed before."""
    rows: list[tuple[int, dt.datetime, str, float | None]] = []
    for unit in range(units):
        rows.append((unit, START - dt.timedelta(days=2), "view", None))
        if unit % 3 == 0:
            rows += [(unit, START + dt.timedelta(hours=h), "buy", 10.0 + unit) for h in (1, 30)]
        if unit % 2 == 0:
            rows.append((unit, START + dt.timedelta(days=1), "view", None))
    rows.append((0, START + dt.timedelta(days=5), "view", None))
    return pl.DataFrame(rows, schema=["user", "at", "what", "amount"], orient="row")


def bring(
    lab: Lab, met: pl.DataFrame, done: pl.DataFrame, engine: Engine | None = None
) -> tuple[Run, Engine]:
    met.write_parquet(lab.folder / "met.parquet")
    done.write_parquet(lab.folder / "done.parquet")
    sources = (open_table(str(lab.folder / f"{name}.parquet")) for name in ("met", "done"))
    engine = engine or open_database(lab, create=True)
    work = Import(lab, lab.experiment("own"), next(sources), next(sources), Mapping(lab.folder / "map.yaml"))
    return work.run(engine), engine


def count(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def means(run: Run, engine: Engine, lab: Lab) -> dict[str, tuple[str, Any]]:
    report = make_report(engine, run, lab.calendar)
    return {one.metric: (one.status, one.control_mean) for one in report.comparisons}


def test_metrics_windows_and_retention_are_those_of_the_units(lab: Lab, engine: Engine) -> None:
    run, _ = bring(lab, exposures(), events(), engine)
    assert (run.mode, run.finished, run.dropped) == (IMPORTED, True, {})
    control = [unit for unit in range(80) if unit % 2 == 0]
    bought = [10.0 + unit if unit % 3 == 0 else 0.0 for unit in control]
    found = means(run, engine, lab)
    assert found["buyers"] == ("ok", pytest.approx(sum(map(bool, bought)) / 40))
    assert found["spend"] == ("ok", pytest.approx(2 * sum(bought) / 40))
    assert found["early_spend"] == ("ok", pytest.approx(sum(bought) / 40))
    assert found["back"][1] == 1.0
    assert found["days_active"][1] == pytest.approx(41 / 40)
    # No impression was imported: nothing is known of them, which is not the same as none.
    assert found["per_view"] == found["shown"] == ("no_data", None)
    assert count(engine, tables.touched_cells) == 0


def test_importing_again_adds_nothing_in_whatever_order_or_form(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("armlift.tabular.BATCH", 7)
    run, engine = bring(lab, exposures(), events())
    rows = [count(engine, table) for table in (tables.exposures, tables.feedback, tables.unit_days)]
    others, doing = (one.sample(fraction=1, shuffle=True, seed=3) for one in (exposures(), events()))
    assert bring(lab, others, doing, engine)[0] == run
    others.write_csv(lab.folder / "met.csv")
    doing.write_csv(lab.folder / "done.csv")
    met, done = (open_table(str(lab.folder / f"{name}.csv")) for name in ("met", "done"))
    again = Import(lab, lab.experiment("own"), met, done, Mapping(lab.folder / "map.yaml")).run(engine)
    assert again == run
    assert rows == [count(engine, table) for table in (tables.exposures, tables.feedback, tables.unit_days)]
    assert bring(lab, exposures(), events().head(100), engine)[0].run != run.run
    assert bring(lab, exposures(78), events(), engine)[0].run != run.run


def test_segments_are_of_the_first_exposure_in_whatever_order(lab: Lab, engine: Engine) -> None:
    own = lab.folder / "experiments" / "own.yaml"
    own.write_text(own.read_text() + "analysis: {segments: [land]}\n")
    (lab.folder / "map.yaml").write_text(
        MAP.replace("arm: variant}", "arm: variant, attributes: {land: from}}")
    )
    lab = Lab(lab.folder)
    first = exposures().with_columns(pl.Series("from", ["de", "fr", "fr", None] * 20))
    later = first.with_columns(pl.col("seen") + dt.timedelta(hours=1), pl.lit("xx").alias("from"))
    run, _ = bring(lab, pl.concat([later, first]), events(), engine)
    with engine.connect() as connection:
        a = tables.unit_attributes.c
        rows = connection.execute(select(a.value, func.count()).where(a.run == run.run).group_by(a.value))
        # What is told later counts where nothing was told before.
        assert dict(rows.all()) == {"de": 20, "fr": 40, "xx": 20}
    told = {one.segment for one in make_report(engine, run, lab.calendar).comparisons}
    assert told == {None, "land=de", "land=fr", "land=xx"}
    with pytest.raises(InputError, match="has no column 'from', must be one of"):
        bring(lab, exposures(), events(), engine)
    many = exposures().with_columns(pl.col("user").alias("from"))
    with pytest.raises(InputError, match="segments: 'land' has 80 values, must have at most 50"):
        bring(lab, many, events(), engine)
    (lab.folder / "map.yaml").write_text(
        MAP.replace("arm: variant}", "arm: variant, attributes: {town: from}}")
    )
    with pytest.raises(
        InputError, match=r"map.yaml:2: .*attributes.town.*`analysis.segments`.*must be one of land"
    ):
        bring(lab, first, events(), engine)


def test_one_that_was_broken_off_is_begun_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("armlift.tabular.BATCH", 20)
    wanted = means(*bring(lab, exposures(), events()), lab)
    lab = Lab(lab.folder, database="sqlite:///other.db")
    stored = write
    calls = []

    def failing(*given: Any) -> int:
        calls.append(given)
        if len(calls) == 6:
            raise RuntimeError("killed")
        return stored(*given)

    monkeypatch.setattr(imports, "write", failing)
    with pytest.raises(RuntimeError, match="killed"):
        bring(lab, exposures(), events())
    monkeypatch.setattr(imports, "write", stored)
    # The database tells its rows in another order now: row numbers name other events.
    run, engine = bring(lab, exposures(), events().reverse())
    assert run.finished
    assert means(run, engine, lab) == wanted
    assert count(engine, tables.feedback) == len(events())


def test_what_cannot_be_read_is_counted_by_reason(lab: Lab) -> None:
    long = "u" * 201
    bad_met = pl.DataFrame(
        {
            "user": ["", None, long, "v", "v", "v", "v"],
            "seen": ["2024-03-01T12:00"] * 3 + ["", "soon", "2024-03-01T12:00", "2024-03-01T12:00"],
            "variant": ["A", "A", "A", "A", "A", "C", None],
        }
    )
    met = pl.concat([exposures().select(pl.col("user", "seen").cast(pl.String), "variant"), bad_met])
    at, inf = "2024-03-02 12:00:00", float("inf")
    bad_done = pl.DataFrame(
        [
            ("", at, "buy", 1.0), ("1", "", "buy", 1.0), ("1", "then", "buy", 1.0), ("1", at, "", 1.0),
            ("1", at, "zap", 1.0), ("1", at, "buy", None), ("1", at, "buy", float("nan")),
            ("1", at, "buy", inf), ("1", at, "buy", 1e-300), ("nobody", at, "buy", 1.0),
        ],
        schema=["user", "at", "what", "amount"],
        orient="row",
    )  # fmt: skip
    done = pl.concat([events().with_columns(pl.col("user", "at").cast(pl.String)), bad_done])
    run, engine = bring(lab, met, done)
    assert run.dropped == {
        "exposure_blank_unit": 2, "exposure_bad_unit": 1, "exposure_blank_time": 1, "exposure_bad_time": 1,
        "exposure_unknown_arm": 1, "exposure_blank_arm": 1, "event_blank_unit": 1, "event_blank_time": 1,
        "event_bad_time": 1, "event_blank_kind": 1, "event_unknown_kind": 1, "event_blank_value": 1,
        "event_bad_value": 3, "event_unit_not_exposed": 1,
    }  # fmt: skip
    report = make_report(engine, run, lab.calendar)
    assert report.as_dict()["dropped"] == {**run.dropped, "unit_forced": 0, "unit_several_arms": 0} | {
        f"unit_too_young_{name}": 0 for name in ("early_spend", "back")
    }
    assert means(run, engine, lab) == means(*bring(lab, exposures(), events()), lab)


TIMES = [
    pl.Series([START] * 80),
    pl.Series([START] * 80).dt.replace_time_zone("Asia/Shanghai").dt.convert_time_zone("America/New_York"),
    pl.Series(["2024-03-01 12:00:00"] * 80),
    pl.Series(["2024-03-01T04:00:00Z"] * 80),
    pl.Series([1_709_265_600_000] * 80),
    pl.Series([1_709_265_600_000.0] * 80),
    pl.Series(["1709265600000"] * 80),
]


@pytest.mark.parametrize("told", TIMES, ids=range(len(TIMES)))
def test_times_are_read_in_any_form(lab: Lab, told: pl.Series) -> None:
    run, engine = bring(lab, exposures().with_columns(seen=told), events())
    with engine.connect() as connection:
        assert set(connection.scalars(select(tables.exposures.c.ts))) == {1_709_265_600_000}
    assert run.run == bring(lab, exposures(), events())[0].run


@pytest.mark.parametrize(("epoch", "scale"), [("s", 0.001), ("us", 1000), ("ns", 1_000_000)])
def test_numbers_are_times_in_the_unit_that_is_said(lab: Lab, epoch: str, scale: float) -> None:
    numbers = pl.Series([int(1_709_265_600_000 * scale)] * 80)
    with pytest.raises(InputError, match=r"none of 80 rows can be used: bad_time 80; times .* `epoch`"):
        bring(lab, exposures().with_columns(seen=numbers), events())
    (lab.folder / "map.yaml").write_text(f"{MAP}epoch: {epoch}\n")
    _, engine = bring(lab, exposures().with_columns(seen=numbers), events())
    with engine.connect() as connection:
        assert set(connection.scalars(select(tables.exposures.c.ts))) == {1_709_265_600_000}


def test_phases_come_from_their_column_or_the_time(lab: Lab) -> None:
    path = lab.folder / "experiments" / "own.yaml"
    path.write_text(
        EXPERIMENT + "phases: [{start: 2024-03-01}, {start: 2024-03-03, weights: {old: 3, new: 1}}]\n"
    )
    later = [START + dt.timedelta(days=one % 4 - 1) for one in range(80)]
    run, engine = bring(lab, exposures().with_columns(seen=pl.Series(later)), events())
    assert run.dropped["exposure_before_first_phase"] == 20
    e = tables.exposures.c

    def phases(run: Run) -> dict[tuple[int, int], int]:
        asked = (
            select(e.phase, e.generation, func.count())
            .where(e.run == run.run)
            .group_by(e.phase, e.generation)
        )
        with engine.connect() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(asked)}

    assert phases(run) == {(0, 0): 40, (1, 1): 20}
    told = exposures().with_columns(
        phase=pl.Series([0, 1, 2, None] * 20), forced=pl.Series(["TRUE", "0"] * 40)
    )
    run, _ = bring(lab, told.with_columns(arm_version=pl.lit("v2")), events(), engine)
    assert run.dropped["exposure_bad_phase"] == 40
    assert phases(run) == {(0, 0): 20, (1, 1): 20}
    assert run.arms == {"old": "v2", "new": "v2"}
    assert make_report(engine, run, lab.calendar).dropped["unit_forced"] == 20


def test_impressions_count_where_they_are_imported(lab: Lab) -> None:
    views = pl.concat([exposures().select("user", at="seen") for _ in range(3)])
    done = pl.concat(
        [
            events(),
            views.with_columns(what=pl.lit("impression"), amount=pl.lit(None, pl.Float64)).select(
                events().columns
            ),
        ]
    )
    run, engine = bring(lab, exposures(), done)
    assert means(run, engine, lab)["shown"][1] == 3.0
    assert count(engine, tables.impressions) == 240
    checks = {one.name: one.status for one in make_report(engine, run, lab.calendar).checks}
    assert checks["event_loss"] == "ok"
    assert {checks[name] for name in ("random_exposure", "lateness")} == {"not_applicable"}


def test_sources_of_all_forms_give_one_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("armlift.tabular.BATCH", 9)
    wanted, engine = bring(lab, exposures(), events())
    duckdb = pytest.importorskip("duckdb")
    warehouse, database = lab.folder / "w.duckdb", lab.folder / "own.db"
    with duckdb.connect(str(warehouse)) as connection:
        for name in ("met", "done"):
            connection.execute(f"create table {name} as select * from '{lab.folder / name}.parquet'")
    written = sqlite3.connect(database)
    for name, frame in (("met", exposures()), ("done", events())):
        rows = frame.with_columns(pl.col(pl.Datetime).dt.to_string()).rows()
        written.execute(f"create table {name} ({', '.join(frame.columns)})")
        written.executemany(f"insert into {name} values ({', '.join('?' * frame.width)})", rows)
    written.commit()
    written.close()
    for place in (str(warehouse), f"sqlite:///{database}"):
        for asked in ("{}", "select * from {};", "SELECT *, 1 AS more_still FROM {} ORDER BY random()"):
            met, done = (open_table(f"{place}#{asked.format(name)}") for name in ("met", "done"))
            work = Import(lab, lab.experiment("own"), met, done, Mapping(lab.folder / "map.yaml"))
            assert work.run(engine) == wanted, (place, asked)
