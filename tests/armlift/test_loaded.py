"""Loaded versions: in memory once however many serve them, and gone when nobody does."""

import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Engine, text

from armlift import promotions, prompts
from armlift.arm import Arm, Behaviour, History, ItemTable, Request, arm_class, new_arm
from armlift.artefacts import save_artefact
from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.loaded import LoadedVersions
from armlift.promotions import EVERY_EXPERIMENT
from armlift.prompts import StoredPrompt, Told
from armlift.served import ServedArms
from armlift.serving.arms import Arms
from armlift.serving.filters import FilterFile, Filters
from armlift.store.database import writing

AT = 1_700_000_000_000
ITEMS = ItemTable([f"v{number}" for number in range(9)])

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


class Hears:
    """Somebody who serves a version."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def tell(self, name: str, error: Exception) -> None:
        self.heard.append((name, type(error).__name__))


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    lab = Lab(tmp_path / "lab", database=engine.url.render_as_string(hide_password=False))
    text = (lab.folder / "arms" / "popularity.yaml").read_text()
    (lab.folder / "arms" / "mine.yaml").write_text(text.replace("name: popularity", "name: mine"))
    return lab


@pytest.fixture
def keep(lab: Lab, engine: Engine) -> Callable[[int], str]:
    """Give the function that stores a popularity whose slates begin with one item, as a candidate."""

    def store(first: int) -> str:
        config = arm_class("popularity").config_class.model_validate({"name": "mine", "model": "popularity"})
        arm = new_arm(config)
        arm.fit([History("u", [Behaviour(ITEMS.ids[first], "click", 1.0, AT - 1)])], ITEMS, until=AT)
        url = lab.resolve(lab.settings.artefact_url)
        version = save_artefact(
            arm, url, data_hash="d", data_until=AT, created="2023-11-15T00:00:00+00:00"
        ).version
        with writing(engine) as connection:
            promotions.add_candidate(
                connection, "mine", EVERY_EXPERIMENT, version,
                data_hash="d", data_until=AT, definition_hash="f", parent=None,
            )  # fmt: skip
        return version

    return store


def promote(engine: Engine, version: str) -> None:
    with writing(engine) as connection:
        promotions.promote(
            connection, "mine", EVERY_EXPERIMENT, version, at=AT, by="ada", reason="better", override=True
        )


def test_two_experiments_hold_one_arm_and_a_version_nobody_serves_is_let_go(
    lab: Lab, engine: Engine, keep: Callable[[int], str]
) -> None:
    old, new = keep(3), keep(5)
    promote(engine, old)
    versions = LoadedVersions(lab.resolve(lab.settings.artefact_url), engine)
    one, two, nobody = (
        ServedArms(lab, engine, experiment=name, versions=versions) for name in ("one", "two", None)
    )
    held: Arm | None = one.arm("mine")
    assert (two.arm("mine") is held, nobody.arm("mine") is held, len(versions)) == (True, True, 1)
    alone = ServedArms(lab, engine, experiment="three").arm("mine")
    assert (alone is held, alone.version) == (False, old), "who does not share holds its own"
    gone = weakref.ref(one.arm("mine"))
    held = None
    promote(engine, new)
    assert (one.refresh(), two.refresh()) == ({"mine": new}, {"mine": new})
    assert one.arm("mine") is two.arm("mine")
    assert (len(versions), gone() is nobody.arm("mine")) == (2, True), "one still serves it"
    nobody.refresh()
    assert (len(versions), gone()) == (1, None)


def test_arms_of_experiments_share_what_they_hold(
    lab: Lab, engine: Engine, keep: Callable[[int], str]
) -> None:
    version = keep(3)
    promote(engine, version)
    arms = Arms(lab, engine, filters=lambda: Filters(FilterFile(), {}))
    keys = [(name, "mine") for name in (None, "one", "two", "three")]
    standing = arms.prepare(keys)
    assert standing.versions == dict.fromkeys(keys, version)
    assert len({id(arms._of(name).arm("mine")) for name, _ in keys}) == 1
    request = Request("0" * 32, "u", AT, 3, ())
    assert [arms.answer(key, [request])[0].slate.items[0] for key in keys] == ["v3"] * 4
    arms.close()


def test_it_is_loaded_once_by_however_many_at_a_time(
    lab: Lab, engine: Engine, keep: Callable[[int], str]
) -> None:
    version = keep(3)
    versions = LoadedVersions(lab.resolve(lab.settings.artefact_url), engine)
    found: list[object] = []
    hears = Hears()
    threads = [Thread(target=lambda: found.append(versions.get("mine", version, hears))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1


def test_a_version_that_is_not_there_is_told_each_time(lab: Lab, engine: Engine) -> None:
    versions = LoadedVersions(lab.resolve(lab.settings.artefact_url), engine)
    for _ in range(2):
        with pytest.raises(InputError, match="there is no such artefact"):
            versions.get("mine", "0" * 12, Hears())
    assert len(versions) == 0


def test_all_who_serve_a_version_hear_of_prompts_that_cannot_be_read(
    lab: Lab, engine: Engine, keep: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = keep(3)
    monkeypatch.setattr(arm_class("popularity"), "capabilities", frozenset({"trainable", "prompts"}))
    with writing(engine) as connection:
        told = Told("h", [StoredPrompt(0, 0, "v1", 0.5, "v2", AT)])
        prompts.write(connection, "mine", version, {"v": told}, written=AT)
    versions = LoadedVersions(lab.resolve(lab.settings.artefact_url), engine)
    one, two, gone = Hears(), Hears(), Hears()
    held = weakref.ref(versions.get("mine", version, one).arm)
    assert (held(), len(versions)) == (None, 0), "also one that is filled with prompts is let go"
    loaded = [versions.get("mine", version, hears) for hears in (one, two, gone)]
    assert loaded[0].reader is loaded[2].reader
    del gone
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE prompts RENAME TO elsewhere"))
    assert loaded[0].arm.recommend([Request("0" * 32, "u", AT, 3, ())])[0].items[0] == "v3"
    assert (one.heard, two.heard) == ([("mine", "OperationalError")],) * 2
