"""Nights: what they come to, that they are done once, and that a broken-off one is resumed to the same."""

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import Server
from sqlalchemy import Engine, select
from walkers import FIRST, NIGHTLY, TINY, define, fill

from armlift import promotions
from armlift.arm import Request
from armlift.artefacts import MODEL_FILE, load_artefact, read_manifest
from armlift.days import DAY_MS
from armlift.errors import InputError
from armlift.lab import Lab
from armlift.nightly import ARM_STEPS
from armlift.store.database import connect, upgrade
from armlift.store.tables import audit_log, feedback, job_runs, models, prompts
from armlift_pipelines.dataset import DataSet
from armlift_pipelines.dataset_erasure import erase
from armlift_pipelines.history import came_to
from armlift_pipelines.job_runs import FAILED, SUCCEEDED, Record
from armlift_pipelines.night import Night, Result
from armlift_pipelines.steps import STEPS
from armlift_pipelines.worker import StoppedError

sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
DAY = FIRST + timedelta(days=6)
LATER = (DAY.toordinal() - date(1970, 1, 1).toordinal() + 30) * DAY_MS


def night(lab: Lab, engine: Engine, day: date = DAY, **given: Any) -> Result:
    return Night(lab.again(), engine, day, now=LATER, **given).run()


def serving(engine: Engine, arm: str, scope: str = "*") -> str | None:
    with engine.connect() as connection:
        found = promotions.promoted(connection, arm, scope)
    return None if found is None else found.version


def step(result: Result, name: str, arm: str = "") -> dict[str, Any]:
    (one,) = [one for one in result.steps if (one.step, one.arm) == (name, arm)]
    return dict(one.outputs)


def test_a_night_trains_proves_promotes_and_prompts(lab: Lab, engine: Engine) -> None:
    told: list[str] = []
    result = night(lab, engine, tell=lambda one: told.append(one.step))
    assert result.run.status == SUCCEEDED
    arms = ["retrain", "evaluate", "gate", "promote", "write_prompts"]
    assert told == ["roll_up", "build_dataset", *arms, *arms, "drift", "snapshot", "retention"]
    data = step(result, "build_dataset")
    # Six days before the watermark, the last of them held out.
    assert (data["units"], data["behaviours"], data["dataset"]) == (60, 60 * 5 * 4, str(DAY))
    for arm in ("popularity", "tiny"):
        version = step(result, "promote", arm)["serving"]
        assert serving(engine, arm) == version == step(result, "retrain", arm)["candidate"]
        found = step(result, "evaluate", arm)["evaluation"]
        assert found["asked"] == 60
        assert 0 <= found["metrics"]["NDCG@10"] <= 1
        manifest = read_manifest(lab.resolve(lab.settings.artefact_url), arm, version)
        assert manifest.data_until == lab.calendar.parse(DAY - timedelta(days=1))
        assert manifest.parent is None
    with engine.connect() as connection:
        rows = connection.execute(select(prompts.c.unit_id, prompts.c.version, prompts.c.ts)).all()
    assert len(rows) == 60
    assert {row.version for row in rows} == {serving(engine, "tiny")}
    # Prompts answer the last thing each unit did before the watermark, the day held out counted.
    assert all(lab.calendar.parse(DAY) - DAY_MS < row.ts < lab.calendar.parse(DAY) for row in rows)
    assert all(one.log and (lab.folder / one.log).is_file() for one in result.steps)


@sqlite_only
def test_the_next_night_goes_on_from_what_serves(lab: Lab, engine: Engine) -> None:
    first, second = night(lab, engine), night(lab, engine, DAY + timedelta(days=1))
    url = lab.resolve(lab.settings.artefact_url)
    for arm in ("popularity", "tiny"):
        before, after = (step(one, "retrain", arm)["candidate"] for one in (first, second))
        assert before != after
        assert read_manifest(url, arm, after).parent == before
        assert "NDCG@10" in step(second, "evaluate", arm)["evaluation"]["compared"]
    assert step(second, "retrain", "tiny")["warm_from"] == step(first, "retrain", "tiny")["candidate"]
    assert step(second, "retrain", "popularity")["warm_from"] is None


@sqlite_only
def test_a_night_that_is_done_again_does_nothing(lab: Lab, engine: Engine) -> None:
    first = night(lab, engine)
    with engine.connect() as connection:
        before = [tuple(connection.execute(select(table)).all()) for table in (models, prompts, audit_log)]
    again = night(lab, engine)
    assert [one.id for one in again.steps] == [one.id for one in first.steps]
    assert again.run.attempt == 2
    with engine.connect() as connection:
        after = [tuple(connection.execute(select(table)).all()) for table in (models, prompts, audit_log)]
    assert after == before


