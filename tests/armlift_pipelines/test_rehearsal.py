"""Rehearsals: days of simulated users, each answered by what the night before it made."""

import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, func, select
from walkers import TINY

from armlift import promotions
from armlift.arm import Request, Slate
from armlift.artefacts import load_artefact, read_manifest
from armlift.errors import ArmliftError
from armlift.lab import Lab, init_lab
from armlift.simulation.laboratory import Size
from armlift.store.database import connect, open_database
from armlift.store.tables import alerts, audit_log, feedback, impressions, job_runs, models, prompts
from armlift.streams.embedded import EmbeddedStream
from armlift_pipelines.job_runs import FAILED, SUCCEEDED, JobRun, Record
from armlift_pipelines.night import name_of, served_after
from armlift_pipelines.rehearsal import Rehearsal

sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
FIRST = date(2022, 4, 22)
SESSION = 3_600_000
SIZE = Size(users=80, days=3, k=5, seed=1)
ARMS = ("popularity", "covisitation", "tiny")
EXPERIMENT = """
name: e
arms: {popularity: 1, covisitation: 1, tiny: 2}
control: popularity
metrics: {primary: [click_rate]}
simulation:
  {history_days: 2, sessions_per_day: 1.0, rows_per_session: 8, videos: 60, taste_categories: 6}
"""
NIGHTLY = """
gate:
  {minimum_units: 5, minimum_behaviours: 20, margin: 0.99, alpha: 0.001,
   most_lost_recall: 0.99, most_prompt_gap: 1, most_forgetting: 9, most_short_histories: 1}
steps: {retrain: {retries: 0}}
alerts: {webhook: "http://127.0.0.1:9/nobody"}
"""
COMMAND = "import sys; from armlift.cli import main; main(sys.argv[1:])"
WORDS = ["schedule", "--simulate", "e", "--users", "80", "--days", "3", "--k", "5", "--seed", "1"]


class Rehearsed(NamedTuple):
    """A rehearsal that came to its end: its lab, database and run, and what the tiny arm was asked."""

    lab: Lab
    engine: Engine
    run: str
    answers: Sequence[tuple[Request, Slate]]

    @property
    def nights(self) -> list[date]:
        return [FIRST + timedelta(days=day) for day in range(SIZE.days + 1)]

    def versions(self, arm: str) -> list[str]:
        """Give what served after each night."""
        found = [served_after(self.engine, self.run, str(night)) for night in self.nights]
        return [str(one[name_of(arm, self.run)]) for one in found]


def make_lab(folder: Path) -> Lab:
    init_lab(folder)
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    for name, text in (("experiments/e", EXPERIMENT), ("arms/tiny", TINY), ("nightly", NIGHTLY)):
        (folder / f"{name}.yaml").write_text(text)
    return Lab(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Rehearsed]:
    """Rehearse three days, without any harm."""
    lab = make_lab(tmp_path_factory.mktemp("rehearsal") / "lab")
    shutil.copyfile(sqlite_template, lab.folder / "armlift.db")
    engine = open_database(lab)
    answers: list[tuple[Request, Slate]] = []
    with pytest.MonkeyPatch.context() as patch:

        def listened(url: str, name: str, version: str) -> Any:
            """Load an arm, and keep what it is asked and answers."""
            arm, manifest = load_artefact(url, name, version)
            recommend = arm.recommend

            def recommend_listened(requests: Sequence[Request]) -> list[Slate]:
                slates = recommend(requests)
                answers.extend(zip(requests, slates, strict=True))
                return slates

            if name == "tiny":
                arm.recommend = recommend_listened  # type: ignore[method-assign]
            return arm, manifest

        patch.setattr("armlift_pipelines.rehearsal.load_artefact", listened)
        with EmbeddedStream(lab.folder / "stream") as stream:
            run = Rehearsal(lab, lab.experiment("e"), SIZE, engine).run(stream)
            again = Rehearsal(lab, lab.experiment("e"), SIZE, engine)
            before = counts(engine)
            assert again.run(stream) == run
            assert counts(engine) == before, "the same again adds nothing"
    yield Rehearsed(lab, engine, run.run, answers)
    engine.dispose()


def counts(engine: Engine) -> dict[str, int]:
    tables = (impressions, feedback, job_runs, models, prompts, alerts, audit_log)
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        }


def steps(whole: Rehearsed, night: date, name: str) -> dict[str, JobRun]:
    """Give a step's runs of a night, by arm."""
    runs = Record(whole.engine).runs(subject=f"{whole.run}/{night}")
    return {one.arm: one for one in runs if one.step == name}


