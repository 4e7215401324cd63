"""Fitted arms: what is stored, what a fit goes on from, and what is kept apart."""

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from armlift.arm import ArmConfig, Behaviour, History, ItemTable, arm_class
from armlift.artefacts import Manifest
from armlift.errors import InputError
from armlift.fitted import CHECKPOINTS, FittedArms
from armlift.fitting import Epoch, Tell
from armlift.lab import Lab, init_lab
from armlift.store.database import open_database
from armlift.store.tables import models

TINY = {"dim": 8, "layers": 1, "heads": 1, "length": 6, "batch_tokens": 64, "negatives": 16, "epochs": 4}
Watch = Callable[[ArmConfig], AbstractContextManager[Tell]]


class Walks:
    """Units that walk round a circle of items."""

    def __init__(self, units: int = 40) -> None:
        self.items = ItemTable([f"{number:02}" for number in range(30)])
        self.until, self.data_hash = 8, f"{units} walks"
        self._units = units

    def histories(self) -> Iterator[History]:
        for unit in range(self._units):
            places = [(unit + 3 * at) % 30 for at in range(8)]
            behaviours = [
                Behaviour(self.items.ids[place], "click", 1.0, at) for at, place in enumerate(places)
            ]
            yield History(f"unit{unit}", behaviours)


def config_of(model: str = "sasrec", **changes: object) -> ArmConfig:
    kind = arm_class(model).config_class
    hyper = TINY if model == "sasrec" else {}
    return kind.model_validate({"name": "mine", "model": model} | hyper | changes)


def watch(told: list[Epoch], stop_after: int | None = None) -> Watch:
    """Note every epoch, and stop as Ctrl-C does after one of them."""

    def tell(epoch: Epoch) -> None:
        told.append(epoch)
        if epoch.number == stop_after:
            raise KeyboardInterrupt

    @contextmanager
    def watched(config: ArmConfig) -> Iterator[Tell]:
        yield tell

    return watched


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


def fitted_arms(lab: Lab, told: list[Epoch], stop_after: int | None = None) -> FittedArms:
    return FittedArms(lab, open_database(lab, create=True), watch=watch(told, stop_after))


def manifest_of(lab: Lab, version: str) -> Manifest:
    path = lab.folder / "models" / "mine" / version / "manifest.json"
    return Manifest.model_validate(json.loads(path.read_text()))


def test_a_fit_that_was_broken_off_goes_on_from_its_checkpoint(lab: Lab, tmp_path: Path) -> None:
    told: list[Epoch] = []
    with pytest.raises(KeyboardInterrupt):
        fitted_arms(lab, told, 2).arm(config_of(), Walks())
    (folder,) = (lab.folder / CHECKPOINTS / "mine").iterdir()
    assert [path.name for path in folder.iterdir()] == ["train.safetensors"]
    arm = fitted_arms(lab, told).arm(config_of(), Walks())
    assert [epoch.number for epoch in told] == [1, 2, 3, 4]
    assert not (lab.folder / CHECKPOINTS).exists()
    init_lab(tmp_path / "other")
    assert fitted_arms(Lab(tmp_path / "other"), []).arm(config_of(), Walks()).version == arm.version
    manifest = manifest_of(lab, arm.version)
    best = told[-1]
    assert manifest.figures == {**best.best_figures, "epochs": 4, "best_epoch": best.best}