@sqlite_only
def test_a_data_set_that_is_gone_or_another_is_built_again(lab: Lab, engine: Engine) -> None:
    (lab.folder / "nightly.yaml").write_text(NIGHTLY + "arms: {tiny: {steps: []}, popularity: {steps: []}}\n")
    first = step(night(lab, engine), "build_dataset")
    folder = lab.folder / "datasets" / first["dataset"]
    for harm in (
        lambda: erase(folder, [next(DataSet(folder).histories()).unit]),
        lambda: (folder / "dataset.json").write_text("{}"),
        lambda: (folder / "dataset.json").unlink(),
    ):
        harm()
        again = step(night(lab, engine), "build_dataset")
        assert again["data_hash"] == first["data_hash"] == DataSet(folder).meta.data_hash
        assert len(list(DataSet(folder).histories())) == 60


@sqlite_only
def test_a_night_in_the_future_is_refused(lab: Lab, engine: Engine) -> None:
    with pytest.raises(
        InputError, match=r"night 2030-01-01: begins 2030-01-01T00:00:00.00:00, must not lie in the future"
    ):
        Night(lab, engine, date(2030, 1, 1), now=LATER)


@sqlite_only
def test_arms_that_must_not_mix_learn_apart(lab: Lab, engine: Engine) -> None:
    define(lab.folder, "popularity", "tiny", more="training_data: own\n")
    result = night(lab, engine)
    assert [(one.arm, one.scope) for one in result.steps if one.step == "retrain"] == [
        ("popularity", "e"),
        ("tiny", "e"),
        ("popularity", "*"),  # the lab's default arm
    ]
    assert serving(engine, "tiny", "e") is not None
    assert serving(engine, "tiny", "*") is None


@sqlite_only
def test_an_arm_may_do_fewer_steps(lab: Lab, engine: Engine) -> None:
    (lab.folder / "nightly.yaml").write_text(
        NIGHTLY + "arms: {tiny: {steps: [retrain]}, popularity: {steps: []}}\n"
    )
    result = night(lab, engine)
    assert [one.step for one in result.steps if one.arm] == ["retrain"]
    assert serving(engine, "tiny") is None


@sqlite_only
def test_several_processes_train_an_arm_together(lab: Lab, engine: Engine) -> None:
    alone = step(night(lab, engine), "retrain", "tiny")
    (lab.folder / "nightly.yaml").write_text(NIGHTLY + "arms: {tiny: {processes: 2}}\n")
    result = night(lab, engine, DAY + timedelta(days=1))
    assert result.run.status == SUCCEEDED
    found = step(result, "retrain", "tiny")
    assert "tune_NDCG@10" in found["figures"]
    assert found["candidate"] != alone["candidate"]
    assert found["step_megabytes"] > 1.5 * alone["step_megabytes"]
    assert not (lab.folder / "checkpoints").exists()


@pytest.fixture
def with_fault(lab: Lab, engine: Engine, faulty: None) -> Lab:
    """Give the lab with an arm `bad` that serves, and can be made to fail."""
    define(lab.folder, "popularity", "bad")
    set_fault(lab, "none")
    assert night(lab, engine).run.status == SUCCEEDED
    return lab


def set_fault(lab: Lab, fault: str, slow: float = 0.0) -> None:
    text = f"name: bad\nmodel: faulty\nfault: {fault}\nslow: {slow}\n"
    (lab.folder / "arms" / "bad.yaml").write_text(text)


@sqlite_only
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("crash", "ZeroDivisionError: by nothing"),
        ("abort", "its process was ended by SIGABRT"),
        ("memory", "MB of memory, must use at most 700"),
    ],
)
def test_a_training_that_fails_leaves_the_old_version_serving(
    with_fault: Lab, engine: Engine, fault: str, error: str
) -> None:
    lab, before = with_fault, serving(engine, "bad")
    (lab.folder / "nightly.yaml").write_text(
        NIGHTLY.replace("retries: 0", "retries: 1").replace("backoff: 1s", "backoff: 1s, megabytes: 700")
    )
    set_fault(lab, fault)
    result = night(lab, engine, DAY + timedelta(days=1))
    assert result.run.status == FAILED
    (failed,) = result.failed
    assert (failed.step, failed.arm, failed.attempt) == ("retrain", "bad", 2)  # it was tried twice
    assert failed.error is not None
    assert error in failed.error
    assert serving(engine, "bad") == before
    # The other arm, and what comes after the arms, are done all the same.
    assert serving(engine, "popularity") == step(result, "retrain", "popularity")["candidate"]
    assert result.steps[-1].step == "retention"
    set_fault(lab, "none")
    mended = night(lab, engine, DAY + timedelta(days=1))
    assert mended.run.status == SUCCEEDED
    assert serving(engine, "bad") == step(mended, "retrain", "bad")["candidate"] != before
    reused = {one.id for one in result.steps} & {one.id for one in mended.steps}
    assert len(reused) == len(result.steps) - 1