def test_every_night_has_its_rows(whole: Rehearsed) -> None:
    for night in whole.nights:
        (row,) = [one for one in Record(whole.engine).runs(subject=f"{whole.run}/{night}") if not one.step]
        assert (row.status, row.attempt) == (SUCCEEDED, 1)
        assert set(steps(whole, night, "retrain")) == set(ARMS)
        assert all(one.outputs["promoted"] for one in steps(whole, night, "promote").values())
        assert set(steps(whole, night, "snapshot")) == {""}
        assert steps(whole, night, "retention") == {}, "its past days may have to be lived again"
        # By the clock of the simulated days: half past three in Shanghai.
        assert row.inputs["now"] == whole.lab.calendar.parse(f"{night}T03:30:00")
    assert len(Record(whole.engine).runs(steps=False)) == len(whole.nights), "and nothing else was done"


def test_models_change_night_by_night_and_name_what_served_before(whole: Rehearsed) -> None:
    url = whole.lab.resolve(whole.lab.settings.artefact_url)
    for arm in ARMS:
        versions = whole.versions(arm)
        assert len(set(versions)) == len(versions)
        manifests = [read_manifest(url, arm, version) for version in versions]
        assert [one.parent for one in manifests] == [None, *versions[:-1]]
        held_out = [whole.lab.calendar.parse(night - timedelta(days=1)) for night in whole.nights]
        assert [one.data_until for one in manifests] == held_out


def test_each_day_is_answered_by_what_the_night_before_made(whole: Rehearsed) -> None:
    i = impressions.c
    with whole.engine.connect() as connection:
        asked = select(i.ts, i.arm, i.arm_version).where(i.run == whole.run, i.arm.in_(ARMS)).distinct()
        rows = connection.execute(asked).all()
    day_of, first = whole.lab.calendar.day, whole.lab.calendar.day(whole.lab.calendar.parse(FIRST))
    versions = {arm: whole.versions(arm)[:-1] for arm in ARMS}
    met = set()
    for ts, arm, version in rows:
        # A session that began before midnight goes on with what answered then.
        began = {day_of(ts) - first, day_of(ts - SESSION) - first}
        day = versions[arm].index(version)
        assert day in began
        met.add((day, arm))
    assert met == {(day, arm) for day in range(SIZE.days) for arm in ARMS}


def test_the_prompts_of_the_night_are_in_view_on_the_day(whole: Rehearsed) -> None:
    p = prompts.c
    for day, version in enumerate(whole.versions("tiny")[:-1]):
        start, end = (whole.lab.calendar.parse(FIRST + timedelta(days=one)) for one in (day, day + 1))
        with whole.engine.connect() as connection:
            asked = select(p.unit_id, p.answered, p.ts, p.item_id).where(
                p.arm == "tiny", p.version == version
            )
            rows = connection.execute(asked).all()
        assert rows
        assert all(row.ts < start for row in rows), "the night knows what was before the day"
        said: dict[str, set[Any]] = defaultdict(set)
        for row in rows:
            said[row.unit_id].add(tuple(row[1:]))
        seen = prompted = 0
        for request, slate in whole.answers:
            if start <= request.ts < end and request.unit in said:
                prompted += 1
                stored = [one for one in slate.prompts if one.stored]
                places = [request.history[one.position] for one in stored]
                mine = {(place.item, place.ts, one.item) for place, one in zip(places, stored, strict=True)}
                assert mine <= said[request.unit]
                seen += bool(mine)
        assert seen > 0.5 * prompted


def test_what_is_rehearsed_serves_in_its_run_alone(whole: Rehearsed) -> None:
    with whole.engine.connect() as connection:
        for arm in ARMS:
            assert promotions.serving_version(connection, arm, None) is None
            assert promotions.serving_version(connection, arm, "e") is None
            found = promotions.promoted(connection, arm, whole.run)
            assert found is not None
            assert found.version == whole.versions(arm)[-1]
        assert set(connection.execute(select(models.c.scope)).scalars()) == {whole.run}


def shown(engine: Engine) -> list[Any]:
    """Give all that users were shown and did."""
    i, f = impressions.c, feedback.c
    columns = (i.event_id, i.ts, i.unit_id, i.arm, i.arm_version, i.item_id, i.position)
    with engine.connect() as connection:
        rows: list[Any] = list(connection.execute(select(*columns).order_by(i.event_id)))
        rows += connection.execute(select(f.event_id, f.ts, f.unit_id, f.item_id).order_by(f.event_id))
        return rows


def begin(lab: Lab) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", COMMAND, *WORDS, "--lab", str(lab.folder), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def wait_for(engine: Engine, process: subprocess.Popen[bytes], night: date, step: str) -> None:
    """Wait until a step of a night is running."""
    j, until = job_runs.c, time.monotonic() + 120
    running = (j.status == "running", j.step == step, j.subject.endswith(f"/{night}"))
    while process.poll() is None:
        assert time.monotonic() < until
        with engine.connect() as connection:
            if connection.execute(select(j.id).where(*running)).first() is not None:
                return
        time.sleep(0.005)
    raise AssertionError("it ended before")


