"""Experiments in SQL: started from their file, ramped, paused, resumed and stopped, all on record."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guarded import HOUR, START, crowd, make_lab
from sqlalchemy import Engine, select

from armlift import running, runs
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.lab import Lab
from armlift.metric import METRICS
from armlift.report import make_report
from armlift.running import RunningExperiment, Started
from armlift.splitter import Assignment, assign, assign_many, generations
from armlift.store.database import reading, writing
from armlift.store.tables import audit_log, experiments

WHO: dict[str, Any] = {"reason": "to see", "by": "ada"}
UNITS = [f"u{number}" for number in range(400)]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path / "lab")


def start(lab: Lab, engine: Engine, name: str = "one", at: int = START, **more: Any) -> Started:
    with writing(engine) as connection:
        return running.start(connection, Lab(lab.folder), name, **WHO, at=at, **more)


def do(engine: Engine, change: Any, *words: Any, at: int, name: str = "one") -> RunningExperiment:
    with writing(engine) as connection:
        made: RunningExperiment = change(connection, name, *words, **WHO, at=at)
        return made


def found(engine: Engine, name: str = "one") -> RunningExperiment:
    with reading(engine) as connection:
        one = running.find(connection, name)
    assert one is not None
    return one


def audit(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(select(audit_log).order_by(audit_log.c.number)))


def exposed(one: RunningExperiment, lab: Lab, now: int) -> dict[str, str]:
    """Give the arms of the units that meet one, and see that the scalar path says the same."""
    phase, split = one.phase_at(now), one.split(lab)
    assert phase is not None
    given = assign_many(split, phase, UNITS)
    scalar = [assign(split, phase, unit) for unit in UNITS]
    assert [given.arms[arm] for arm in given.arm] == [one.arm for one in scalar]
    assert given.exposed.tolist() == [one.exposed for one in scalar]
    return {unit: one.arm for unit, one in zip(UNITS, scalar, strict=True) if one.exposed}


def edit(lab: Lab, old: str, new: str, file: str = "experiments/one.yaml") -> None:
    path = lab.folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_started_experiment_is_read_from_sql_alone(lab: Lab, engine: Engine) -> None:
    draft = lab.experiment("one")
    done = start(lab, engine)
    assert (done.new, done.changes) == (True, [])
    (lab.folder / "experiments" / "one.yaml").unlink()
    one = found(engine)
    assert one == done.running
    assert (one.state, one.version, one.run, one.hash, one.starts) == (
        "running", 1, "live", draft.content_hash, (START,),
    )  # fmt: skip
    assert one.experiment.model_copy(update={"phases": draft.phases}) == draft
    assert list(one.experiment.arms) == ["old", "new"], "whose order decides who gets which"
    assert one.metrics == lab.metrics_of(draft)
    assert lab.calendar.parse(str(one.experiment.phases[0].start)) == START
    assert (one.phase_at(START - 1), one.phase_at(START)) == (None, 0)
    with reading(engine) as connection:
        assert running.running(connection) == running.every(connection) == [one]
        assert running.find(connection, "two") is None
        run = running.run_of(connection, one)
    assert (run.live, run.finished, run.parsed()) == (True, False, (one.experiment, one.metrics))
    (row,) = audit(engine)
    assert (row.at, row.by, row.action, row.subject) == (START, "ada", "start", "experiment/one")
    assert row.details["before"] is None
    assert row.details["after"] == one.summary()
    assert row.details["reason"] == "to see"


def test_the_file_of_a_started_experiment_may_change_in_words_alone(lab: Lab, engine: Engine) -> None:
    start(lab, engine)
    again = start(lab, engine, at=START + 1)
    assert (again.new, again.changes, again.running.version) == (False, [], 1)
    edit(lab, "name: one", "name: one\ndescription: is new better?\nsimulation: {videos: 500}")
    edit(lab, "{kind: mean,", "{kind: mean, description: as it says,", "metrics.yaml")
    done = start(lab, engine, at=START + 2)
    assert done.new
    assert done.changes == [
        'description: was "", is "is new better?"',
        "simulation.videos: was 3000, is 500",
        'metrics.yaml: clicks.description: was "", is "as it says"',
    ]
    one = found(engine)
    assert (one.version, one.state, one.experiment.description) == (2, "running", "is new better?")
    assert one.starts == (START,)
    with reading(engine) as connection:
        assert len(connection.execute(select(experiments)).all()) == 2
        assert running.run_of(connection, one).parsed()[0].description == "is new better?"
    assert audit(engine)[-1].details["changes"] == done.changes


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("new: 1}", "new: 2}", "arms.new: was 1.0, is 2.0"),
        (
            "{old: 1, new: 1}",
            "{new: 1, old: 1}",
            'arms: was {"old": 1.0, "new": 1.0}, is {"new": 1.0, "old": 1.0}',
        ),
        ("control: old", "control: new", 'control: was "old", is "new"'),
        (
            "layer: {name: one}",
            "layer: {name: one, slice: [0, 0.5]}",
            "layer.slice: was [0.0, 1.0], is [0.0, 0.5]",
        ),
        (
            "primary: [clicks]",
            "primary: [clicks], secondary: [back]",
            'metrics.secondary: was [], is ["back"]',
        ),
        ("name: one", "name: one\nanalysis: {alpha: 0.1}", "analysis.alpha: was 0.05, is 0.1"),
        ("name: one", "name: one\naudience: age > 3", 'audience: was null, is "age > 3"'),
        ("name: one", "name: one\nforced: {u1: new}", 'forced: was {}, is {"u1": "new"}'),
        ("name: one", "name: one\ntraining_data: own", 'training_data: was "pooled", is "own"'),
    ],
)
def test_what_was_started_is_frozen(lab: Lab, sqlite: Engine, old: str, new: str, says: str) -> None:
    start(lab, sqlite)
    edit(lab, "clicks:", "back: {kind: retention, day: 1}\nclicks:", "metrics.yaml")
    edit(lab, old, new)
    with pytest.raises(InputError) as caught:
        start(lab, sqlite)
    assert str(caught.value) == (
        f"experiment one: {says}; it was started, so this cannot change: make a new experiment, with a name "
        "of its own"
    )
    assert (found(sqlite).version, len(audit(sqlite))) == (1, 1)


def test_metrics_and_phases_are_frozen_too(lab: Lab, sqlite: Engine) -> None:
    start(lab, sqlite)
    edit(lab, "margin: 0.02", "margin: 0.03", "metrics.yaml")
    with pytest.raises(InputError, match=r"metrics.yaml: click_rate.margin: was 0.02, is 0.03; it was"):
        start(lab, sqlite)
    edit(lab, "margin: 0.03", "margin: 0.02", "metrics.yaml")
    edit(lab, "name: one", "name: one\nphases: [{traffic: 0.5}]")
    with pytest.raises(InputError) as caught:
        start(lab, sqlite)
    assert str(caught.value) == (
        'experiment one: phases: was [{"start": null, "traffic": 1.0, "weights": null}], is '
        '[{"start": null, "traffic": 0.5, "weights": null}]; once it was started, '
        "`armlift experiment ramp one` changes its phases"
    )


def test_a_ramp_keeps_units_in_their_arms(lab: Lab, engine: Engine) -> None:
    edit(lab, "name: one", "name: one\nphases: [{traffic: 0.2}]")
    start(lab, engine)
    few = exposed(found(engine), lab, START)
    one = do(engine, running.ramp, 0.6, at=START + HOUR)
    assert one == found(engine)
    assert one.starts == (START, START + HOUR)
    assert (one.phase_at(START + HOUR - 1), one.phase_at(START + HOUR)) == (0, 1)
    more = exposed(one, lab, START + HOUR)
    assert few.items() < more.items()
    changed = do(engine, running.ramp, 1.0, {"new": 3.0, "old": 1.0}, at=START + 2 * HOUR)
    assert [generation for generation, _ in generations(changed.experiment)] == [0, 0, 1]
    assert len(exposed(changed, lab, START + 2 * HOUR)) == len(UNITS)
    again = do(engine, running.ramp, 0.5, at=START + 2 * HOUR)
    assert again.starts[-1] == START + 2 * HOUR + 1, "phases begin one after the other"
    with reading(engine) as connection:
        assert running.run_of(connection, again).parsed()[0] == again.experiment
    last = audit(engine)[-1]
    assert (last.action, last.details["before"], last.details["after"]) == (
        "ramp", changed.summary(), again.summary(),
    )  # fmt: skip


def test_a_ramp_takes_the_place_of_what_was_planned(lab: Lab, engine: Engine) -> None:
    later = lab.calendar.show(START + 5 * HOUR)
    edit(lab, "name: one", f"name: one\nphases: [{{traffic: 0.1}}, {{start: '{later}', traffic: 1}}]")
    assert start(lab, engine, begins=START + HOUR).running.starts == (START + HOUR, START + 5 * HOUR)
    with pytest.raises(InputError, match=r"begins at 2023-11-15T\S+, must have begun to be ramped"):
        do(engine, running.ramp, 0.0, at=START)
    one = do(engine, running.ramp, 0.0, at=START + 2 * HOUR)
    assert [phase.traffic for phase in one.experiment.phases] == [0.1, 0.0]
    assert exposed(one, lab, START + 9 * HOUR) == {}
    planned = {"start": START + 5 * HOUR, "traffic": 1.0, "weights": None}
    assert audit(engine)[-1].details["dropped"] == [planned]


@pytest.mark.parametrize(
    ("traffic", "weights", "says"),
    [
        (1.5, None, "--traffic: 1.5 must be less than or equal to 1"),
        (-0.1, None, "--traffic: -0.1 must be greater than or equal to 0"),
        (0.5, {"old": 1.0}, "--weights: name old, must name the experiment's arms: old, new"),
        (0.5, {"old": 0.0, "new": 0.0}, "--weights: weights {'old': 0.0, 'new': 0.0} are all 0, at least"),
    ],
)
def test_a_ramp_is_checked(lab: Lab, sqlite: Engine, traffic: float, weights: Any, says: str) -> None:
    start(lab, sqlite)
    with pytest.raises(InputError) as caught:
        do(sqlite, running.ramp, traffic, weights, at=START + 1)
    assert str(caught.value).startswith(says)
    assert len(found(sqlite).starts) == len(audit(sqlite)) == 1


def test_while_paused_nobody_meets_the_arms(lab: Lab, engine: Engine) -> None:
    edit(lab, "name: one", "name: one\nforced: {u1: new}")
    before = start(lab, engine).running
    paused = do(engine, running.pause, at=START + 1)
    assert (paused.state, paused.paused) == ("paused", True)
    assert exposed(paused, lab, START + 1) == {}
    stored = Assignment("new", True, "range", 0, 0)
    met = assign(paused.split(lab), 0, "u2", stored=stored)
    assert met == Assignment("old", False, "paused", 0, 0)
    assert assign(paused.split(lab), 0, "u1").arm == "old", "nor is anybody forced"
    assert not assign_many(paused.split(lab), 0, ["u1", "u2"], stored=["new", "new"]).exposed.any()
    with reading(engine) as connection:
        assert running.running(connection) == []
    with pytest.raises(InputError, match="experiment one: is paused, must be running"):
        do(engine, running.pause, at=START + 2)
    resumed = do(engine, running.resume, at=START + 3)
    assert resumed == before
    assert exposed(resumed, lab, START + 3) == exposed(before, lab, START)
    assert [(row.action, row.details["after"]["state"]) for row in audit(engine)] == [
        ("start", "running"), ("pause", "paused"), ("resume", "running"),
    ]  # fmt: skip


def test_what_is_stopped_stays_so(lab: Lab, engine: Engine) -> None:
    start(lab, engine)
    one = do(engine, running.stop, at=START + HOUR)
    assert (one.state, one.experiment.phases[-1].traffic) == ("stopped", 0.0)
    assert exposed(one, lab, START + HOUR) == {}
    with reading(engine) as connection:
        run = running.run_of(connection, one)
    assert (run.finished, run.log["last_ts"]) == (True, START + HOUR)
    for change, words in (
        (running.ramp, (1.0,)), (running.pause, ()), (running.resume, ()), (running.stop, ()),
    ):  # fmt: skip
        with pytest.raises(InputError, match="experiment one: is stopped"):
            do(engine, change, *words, at=START + 2 * HOUR)
    with pytest.raises(InputError, match="is stopped for good"):
        start(lab, engine)
    assert [row.action for row in audit(engine)] == ["start", "stop"]


def test_a_draft_cannot_be_changed(lab: Lab, sqlite: Engine) -> None:
    for change, words in ((running.ramp, (1.0,)), (running.pause, ()), (running.stop, ())):
        with pytest.raises(InputError, match="experiment one: was not started; `armlift exp"):
            do(sqlite, change, *words, at=START)
    with pytest.raises(InputError, match="--reason '': must not be empty"), writing(sqlite) as connection:
        running.start(connection, lab, "one", reason="", by="ada", at=START)


def test_phases_must_lie_ahead(lab: Lab, sqlite: Engine) -> None:
    edit(lab, "name: one", "name: one\nphases: [{traffic: 0.1}, {start: 2023-11-14, traffic: 1}]")
    with pytest.raises(InputError, match=r"phases.1.start: 2023-11-14T\S+ must be later than"):
        start(lab, sqlite)
    edit(lab, "{traffic: 0.1}", "{start: 2023-11-13, traffic: 0.1}")
    with pytest.raises(InputError, match=r"phases.1.start"):
        start(lab, sqlite)


def test_a_slice_of_a_layer_has_one_experiment(tmp_path: Path, engine: Engine) -> None:
    lab = make_lab(tmp_path / "lab", ["one", "two"])
    start(lab, engine)
    path = lab.folder / "experiments" / "one.yaml"
    path.unlink()
    edit(lab, "layer: {name: two}", "layer: {name: one, slice: [0.9, 1]}", "experiments/two.yaml")
    with pytest.raises(InputError, match=r"layer.slice: \[0.9, 1.0\] overlaps \[0.0, 1.0\] of one, which"):
        start(lab, engine, "two")
    do(engine, running.stop, at=START + 1)
    assert start(lab, engine, "two", at=START + 2).new


def test_two_processes_cannot_start_into_one_layer(tmp_path: Path, engine: Engine) -> None:
    labs = [make_lab(tmp_path / name, [name]) for name in ("one", "two")]
    for lab, name in zip(labs, ("one", "two"), strict=True):
        edit(lab, f"layer: {{name: {name}}}", "layer: {name: both}", f"experiments/{name}.yaml")

    def attempt(place: int) -> bool:
        try:
            return start(labs[place], engine, ("one", "two")[place]).new
        except InputError:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [False, True]
    with reading(engine) as connection:
        assert len(running.every(connection)) == 1


def test_live_experiments_share_a_run_and_its_events(tmp_path: Path, engine: Engine) -> None:
    lab = make_lab(tmp_path / "lab", ["one", "two"])
    start(lab, engine, "one")
    with crowd(lab, engine, seed=1, per_hour=60) as users:
        users.hour()
        start(lab, engine, "two", at=START + HOUR)  # the same ingester goes on
        users.hour()
        users.hour()
    with reading(engine) as connection:
        both = runs.of_name(connection, "live")
        assert [run.experiment for run in both] == ["one", "two"]
        assert len(runs.Subjects()(connection, {"live"})) == 2
    for run in both:
        report = make_report(engine, run, lab.calendar, as_of=users.now)
        counted = {one.arm: (one.units, one.control_units) for one in report.comparisons if one.mean}
        expected = users.units[run.experiment, "new"], users.units[run.experiment, "old"]
        assert counted == {"new": expected}
        assert [check.status for check in report.checks if check.name == "event_loss"] == ["ok"]


def test_a_run_of_another_kind_is_refused(lab: Lab, sqlite: Engine) -> None:
    start(lab, sqlite)
    with writing(sqlite) as connection:
        (row,) = runs.of_name(connection, "live")
        runs.begin(connection, row._replace(run="old_replay", mode="rerank"))
    edit_lab = make_lab(lab.folder, ["one", "two"])
    with pytest.raises(InputError, match="--run 'old_replay': is a run of one in mode rerank, must be live"):
        start(edit_lab, sqlite, "two", run="old_replay")
    assert start(edit_lab, sqlite, "two", run="other").running.run == "other"


def test_events_that_came_before_the_start_count(lab: Lab, engine: Engine) -> None:
    """Nobody asks for exposures without a running experiment, but a restored database may have them."""
    start(lab, engine)
    with crowd(lab, engine, seed=2, per_hour=40) as users:
        users.hour()
    with writing(engine) as connection:
        for name in ("experiments", "phases", "runs", "unit_days"):
            connection.exec_driver_sql(f"DELETE FROM {name}")
    start(lab, engine)
    with reading(engine) as connection:
        run = running.run_of(connection, found(engine))
    report = make_report(engine, run, lab.calendar, as_of=users.now)
    assert sum(one.units for one in report.comparisons[:1]) == users.units["one", "new"]
    assert report.comparisons[0].mean


def test_definitions_in_sql_can_be_read_as_they_are(lab: Lab, sqlite: Engine) -> None:
    one = start(lab, sqlite).running
    assert Experiment.model_validate(one.definition["experiment"]).content_hash == one.hash
    assert METRICS.validate_python(one.definition["metrics"]) == one.metrics


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    """Give an SQLite database of its own, where nothing is the database's."""
    import shutil

    from armlift.store.database import connect

    shutil.copyfile(sqlite_template, tmp_path / "armlift.db")
    made = connect("sqlite:///armlift.db", tmp_path)
    yield made
    made.dispose()