@sqlite_only
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("nan", "some weights are no numbers"), ("worst", "it is worse, the interval must reach 0")],
)
def test_a_model_that_is_no_good_is_refused(with_fault: Lab, engine: Engine, fault: str, reason: str) -> None:
    lab, before = with_fault, serving(engine, "bad")
    set_fault(lab, fault)
    result = night(lab, engine, DAY + timedelta(days=1))
    assert result.run.status == SUCCEEDED
    (refused,) = result.refused
    assert any(reason in one for one in refused.outputs["reasons"])
    assert serving(engine, "bad") == before
    with engine.connect() as connection:
        states = dict(
            connection.execute(select(models.c.version, models.c.state).where(models.c.arm == "bad")).all()
        )
    assert states == {before: "promoted", step(result, "retrain", "bad")["candidate"]: "refused"}
    promotion = step(result, "promote", "bad")
    assert (promotion["serving"], promotion["promoted"]) == (before, False)


@sqlite_only
def test_a_corrupt_artefact_is_refused_at_load_and_named(lab: Lab, engine: Engine) -> None:
    first = night(lab, engine)
    version = step(first, "promote", "popularity")["serving"]
    path = Path(lab.resolve(lab.settings.artefact_url)) / "popularity" / version / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    result = night(lab, engine, DAY + timedelta(days=1))
    (failed,) = result.failed
    assert (failed.step, failed.arm) == ("evaluate", "popularity")
    assert failed.error is not None
    assert f"popularity/{version}/model.safetensors: is corrupted: sha256" in failed.error
    assert serving(engine, "popularity") == version
    assert serving(engine, "tiny") == step(result, "retrain", "tiny")["candidate"]


@sqlite_only
def test_a_model_that_forgets_is_refused(lab: Lab, engine: Engine) -> None:
    # Fine-tuning that jumps about forgets what pre-training taught; the gate allows little here.
    (lab.folder / "nightly.yaml").write_text(NIGHTLY.replace("most_forgetting: 5", "most_forgetting: 0.05"))
    night(lab, engine)
    before = serving(engine, "tiny")
    assert before is not None
    (lab.folder / "arms" / "tiny.yaml").write_text(
        TINY.replace("epochs: 2", "epochs: 1").replace("pretraining_epochs: 1", "pretraining_epochs: 60")
        + "learning_rate: 0.5\naveraging: 0.01\n"
    )
    result = night(lab, engine, DAY + timedelta(days=1))
    assert step(result, "retrain", "tiny")["figures"]["forgetting"] > 0.05
    assert any("fine-tuning added" in one for one in step(result, "gate", "tiny")["reasons"])
    assert serving(engine, "tiny") == before


COMMAND = "import sys; from armlift.cli import main; main(sys.argv[1:])"