def test_killed_half_way_it_is_completed_to_the_same(
    whole: Rehearsed, tmp_path: Path, sqlite_template: Path
) -> None:
    lab = make_lab(tmp_path / "lab")
    shutil.copyfile(sqlite_template, lab.folder / "armlift.db")
    engine = connect("sqlite:///armlift.db", lab.folder)
    nights = whole.nights
    process = begin(lab)
    wait_for(engine, process, nights[2], "evaluate")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = begin(lab)
    process.communicate()
    assert process.returncode == 0
    assert shown(engine) == shown(whole.engine)
    found = [(one.subject, one.attempt, one.status) for one in Record(engine).runs(steps=False)]
    done = [(f"{whole.run}/{night}", 1, SUCCEEDED) for night in nights if night != nights[2]]
    resumed = [(f"{whole.run}/{nights[2]}", 1, FAILED), (f"{whole.run}/{nights[2]}", 2, SUCCEEDED)]
    assert sorted(found) == sorted([*done, *resumed])
    engine.dispose()


CHEAP = EXPERIMENT.replace("covisitation: 1, tiny: 2", "covisitation: 1")


def rehearse(lab: Lab, engine: Engine, days: int, tell: Any = None) -> str:
    size = Size(users=30, days=days, k=5, seed=1)
    with EmbeddedStream(lab.folder / "stream") as stream:
        return (
            Rehearsal(lab, lab.again().experiment("e"), size, engine, tell=tell, say=lambda _: None)
            .run(stream)
            .run
        )


@pytest.fixture
def cheap(tmp_path: Path, engine: Engine) -> Lab:
    """Give a lab whose arms are learned at once."""
    lab = make_lab(tmp_path / "lab")
    (lab.folder / "experiments" / "e.yaml").write_text(CHEAP)
    return Lab(lab.folder, database=engine.url.render_as_string(hide_password=False))


def write(lab: Lab, text: str) -> None:
    (lab.folder / "nightly.yaml").write_text(text)


@sqlite_only
def test_alerts_of_a_rehearsal_are_stored_and_sent_to_nobody(
    cheap: Lab, engine: Engine, webhook: Any
) -> None:
    with webhook(200) as server:
        strict = NIGHTLY.replace("minimum_units: 5", "minimum_units: 5000")
        write(cheap, strict.replace("http://127.0.0.1:9/nobody", server.url))
        with pytest.raises(ArmliftError, match=rf"^night {FIRST}: no version of arm popularity was promoted"):
            rehearse(cheap, engine, 1)
        assert server.got == []
    with engine.connect() as connection:
        rows = connection.execute(select(alerts).order_by(alerts.c.number)).all()
    assert [(row.kind, row.deliveries) for row in rows] == [("refused", {}), ("refused", {})]
    assert all(row.at == cheap.calendar.parse(f"{FIRST}T03:30:00") for row in rows)


@sqlite_only
@pytest.mark.parametrize(
    ("cron", "nights"),
    [("30 3 * * fri", [FIRST]), ("0 */12 * * *", [FIRST, date(2022, 4, 23), date(2022, 4, 24)])],
)
def test_nights_are_those_of_the_schedule(cheap: Lab, engine: Engine, cron: str, nights: list[date]) -> None:
    write(cheap, NIGHTLY + f"schedule: {{cron: {cron!r}}}\n")
    run = rehearse(cheap, engine, 2)
    found = [(one.subject, one.attempt) for one in Record(engine).runs(job="nightly", steps=False)]
    assert sorted(found) == [(f"{run}/{night}", 1) for night in nights]


@sqlite_only
def test_a_night_that_came_to_its_end_stays_as_it_was(cheap: Lab, engine: Engine, faulty: None) -> None:
    path = cheap.folder / "arms" / "bad.yaml"
    path.write_text("name: bad\nmodel: faulty\n")
    (cheap.folder / "experiments" / "e.yaml").write_text(CHEAP.replace("covisitation", "bad"))
    second, third = FIRST + timedelta(days=1), FIRST + timedelta(days=2)

    def tell(one: JobRun) -> None:
        if one.step == "roll_up" and one.subject.endswith(str(second)):
            path.write_text("name: bad\nmodel: faulty\nfault: crash\n")
        if one.step == "roll_up" and one.subject.endswith(str(third)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearse(cheap, engine, 3, tell)
    path.write_text("name: bad\nmodel: faulty\n")
    before = shown(engine)
    run = rehearse(cheap, engine, 3)
    found = [(one.subject[-10:], one.attempt, one.status) for one in Record(engine).runs(steps=False)]
    assert sorted(found)[:4] == [
        (str(FIRST), 1, SUCCEEDED),
        (str(second), 1, FAILED),
        (str(third), 1, FAILED),
        (str(third), 2, SUCCEEDED),
    ]
    assert set(before) <= set(shown(engine))
    served = [served_after(engine, run, str(night))[name_of("bad", run)] for night in (FIRST, second, third)]
    assert served[0] == served[1] != served[2]
