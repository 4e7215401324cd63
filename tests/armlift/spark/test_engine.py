"""SQLite, PostgreSQL and Spark give equal answers, of randomised events and of real ones."""

import random
from collections.abc import Iterator, Mapping
from math import isclose, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import Engine, select, text

from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS, Calendar
from armlift.events import (
    event_identity,
    request_identity,
)
from armlift.experiment import Experiment
from armlift.lab import Lab, init_lab
from armlift.logs.reader import open_log
from armlift.metric import METRICS
from armlift.replay import replay
from armlift.replayer import ReplayOptions
from armlift.report import Report, make_report
from armlift.reproduction import take_report, verify
from armlift.rollup import rebuild
from armlift.runs import IMPORTED, Run, begin, definition_of, subject_of
from armlift.snapshots import find as find_snapshot
from armlift.spark.engine import SparkReading
from armlift.spark.rows import engine_on
from armlift.store.database import open_database, writing
from armlift.store.partitions import Partitions
from armlift.store.sink import insert_new
from armlift.store.tables import aliases, exposures, feedback, impressions, unit_attributes, unit_days
from armlift.streams.embedded import EmbeddedStream

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DATABASES = {"sqlite": "sqlite", "postgresql": "postgresql", "spark": "sqlite"}
"""The engines of the contract, and the database below each."""
CALENDAR = Calendar("Asia/Shanghai")
START, DAYS = CALENDAR.parse("2022-04-15"), 5
NOW = START + 100 * DAY_MS
TABLES = (exposures, impressions, feedback, aliases, unit_attributes)
METRICS_OF_ALL_KINDS = {
    "clicks": {"kind": "mean", "of": {"event": "click"}},
    "ctr": {
        "kind": "ratio",
        "cuped": "7d",
        "numerator": {"event": "click"},
        "denominator": {"event": "impression"},
    },
    "clicked": {"kind": "proportion", "cuped": "2d", "of": {"event": "click"}},
    "play": {"kind": "mean", "cuped": "7d", "of": {"event": "play", "aggregate": "sum"}},
    "capped": {"kind": "mean", "winsorise": 0.9, "of": {"event": "play", "aggregate": "sum"}},
    "long_plays": {"kind": "mean", "of": {"event": "play", "minimum": 20}},
    "days": {"kind": "mean", "of": {"event": "click", "aggregate": "days"}},
    "most": {"kind": "quantile", "quantile": 0.8, "of": {"event": "play", "aggregate": "sum"}},
    "back": {"kind": "retention", "day": 1},
    "early": {"kind": "mean", "window": "36h", "of": {"event": "click"}},
    "early_ctr": {
        "kind": "ratio",
        "window": "1d",
        "numerator": {"event": "click"},
        "denominator": {"event": "impression"},
    },
}
EXPERIMENT = {
    "name": "demo",
    "arms": {"a": 1, "b": 1},
    "control": "a",
    "metrics": {
        "primary": ["ctr", "play", "most"],
        "secondary": [name for name in METRICS_OF_ALL_KINDS if name not in ("ctr", "play", "most", "early")],
        "guardrails": ["early"],
    },
    "analysis": {
        "minimum_units": 5,
        "segments": ["platform"],
        "exclusions": {"bots": {"metric": "clicks", "above": 6, "per": "day"}},
    },
}
EXTRACT = """
name: extract
arms: {slow: 1, fast: 1}
control: slow
metrics: {primary: [click_rate], secondary: [clicks, likers, most_likes, median_clicks]}
"""
EXTRACT_METRICS = """
most_likes: {kind: quantile, quantile: 0.9, of: {event: like}}
median_clicks: {kind: quantile, quantile: 0.5, of: {event: click}}
"""


class Case(NamedTuple):
    """A run in an SQLite database, its archive, and its report there."""

    engine: Engine
    run: Run
    calendar: Calendar
    archive: Archive
    report: Report