def begin(lab: Lab, engine: Engine, day: date) -> subprocess.Popen[bytes]:
    url = engine.url.render_as_string(hide_password=False)
    given = ["nightly", "--date", str(day), "--lab", str(lab.folder), "--database", url, "--json"]
    command = [sys.executable, "-c", COMMAND, *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def state_of(lab: Lab, engine: Engine) -> dict[str, Any]:
    """Give what a night leaves behind, but for when it was."""
    m, p = models.c, prompts.c
    with engine.connect() as connection:
        kept = (m.arm, m.scope, m.version, m.state, m.data_hash, m.parent)
        found = [tuple(row) for row in connection.execute(select(*kept).order_by(*kept))]
        said = [
            tuple(row)
            for row in connection.execute(
                select(p.arm, p.version, p.unit_id, p.position, p.item_id, p.score, p.history_hash).order_by(
                    p.arm, p.version, p.unit_id, p.position, p.step
                )
            )
        ]
        audited = [tuple(row) for row in connection.execute(select(audit_log.c.action, audit_log.c.subject))]
    artefacts = sorted(
        str(path.relative_to(lab.folder)) for path in (lab.folder / "models").rglob("*.safetensors")
    )
    return {"models": found, "prompts": said, "audit": audited, "artefacts": artefacts}


@sqlite_only
def test_killed_at_every_step_it_is_resumed_to_the_same(lab: Lab, engine: Engine, tmp_path: Path) -> None:
    day = DAY + timedelta(days=1)
    with (lab.folder / "nightly.yaml").open("a") as file:
        file.write("archive: {after: 1d}\n")
    night(lab, engine)
    kills: list[str] = []
    for name in STEPS:
        process = begin(lab, engine, day)
        wait_for(engine, name, "tiny" if name in ARM_STEPS else "")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills.append(name)
    assert kills == list(STEPS)
    process = begin(lab, engine, day)
    output, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    assert json.loads(output)["status"] == SUCCEEDED
    killed = state_of(lab, engine)
    # The same nights without any harm.
    folder = tmp_path / "reference"
    subprocess.run(["cp", "-r", str(lab.folder), str(folder)], check=True)
    for name in ("models", "datasets", "checkpoints", "logs", "archive"):
        subprocess.run(["rm", "-rf", str(folder / name)], check=True)
    reference = connect(f"sqlite:///{folder / 'reference.db'}", folder)
    upgrade(reference)
    fill(reference)
    other = Lab(folder, database=f"sqlite:///{folder / 'reference.db'}")
    for one in (DAY, day):
        assert night(other, reference, one).run.status == SUCCEEDED
    assert state_of(other, reference) == killed
    reference.dispose()
    assert not list(lab.folder.glob("datasets/.*"))


def test_a_night_that_is_told_to_stop_stops_and_goes_on_later(lab: Lab, engine: Engine) -> None:
    stop = threading.Event()
    done: list[str] = []

    def tell(one: Any) -> None:
        done.append(one.step)
        if one.step == "retrain":
            stop.set()

    with pytest.raises(StoppedError):
        night(lab, engine, stop=stop, tell=tell)
    newest = Record(engine).runs(job="nightly", steps=False)[0]
    assert (newest.status, newest.error) == (FAILED, "stopped")
    result = night(lab, engine)
    assert result.run.status == SUCCEEDED
    assert [one.step for one in result.steps][: len(done)] == done


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_database_that_restarts_meanwhile_does_no_harm(
    with_fault: Lab, engine: Engine, postgresql_server: Server
) -> None:
    lab = with_fault
    (lab.folder / "nightly.yaml").write_text(NIGHTLY.replace("retries: 0", "retries: 2"))
    set_fault(lab, "none", slow=2.0)
    found: list[Result] = []
    working = threading.Thread(target=lambda: found.append(night(lab, engine, DAY + timedelta(days=1))))
    working.start()
    wait_for(engine, "retrain", "bad")
    postgresql_server.stop(signal.SIGQUIT)
    time.sleep(1.0)
    postgresql_server.start()
    working.join(120)
    (result,) = found
    assert result.run.error is None
    assert serving(engine, "bad") == step(result, "retrain", "bad")["candidate"]
    assert read_manifest(lab.resolve("models"), "bad", str(serving(engine, "bad"))).parent is not None


def wait_for(engine: Engine, name: str, arm: str = "") -> None:
    """Wait until a step is running."""
    j, until = job_runs.c, time.monotonic() + 60
    while time.monotonic() < until:
        with engine.connect() as connection:
            running = (j.status == "running", j.step == name, j.arm == arm)
            if connection.execute(select(j.id).where(*running)).first() is not None:
                return
        time.sleep(0.002)
    raise TimeoutError(name)


def test_what_a_promoted_version_is_made_of(lab: Lab, engine: Engine) -> None:
    result = night(lab, engine)
    version = step(result, "promote", "tiny")["serving"]
    (made,) = [one for one in result.steps if (one.step, one.arm) == ("retrain", "tiny")]
    assert made.inputs["data_hash"] == step(result, "build_dataset")["data_hash"]
    assert made.inputs["definition"]
    assert {"armlift", "python", "torch"} <= made.versions.keys()
    arm, manifest = load_artefact(lab.resolve(lab.settings.artefact_url), "tiny", version)
    assert manifest.code == made.versions
    assert arm.recommend([Request("0" * 32, "u1", LATER, 5)])[0].items


def test_a_night_archives_before_it_deletes(lab: Lab, engine: Engine) -> None:
    def untrained(text: str) -> None:
        (lab.folder / "nightly.yaml").write_text(
            NIGHTLY + "arms: {popularity: {steps: []}, tiny: {steps: []}}\n" + text
        )

    untrained("archive: {after: 33d}\nretention: {events: 10d}\n")
    result = night(lab, engine)
    assert [one.step for one in result.steps][-2:] == ["archive", "retention"]
    archived, deleted = step(result, "archive")["archived"], step(result, "retention")["deleted"]
    assert (archived["days"], archived["before"]) == (3, str(FIRST + timedelta(days=3)))
    assert deleted["events"] == {"impressions": 0, "feedback": 3 * 60 * 4}
    assert deleted["waiting_days"] == 4
    assert [came_to(one) for one in result.steps][-2:] == [
        "3 days, 720 events",
        "4 days wait for the archive",
    ]
    untrained("archive: {after: 3d}\nretention: {events: 10d}\n")
    again = night(lab, engine)
    assert step(again, "archive")["archived"]["days"] == 4
    assert step(again, "retention")["deleted"]["waiting_days"] == 0
    with engine.connect() as connection:
        assert connection.execute(select(feedback)).all() == []