def test_another_definition_or_other_data_begin_anew(lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted_arms(lab, [], 2).arm(config_of(), Walks())
    for config, data in ((config_of(seed=1), Walks()), (config_of(), Walks(39))):
        told: list[Epoch] = []
        fitted_arms(lab, told).arm(config, data)
        assert [epoch.number for epoch in told] == [1, 2, 3, 4]
    (folder,) = (lab.folder / CHECKPOINTS / "mine").iterdir()
    (folder / "train.safetensors").write_bytes(b"?")
    with pytest.raises(InputError) as caught:
        fitted_arms(lab, []).arm(config_of(), Walks())
    says = "is no checkpoint, must be removed to train from the start"
    assert str(caught.value) == f"{folder / 'train.safetensors'}: {says}"


def test_warm_and_cold_are_kept_apart(lab: Lab) -> None:
    told: list[Epoch] = []
    fitted, config, data = fitted_arms(lab, told), config_of(), Walks()
    old = fitted.arm(config, Walks(39)).version
    warm = fitted.arm(config, data, warm=old).version
    assert fitted.known(config, data.data_hash) is None
    cold = fitted.arm(config, data).version
    assert len({old, warm, cold}) == 3
    epochs = len(told)
    assert fitted.arm(config, data, warm=old).version == warm
    assert fitted.arm(config, data).version == cold
    assert len(told) == epochs
    assert fitted.known(config, data.data_hash, warm=cold) is None
    assert [manifest_of(lab, version).parent for version in (old, warm, cold)] == [None, old, None]
    with open_database(lab).connect() as connection:
        rows = connection.execute(select(models.c.version, models.c.parent)).all()
    assert sorted(map(tuple, rows)) == sorted([(old, None), (warm, old), (cold, None)])
    # What was known before is known from the first epoch on.
    assert told[4].loss < told[0].loss * 0.8


def test_what_nothing_can_go_on_from_is_one_line(lab: Lab) -> None:
    fitted, data = fitted_arms(lab, []), Walks()
    url = lab.folder / "models"
    old = fitted.arm(config_of(), data).version
    other = fitted.arm(config_of("popularity", name="other"), data).version
    popular = fitted.arm(config_of("popularity"), data).version

    def line(config: ArmConfig, warm: str) -> str:
        with pytest.raises(InputError) as caught:
            fitted.arm(config, data, warm=warm)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for missing in ("0123456789ab", other):
        says = f"{url}/mine/{missing}/manifest.json: there is no such artefact of 'mine'"
        assert line(config_of(), missing) == says
    says = "arm mine: model 'popularity' goes on from no artefact, must be one of "
    assert line(config_of("popularity"), popular).startswith(says)
    says = f"artefact mine/{popular}: is of the model 'popularity', must be of 'sasrec'"
    assert line(config_of(), popular) == says
    assert line(config_of(dim=4), old).startswith("warm start: items.weight has the shape (30, 8), must fit ")
    weights = url / "mine" / old / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert line(config_of(), old).startswith(f"{weights}: is corrupted: sha256 is ")


def test_of_several_processes_the_first_one_stores(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, config = fitted_arms(lab, []), config_of("popularity")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    version = fitted.arm(config, Walks()).version
    assert not (lab.folder / "models").exists()
    assert fitted.known(config, Walks().data_hash) is None
    monkeypatch.setenv("RANK", "0")
    assert fitted.arm(config, Walks()).version == version
    assert manifest_of(lab, version).figures == {}


def test_what_is_fitted_for_a_scope_is_known_there_alone(lab: Lab) -> None:
    engine, config, data = open_database(lab, create=True), config_of("popularity"), Walks()
    version = FittedArms(lab, engine, scope="demo").arm(config, data).version
    assert FittedArms(lab, engine).known(config, data.data_hash) is None
    assert FittedArms(lab, engine, scope="demo").known(config, data.data_hash) is not None
    assert FittedArms(lab, engine).arm(config, data).version == version
    with engine.connect() as connection:
        rows = connection.execute(select(models.c.scope, models.c.state).order_by(models.c.scope)).all()
    assert [tuple(row) for row in rows] == [("*", "candidate"), ("demo", "candidate")]


def test_an_artefact_says_which_code_made_it(lab: Lab) -> None:
    version = fitted_arms(lab, []).arm(config_of("popularity"), Walks()).version
    code = manifest_of(lab, version).code
    assert {*code} == {"python", "armlift", "numpy", "polars", "sqlalchemy", "torch"}
    assert code["python"] == platform.python_version()
