"""What arms are fitted on, and the artefacts that come of it."""

import shutil
from pathlib import Path

import pytest

from armlift.arm import Behaviour
from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.store.database import open_database
from armlift.training import Trainer, TrainingData

COLUMNS = "user_id,video_id,time_ms,is_click,is_like,play_time_ms"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    generate(
        GeneratorSettings(
            users=40, videos=50, days=4, sessions_per_day=2, rows_per_session=5, random_share=1
        ),
        path,
    )
    return path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


def test_behaviours_are_those_before_the_cut_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = ["2,7,3000,1,0,500", "1,5,1000,1,1,2500", "1,6,2000,0,0,0", "2,7,1500,0,0,1000", "1,9,4000,1,1,1"]
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")
    data = TrainingData(open_log([path]), 3000)
    assert list(data.items.ids) == ["5", "6", "7"]
    assert [(history.unit, list(history.behaviours)) for history in data.histories()] == [
        (
            "1",
            [
                Behaviour("5", "click", 1, 1000),
                Behaviour("5", "like", 1, 1000),
                Behaviour("5", "play", 2.5, 1000),
            ],
        ),
        ("2", [Behaviour("7", "play", 1.0, 1500)]),
    ]


def test_buckets_on_disk_hold_what_memory_holds(log: Path) -> None:
    rows = open_log([log], batch_rows=100)
    until = (rows.summary.first_ts + rows.summary.last_ts) // 2
    whole, parts = TrainingData(rows, until), TrainingData(rows, until, bucket_rows=rows.summary.rows // 5)
    assert list(parts.items.ids) == list(whole.items.ids)
    in_parts = {history.unit: list(history.behaviours) for history in parts.histories()}
    assert in_parts == {history.unit: list(history.behaviours) for history in whole.histories()}
    assert len(in_parts) > 30
    again = [history.unit for history in parts.histories()]
    assert again == list(in_parts)
    parts.close()


def test_an_arm_is_fitted_once_for_a_log_and_cut(
    lab: Lab, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, rows, config = open_database(lab, create=True), open_log([log]), lab.arm("covisitation")
    until = lab.calendar.parse("2022-04-10")
    first = Trainer(lab, engine, rows, until)
    version = first.arm(config).version
    first.close()
    monkeypatch.setattr(Trainer, "_fit", lambda *_: pytest.fail("the artefact should have been found"))
    assert Trainer(lab, engine, rows, until).arm(config).version == version
    folder = lab.folder / "models" / "covisitation" / version
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.safetensors"]


def test_another_cut_or_definition_is_another_version(lab: Lab, log: Path) -> None:
    engine, rows, config = open_database(lab, create=True), open_log([log]), lab.arm("popularity")
    versions = {
        Trainer(lab, engine, rows, lab.calendar.parse(day)).arm(one).version
        for day in ("2022-04-10", "2022-04-11")
        for one in (config, config.model_copy(update={"half_life_days": 1.0}))
    }
    assert len(versions) == 4


def test_a_damaged_artefact_is_refused(lab: Lab, log: Path) -> None:
    engine, rows, config = open_database(lab, create=True), open_log([log]), lab.arm("popularity")
    until = lab.calendar.parse("2022-04-10")
    version = Trainer(lab, engine, rows, until).arm(config).version
    model = lab.folder / "models" / "popularity" / version / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        Trainer(lab, engine, rows, until).arm(config)


def test_a_lost_artefact_is_fitted_again(lab: Lab, log: Path) -> None:
    engine, rows, config = open_database(lab, create=True), open_log([log]), lab.arm("popularity")
    until = lab.calendar.parse("2022-04-10")
    version = Trainer(lab, engine, rows, until).arm(config).version
    shutil.rmtree(lab.folder / "models")
    assert Trainer(lab, engine, rows, until).arm(config).version == version
    assert (lab.folder / "models" / "popularity" / version / "manifest.json").exists()


def test_what_knows_later_rows_is_no_beginning(lab: Lab, log: Path) -> None:
    engine, rows, config = open_database(lab, create=True), open_log([log]), lab.arm("sasrec")
    config = config.model_copy(update={"dim": 8, "epochs": 1})
    earlier, later = (lab.calendar.parse(day) for day in ("2022-04-10", "2022-04-11"))
    first = Trainer(lab, engine, rows, earlier).arm(config).version
    second = Trainer(lab, engine, rows, later).arm(config, warm=first).version
    assert Trainer(lab, engine, rows, later).arm(config).version not in {first, second}
    with pytest.raises(InputError) as caught:
        Trainer(lab, engine, rows, earlier).arm(config, warm=second)
    show = lab.calendar.show
    assert str(caught.value) == (
        f"artefact sasrec/{second} was trained on data until {show(later)}, "
        f"must not be later than the cut, {show(earlier)}"
    )