def world(seed: int, run: str, *, paired: bool) -> dict[Any, list[tuple[Any, ...]]]:
    """Give rows of events: units of two arms, some of several, forced, merged, or busy beyond belief."""
    rng = random.Random(seed)
    rows: dict[Any, list[tuple[Any, ...]]] = {table: [] for table in TABLES}

    def head(ts: int, *content: object) -> tuple[Any, ...]:
        name = event_identity(f"{ts:012x}", repr((*content, rng.random())))
        return ts // DAY_MS, CALENDAR.day(ts), name, run, ts

    for number in range(60):
        unit, first = f"u{number}", START + rng.randrange(DAYS * DAY_MS)
        arms = ["a", "b"] if paired else [rng.choice("ab")]
        met = [(first, arm, False) for arm in arms]
        met += [(first + rng.randrange(2 * DAY_MS), arms[0], number % 15 == 0)] if number % 3 == 0 else []
        met += [(first + DAY_MS, "b", False)] if number % 11 == 0 else []
        names = [unit, f"device {number}"] if number % 4 == 0 else [unit]
        for ts, arm, forced in met:
            phase = int(ts > START + 2 * DAY_MS)
            exposed = (rng.choice(names), "demo", 0, phase, arm, "1", forced, False)
            rows[exposures].append((*head(ts, "met", arm), *exposed))
        rate = 9 if number % 20 == 7 else 2
        for _ in range(rng.randrange(12)):
            ts, who = START + rng.randrange(DAYS * DAY_MS), rng.choice(names)
            request = request_identity(ts, f"{run}{unit}{ts}")
            for place in range(rng.randrange(1, 4)):
                arm, item = rng.choice(arms), f"v{place}"
                shown = (request, who, arm, "1", item, place, 0, None, None, rng.random() < 0.1)
                rows[impressions].append((*head(ts, "shown", place), *shown))
                for ordinal in range(rng.randrange(rate)):
                    kind = rng.choice(("click", "click", "play", "rating"))
                    value = 1.0 if kind == "click" else rng.lognormvariate(2, 1)
                    later = ts + rng.randrange(3 * DAY_MS // 2)
                    done = (request, who, item, kind, value, ordinal)
                    derived = (ts // DAY_MS, *head(later, "done", place, ordinal)[1:])
                    rows[feedback].append((*derived, *done))
        if len(names) > 1:
            rows[aliases].append((run, names[1], START + number, unit))
            rows[aliases].append((run, names[1], START + DAYS * DAY_MS, "u1"))  # comes too late
        if number % 5:
            rows[unit_attributes].append((run, "platform", unit, START, rng.choice(("ios", "web"))))
    return rows


def described(run: str, *, paired: bool) -> Run:
    """Describe a run as an import would."""
    experiment = Experiment.model_validate(EXPERIMENT)
    return Run(
        run=run, number=1, experiment="demo", mode=IMPORTED, paired=paired, k=0, seed=0, state="finished",
        synthetic=False, definition=definition_of(experiment, METRICS.validate_python(METRICS_OF_ALL_KINDS)),
        arms={"a": "1", "b": "1"},
        log={"format": "frame", "rows": 0, "first_ts": START, "last_ts": START + (DAYS - 1) * DAY_MS,
             "kinds": ["click", "impression", "play"]},
        resolution={"rows": 0, "random_rows": None, "compared": 0}, dropped={},
    )  # fmt: skip


def fill(engine: Engine, run: Run, rows: dict[Any, list[tuple[Any, ...]]]) -> None:
    """Store a run and its events, and roll them up."""
    Partitions(engine).ensure({row[0] for row in [*rows[impressions], *rows[feedback]]})
    with writing(engine) as connection:
        begin(connection, run)
        for table, some in rows.items():
            insert_new(connection, table, some)
        connection.execute(text("ANALYZE"))
        rebuild(connection, subject_of(run))


def copied(source: Engine, run: Run, target: Engine) -> None:
    """Copy a run's events into another database, in another order."""
    with source.connect() as connection:
        rows = {
            table: [tuple(row) for row in connection.execute(select(table).where(table.c.run == run.run))]
            for table in TABLES
        }
    fill(target, run, {table: random.Random(0).sample(some, len(some)) for table, some in rows.items()})


def lab_in(folder: Path) -> Lab:
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").unlink()
    (folder / "experiments" / "extract.yaml").write_text(EXTRACT)
    with (folder / "metrics.yaml").open("a") as file:
        file.write(EXTRACT_METRICS)
    for arm, half_life in {"slow": 7.0, "fast": 0.5}.items():
        text = f"name: {arm}\nmodel: popularity\nhalf_life_days: {half_life}\n"
        (folder / "arms" / f"{arm}.yaml").write_text(text)
    return Lab(folder)


@pytest.fixture(scope="module", params=["routed/1", "routed/2", "paired/3", "extract"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Make a run of random events, or of real ones; the name of a run may be anything."""
    folder = tmp_path_factory.mktemp("case")
    lab = lab_in(folder / "lab")
    engine = open_database(lab, create=True)
    if request.param == "extract":
        log = request.getfixturevalue("shared_data") / "kuairand" / "log_standard_27k_explicit.csv"
        with EmbeddedStream(folder / "stream") as stream:
            options = ReplayOptions("rerank", False, 3, 0)
            run = replay(lab, lab.experiment("extract"), open_log([log]), engine, stream, options)
    else:
        paired = request.param.startswith("paired")
        run = described(request.param, paired=paired)
        fill(engine, run, world(int(request.param[-1]), run.run, paired=paired))
    # Brackets and per cent are for Spark to take as they are.
    archive = Archive(str(folder / "an [archive] of 100%25"))
    archive_closed(engine, archive, NOW, after=0)
    yield Case(engine, run, lab.calendar, archive, make_report(engine, run, lab.calendar))
    engine.dispose()


@pytest.mark.parametrize(("name", "engine"), DATABASES.items(), ids=DATABASES, indirect=["engine"])
def test_reports_and_all_they_rest_on_are_equal(
    name: str, engine: Engine, case: Case, request: pytest.FixtureRequest
) -> None:
    """SQLite and PostgreSQL agree bit for bit, wherever events came in which order; Spark to nine digits."""
    if name == "spark":
        session = request.getfixturevalue("session")
        with engine_on(session).connect() as spark:
            read = SparkReading(session, spark, case.archive)
            found = make_report(case.engine, case.run, case.calendar, read=read)
            assert_rows_equal(rows_of(case.engine), [tuple(row) for row in spark.execute(select(unit_days))])
    else:
        copied(case.engine, case.run, engine)
        found = make_report(engine, case.run, case.calendar)
        assert rows_of(engine) == rows_of(case.engine)
        assert exact(found.answers) == exact(case.report.answers)
    assert found.answers.keys() == case.report.answers.keys()
    assert [*differing(case.report.answers, found.answers)] == []
    assert [*differing(case.report.as_dict(), found.as_dict())] == []
    assert {"counts", "left_out"} < found.answers.keys()
    assert case.run.paired or any(question.startswith("quantile/") for question in found.answers)


def exact(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out skewness, which is added up over strata, whose order differs."""
    return {question: answer for question, answer in answers.items() if "skewness/" not in question}


def rows_of(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(select(unit_days)))


def assert_rows_equal(wanted: list[tuple[Any, ...]], found: list[tuple[Any, ...]]) -> None:
    assert [row[:7] for row in sorted(found)] == [row[:7] for row in wanted]
    for some, others in zip(sorted(found), wanted, strict=True):
        assert some[7:] == pytest.approx(others[7:], rel=1e-12)


def differing(wanted: Any, found: Any, path: str = "", scale: float = 0.0) -> Iterator[str]:
    """Name what is not equal to nine digits; products of distances against the spread of both columns."""
    if isinstance(wanted, dict):
        assert wanted.keys() == found.keys(), path
        for key, value in wanted.items():
            if key == "moments":
                yield from differing_moments(value, found[key], path)
            else:
                yield from differing(value, found[key], f"{path}/{key}")
    elif isinstance(wanted, list):
        assert len(wanted) == len(found), path
        for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differing(one, other, f"{path}/{place}")
    elif isinstance(wanted, float):
        if not isclose(wanted, found, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{path}: {wanted!r}, {found!r}"
    elif wanted != found:
        yield f"{path}: {wanted!r}, {found!r}"


def differing_moments(wanted: list[list[float]], found: list[list[float]], path: str) -> Iterator[str]:
    spread = [sqrt(wanted[i][i]) for i in range(len(wanted))]
    for i, row in enumerate(wanted):
        for j, value in enumerate(row):
            if abs(value - found[i][j]) > 1e-9 * spread[i] * spread[j]:
                yield f"{path}/moments/{i}/{j}: {value!r}, {found[i][j]!r}"


@pytest.mark.parametrize("case", ["routed/1"], indirect=True)
def test_a_snapshot_of_sql_is_verified_on_spark(case: Case, session: "SparkSession") -> None:
    early = case.calendar.start_of(case.calendar.day(START) + 2) - 1
    stored = take_report(case.engine, case.run, case.calendar, as_of=early)
    assert stored.snapshot
    with case.engine.connect() as connection:
        snapshot = find_snapshot(connection, stored.snapshot)
    assert snapshot
    with engine_on(session).connect() as spark:
        read = SparkReading(session, spark, case.archive)
        assert verify(case.engine, snapshot, read=read, digits=9) == ([], [], [])
    answers = {**stored.answers, "left_out": {"forced": 3.0 + 1e-5}}
    wrong = snapshot._replace(aggregates={**snapshot.aggregates, "answers": answers})
    found = verify(case.engine, wrong, digits=9)
    assert found.aggregates[0].startswith("answers/left_out/forced: was 3.00001, is ")
