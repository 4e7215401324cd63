"""Rehearsals: simulated days with real nights between them."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from walkers import TINY, define

from armlift import promotions
from armlift.arm import Arm, Request, Slate
from armlift.artefacts import read_manifest
from armlift.lab import Lab, init_lab
from armlift.runs import Run
from armlift.simulation.laboratory import Size
from armlift.store.database import open_database
from armlift.store.tables import alerts, exposures, feedback, impressions, models, prompts
from armlift.streams.embedded import EmbeddedStream
from armlift_pipelines.job_runs import SUCCEEDED, Record
from armlift_pipelines.night import name_of, served_after
from armlift_pipelines.rehearsal import Rehearsal

ARMS = ("popularity", "tiny")
SIZE = Size(users=60, days=2, k=10, seed=0)
FIRST = date(2022, 4, 22)
WORLD = """
simulation: {history_days: 2, videos: 60, taste_categories: 6, sessions_per_day: 1.5, rows_per_session: 10}
"""
LENIENT = """
gate:
  {minimum_units: 2, minimum_behaviours: 100, margin: 0.9, alpha: 0.01, most_lost_recall: 0.99,
   most_prompt_gap: 1, most_forgetting: 9, most_short_histories: 1}
"""


def make_lab(folder: Path) -> Lab:
    init_lab(folder)
    (folder / "arms" / "tiny.yaml").write_text(TINY)
    (folder / "nightly.yaml").write_text(LENIENT)
    define(folder, *ARMS, more=WORLD)
    return Lab(folder)


class Watched(Rehearsal):
    """Notes whether the first slate that `tiny` gives a unit on a day has stored prompts in view."""

    def __init__(self, lab: Lab, engine: Engine) -> None:
        super().__init__(lab, lab.experiment("e"), SIZE, engine, say=lambda _: None)
        self.seen: dict[tuple[int, str], bool] = {}

    def _night(self, day: int) -> Mapping[str, Arm]:
        arms = super()._night(day)
        arm = arms["tiny"]
        recommend = arm.__dict__.get("noted", arm.recommend)
        arm.__dict__["noted"] = recommend

        def noting(requests: Sequence[Request]) -> list[Slate]:
            slates = recommend(requests)
            for request, slate in zip(requests, slates, strict=True):
                self.seen.setdefault((day, request.unit), any(one.stored for one in slate.prompts))
            return list(slates)

        arm.recommend = noting  # type: ignore[method-assign]
        return arms


def live(lab: Lab, engine: Engine) -> tuple[Run, dict[tuple[int, str], bool]]:
    rehearsal = Watched(lab, engine)
    with EmbeddedStream(lab.folder / "stream") as stream:
        return rehearsal.run(stream), rehearsal.seen


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Engine, Run, dict[tuple[int, str], bool]]:
    """Give a lab after a rehearsal of two days."""
    lab = make_lab(tmp_path_factory.mktemp("rehearsal") / "lab")
    engine = open_database(lab, create=True)
    return (lab, engine, *live(lab, engine))


Week = tuple[Lab, Engine, Run, dict[tuple[int, str], bool]]


def nights(run: Run) -> list[str]:
    return [str(FIRST + timedelta(days=day)) for day in range(SIZE.days + 1)]


def test_every_night_is_done_and_trains_every_arm(week: Week) -> None:
    lab, engine, run, _ = week
    done = [one for one in Record(engine).runs(job="nightly", steps=False) if one.status == SUCCEEDED]
    assert sorted(one.subject for one in done) == [f"{run.run}/{night}" for night in nights(run)]
    versions: dict[str, list[str]] = {}
    for night in nights(run):
        for one in reversed(Record(engine).runs(subject=f"{run.run}/{night}")):
            if one.step == "retrain":
                versions.setdefault(one.arm, []).append(one.outputs["candidate"])
                assert one.inputs["parent"] == before(engine, run, night, one.arm)
                manifest = read_manifest(lab.resolve("models"), one.arm, one.outputs["candidate"])
                assert manifest.parent == one.inputs["parent"]
    assert set(versions) == set(ARMS)
    for found in versions.values():
        assert len(found) == len(set(found)) == SIZE.days + 1


def before(engine: Engine, run: Run, night: str, arm: str) -> str | None:
    """Give what served before a night."""
    last = str(date.fromisoformat(night) - timedelta(days=1))
    return served_after(engine, run.run, last).get(name_of(arm, run.run))


def test_impressions_bear_the_version_that_their_night_let_serve(week: Week) -> None:
    _, engine, run, _ = week
    i = impressions.c
    with engine.connect() as connection:
        rows = connection.execute(
            select(i.day, i.arm, i.arm_version, func.count())
            .where(i.run == run.run, i.arm.in_(ARMS))
            .group_by(i.day, i.arm, i.arm_version)
        ).all()
    assert len(rows) >= SIZE.days * len(ARMS)
    for day, arm, version, count in rows:
        # Sessions that begin before midnight end on the next day.
        late = date(1970, 1, 1) + timedelta(days=day)
        served = [
            served_after(engine, run.run, str(one)).get(name_of(arm, run.run))
            for one in (late, late - timedelta(days=1))
        ]
        assert version in served
        if version != served[0]:
            assert count < 100


def test_prompts_of_the_night_are_in_view_on_the_next_day(week: Week) -> None:
    _, engine, _, seen = week
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(prompts)).scalar_one() > 0
    assert len(seen) > 10
    assert sum(seen.values()) / len(seen) > 0.8


def test_what_is_learned_serves_in_the_rehearsal_alone(week: Week) -> None:
    _, engine, run, _ = week
    with engine.connect() as connection:
        assert set(connection.execute(select(models.c.scope)).scalars()) == {run.run}
        assert promotions.serving_version(connection, "popularity", None) is None
        deliveries = connection.execute(select(alerts.c.deliveries)).scalars().all()
    assert all(not one for one in deliveries)


def counts(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (exposures, impressions, feedback, models)
        ]


def test_the_same_again_adds_nothing(week: Week) -> None:
    lab, engine, run, _ = week
    before = counts(engine)
    assert live(lab, engine)[0].run == run.run
    assert counts(engine) == before


COMMAND = "import sys; from armlift.cli import main; main(sys.argv[1:])"


def test_killed_on_the_way_it_ends_with_the_same_events(week: Week, tmp_path: Path) -> None:
    _, whole, run, _ = week
    lab = make_lab(tmp_path / "lab")
    given = ["schedule", "--simulate", "e", "--users", "60", "--days", "2", "--lab", str(lab.folder)]
    command = [sys.executable, "-c", COMMAND, *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        engine = open_database(lab, create=True)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            done = Record(engine).runs(subject=f"{run.run}/{nights(run)[1]}")
            if any(one.step == "promote" and one.arm == "tiny" for one in done):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "Lift against the control" in again.stdout
    columns = (impressions.c.event_id, impressions.c.arm_version, impressions.c.item_id)
    found = []
    for one in (whole, engine):
        with one.connect() as connection:
            query = select(*columns).where(impressions.c.run == run.run).order_by(impressions.c.event_id)
            found.append(connection.execute(query).all())
    assert found[0] == found[1]
    engine.dispose()
