"""Served arms: versions change under load, a broken one takes nobody's place, stored prompts are in view."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Engine, select, text

from armlift import promotions, prompts
from armlift.arm import Arm, ArmConfig, Behaviour, History, ItemTable, Request, Slate, arm_class, new_arm
from armlift.artefacts import save_artefact
from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.promotions import EVERY_EXPERIMENT
from armlift.served import ServedArms
from armlift.store.database import writing
from armlift.store.tables import audit_log

AT = 1_700_000_000_000
ITEMS = ItemTable([f"item{number:02}" for number in range(24)])


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Lab:
    """Give a lab whose database is that of the engine."""
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab", database=engine.url.render_as_string(hide_password=False))


sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def config_of(model: str, **changes: object) -> ArmConfig:
    made: ArmConfig = arm_class(model).config_class.model_validate({"name": "mine", "model": model} | changes)
    return made


def keep(lab: Lab, engine: Engine, arm: Arm, *scopes: str, until: int = AT) -> str:
    """Store an arm, a candidate in some scopes."""
    url = lab.resolve(lab.settings.artefact_url)
    manifest = save_artefact(
        arm, url, data_hash=str(until), data_until=until, created="2023-11-15T00:00:00+00:00"
    )
    with writing(engine) as connection:
        for scope in scopes or (EVERY_EXPERIMENT,):
            promotions.add_candidate(
                connection, "mine", scope, manifest.version,
                data_hash=str(until), data_until=until, definition_hash="f", parent=None,
            )  # fmt: skip
    return manifest.version


def popular(lab: Lab, engine: Engine, first: int, *scopes: str) -> str:
    """Store a popularity arm whose slates begin with one item."""
    arm = new_arm(config_of("popularity"))
    behaviours = [Behaviour(ITEMS.ids[first], "click", 1.0, AT - 1)]
    arm.fit([History("u", behaviours)], ITEMS, until=AT)
    return keep(lab, engine, arm, *scopes)


def promote(engine: Engine, version: str, scope: str = EVERY_EXPERIMENT) -> None:
    with writing(engine) as connection:
        promotions.promote(
            connection, "mine", scope, version, at=AT, by="ada", reason="better", override=True
        )


def ask(history: Sequence[Behaviour] = (), unit: str = "u") -> Request:
    return Request("0" * 32, unit, AT + 99, 3, history)


def first_item(arm: Arm) -> str:
    return arm.recommend([ask()])[0].items[0]


# Under load


class Answered(NamedTuple):
    """A slate's first item and the version it is from."""

    version: str
    item: str


COMMANDS = """
import json, sys
from armlift.cli import run
for line in sys.stdin:
    action, *options = json.loads(line)
    assert run(["arm", action, "mine", *options, "--by", "ada", *sys.argv[1:]]) == 0
    print("DONE", flush=True)
"""


def steps(one: str, two: str, three: str) -> list[list[str]]:
    """Promote and roll back, back and forth: 14 changes."""
    turn = [
        ["promote", "--version", one, "--override"],
        ["promote", "--version", two, "--override"],
        ["promote", "--version", three, "--override"],
        ["rollback"],
        ["promote", "--version", three, "--override"],
        ["rollback"],
        ["rollback"],
    ]
    return turn + turn[1:] + [["promote", "--version", three, "--override"]]


def test_versions_change_under_load_and_no_request_is_dropped(lab: Lab, engine: Engine) -> None:
    items = {popular(lab, engine, number): ITEMS.ids[number] for number in (3, 5, 7)}
    first = next(iter(items))
    promote(engine, first)
    answered: list[list[Answered]] = [[], []]
    failures: list[BaseException] = []
    over = threading.Event()

    def load(found: list[Answered]) -> None:
        try:
            while not over.is_set():
                arm = served.arm("mine")
                found.append(Answered(arm.version, first_item(arm)))
                time.sleep(0.0005)
        except BaseException as error:
            failures.append(error)
            raise

    def in_view(version: str) -> bool:
        return all(bool(found) and found[-1].version == version for found in answered)

    with ServedArms(lab, engine, check_every=0.02) as served:
        threads = [threading.Thread(target=load, args=(found,)) for found in answered]
        for thread in threads:
            thread.start()
        wait_for(lambda: in_view(first))
        began = time.time_ns() // 1_000_000
        url = engine.url.render_as_string(hide_password=False)
        with subprocess.Popen(
            [sys.executable, "-c", COMMANDS, "--lab", str(lab.folder), "--database", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ, text=True,
        ) as commands:  # fmt: skip
            assert commands.stdin is not None
            assert commands.stdout is not None
            for words in steps(*items):
                print(json.dumps(words), file=commands.stdin, flush=True)
                assert "DONE\n" in iter(commands.stdout.readline, ""), words
                with engine.connect() as connection:
                    now = promotions.promoted(connection, "mine", EVERY_EXPERIMENT)
                assert now is not None
                wait_for(partial(in_view, now.version))
            commands.stdin.close()
        over.set()
        for thread in threads:
            thread.join()
    assert commands.returncode == 0
    assert (failures, dict(served.failures)) == ([], {})
    with engine.connect() as connection:
        rows = connection.execute(
            select(audit_log).where(audit_log.c.at >= began).order_by(audit_log.c.number)
        )
        changes = [row.details["version"] for row in rows]
    assert len(changes) >= 12
    promoted = [first, *(version for version, _ in groupby(changes))]
    for found in answered:
        assert len(found) > 100
        assert all(one.item == items[one.version] for one in found)
        assert [version for version, _ in groupby(one.version for one in found)] == promoted


@sqlite_only
def test_who_holds_a_version_answers_with_it_to_the_end(lab: Lab, engine: Engine) -> None:
    old, new = popular(lab, engine, 3), popular(lab, engine, 5)
    promote(engine, old)
    served = ServedArms(lab, engine)
    held = served.arm("mine")
    promote(engine, new)
    assert served.arm("mine") is held, "nothing is looked for between two refreshes"
    assert served.refresh() == {"mine": new}
    assert served.refresh() == {}
    assert (held.version, first_item(held)) == (old, ITEMS.ids[3])
    assert (served.arm("mine").version, first_item(served.arm("mine"))) == (new, ITEMS.ids[5])
    assert served.versions == {"mine": new}


# What cannot be loaded


def spoil_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


@sqlite_only
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_weights, "model.safetensors: is corrupted: sha256 is "),
        (truncate_weights, "model.safetensors: is corrupted: sha256 is "),
        (spoil_manifest, "manifest.json: is not a manifest: arm: Field required"),
        (shutil.rmtree, "manifest.json: there is no such artefact of 'mine'"),
    ],
)
def test_a_broken_artefact_takes_nobodys_place(
    lab: Lab, engine: Engine, spoil: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    old, new = popular(lab, engine, 3), popular(lab, engine, 5)
    promote(engine, old)
    told: list[tuple[str, str]] = []
    served = ServedArms(lab, engine, retry_after=0, on_failure=lambda name, line: told.append((name, line)))
    serving = served.arm("mine")
    folder = lab.folder / "models" / "mine" / new
    shutil.copytree(folder, tmp_path / "kept")
    spoil(folder)
    promote(engine, new)
    assert (served.refresh(), served.refresh()) == ({}, {})
    assert served.arm("mine") is serving
    assert told == [("mine", served.failures["mine"])], "once, though it was tried twice"
    assert told[0][1].startswith(f"{folder}/{says}")
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)
    assert served.refresh() == {"mine": new}
    assert served.failures == {}


@sqlite_only
def test_what_failed_is_tried_again_after_a_while(lab: Lab, engine: Engine, tmp_path: Path) -> None:
    old, new = popular(lab, engine, 3), popular(lab, engine, 5)
    promote(engine, old)
    served = ServedArms(lab, engine, retry_after=0.3)
    served.arm("mine")
    folder = lab.folder / "models" / "mine" / new
    folder.rename(tmp_path / "kept")
    promote(engine, new)
    served.refresh()
    (tmp_path / "kept").rename(folder)
    assert (served.refresh(), list(served.failures)) == ({}, ["mine"])
    time.sleep(0.3)
    assert (served.refresh(), served.failures) == ({"mine": new}, {})


@sqlite_only
def test_a_rollback_ends_a_failure(lab: Lab, engine: Engine) -> None:
    old, new = popular(lab, engine, 3), popular(lab, engine, 5)
    promote(engine, old)
    served = ServedArms(lab, engine)
    served.arm("mine")
    spoil_weights(lab.folder / "models" / "mine" / new)
    promote(engine, new)
    served.refresh()
    assert list(served.failures) == ["mine"]
    promote(engine, old)
    assert (served.refresh(), served.failures) == ({}, {})


def test_a_database_that_fails_leaves_what_serves(lab: Lab, engine: Engine) -> None:
    old, new = popular(lab, engine, 3), popular(lab, engine, 5)
    promote(engine, old)
    with ServedArms(lab, engine, check_every=0.01) as served:
        served.arm("mine")
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE models RENAME TO elsewhere"))
        wait_for(lambda: "models" in served.failures.get("mine", ""))
        assert served.arm("mine").version == old
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO models"))
        promote(engine, new)
        wait_for(lambda: served.arm("mine").version == new)
        wait_for(lambda: served.failures == {})


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# First use


@sqlite_only
def test_an_experiments_own_version_is_served(lab: Lab, engine: Engine) -> None:
    every, own = popular(lab, engine, 3), popular(lab, engine, 5, "demo")
    promote(engine, every)
    served = ServedArms(lab, engine, experiment="demo")
    assert served.arm("mine").version == every
    promote(engine, own, "demo")
    assert served.refresh() == {"mine": own}
    assert ServedArms(lab, engine, experiment="other").arm("mine").version == every
    assert ServedArms(lab, engine).arm("mine").version == every


@sqlite_only
def test_where_its_own_version_is_broken_that_of_all_serves_until_it_is_mended(
    lab: Lab, engine: Engine
) -> None:
    every, own = popular(lab, engine, 3), popular(lab, engine, 5, "demo")
    promote(engine, every)
    promote(engine, own, "demo")
    folder = lab.folder / "models" / "mine"
    (folder / own).rename(folder / "kept")
    served = ServedArms(lab, engine, experiment="demo", retry_after=0)
    assert served.arm("mine").version == every
    assert "there is no such artefact" in served.failures["mine"]
    (folder / "kept").rename(folder / own)
    assert (served.refresh(), served.failures) == ({"mine": own}, {})


@sqlite_only
def test_where_nothing_is_promoted_the_first_use_says_so(lab: Lab, engine: Engine) -> None:
    says = (
        "`armlift train mine --log FILE --until TIME` makes one, `armlift arm promote mine --version V` "
        "promotes it; `armlift nightly` does both"
    )
    with pytest.raises(InputError) as caught:
        ServedArms(lab, engine).arm("mine")
    assert str(caught.value) == f"arm mine: has no promoted version in scope *; {says}"
    popular(lab, engine, 5, "other")
    with pytest.raises(InputError, match=r"arm promote mine --version \w+ --scope other` promotes one"):
        ServedArms(lab, engine, experiment="other").arm("mine")
    version = popular(lab, engine, 3)
    says = f"`armlift arm promote mine --version {version}` promotes one"
    with pytest.raises(InputError) as caught:
        ServedArms(lab, engine).arm("mine")
    assert str(caught.value) == f"arm mine: has no promoted version in scope *; {says}"
    served = ServedArms(lab, engine, experiment="demo")
    with pytest.raises(InputError) as caught:
        served.arm("mine")
    assert str(caught.value) == f"arm mine: has no promoted version in scope demo or *; {says}"
    assert served.refresh() == {}
    spoil_weights(lab.folder / "models" / "mine" / version)
    promote(engine, version)
    for _ in range(2):
        with pytest.raises(InputError, match="is corrupted: sha256 is"):
            served.arm("mine")


@sqlite_only
def test_an_arm_that_is_trained_elsewhere_answers_by_its_definition(lab: Lab, engine: Engine) -> None:
    served = ServedArms(lab, engine)
    assert served.arm("remote").version == new_arm(lab.arm("remote")).version
    assert served.refresh() == {}


# Prompts


TINY = {
    "dim": 16, "layers": 1, "heads": 1, "pretraining_epochs": 1, "epochs": 1, "negatives": 64,
    "recall": [2, 1], "prompt_placement": "every", "prompt_turns": 3,
}  # fmt: skip


def walk(*numbers: int, start: int = 0) -> list[Behaviour]:
    return [Behaviour(ITEMS.ids[number], "click", 1.0, AT + start + at) for at, number in enumerate(numbers)]


@pytest.fixture(scope="module")
def talkers() -> list[Arm]:
    """Fit two tiny arms that use prompts."""
    found = []
    for until in (AT + 90, AT + 91):
        arm = new_arm(config_of("recgpt", **TINY))
        units = [History(f"u{unit}", walk(*((unit + step) % 20 for step in range(8)))) for unit in range(40)]
        arm.fit(units, ITEMS, until=until)
        found.append(arm)
    return found


def night(engine: Engine, arm: Arm, version: str, requests: Sequence[Request], written: int) -> list[Slate]:
    """Store what an arm says to units at night."""
    slates = arm.recommend(requests)
    told = {
        request.unit: prompts.told(slate.prompts, request.history)
        for request, slate in zip(requests, slates, strict=True)
    }
    with writing(engine) as connection:
        prompts.write(connection, "mine", version, told, written=written)
    return slates


def said(slate: Slate) -> list[tuple[int, str, bool]]:
    return [(prompt.position, prompt.item, prompt.stored) for prompt in slate.prompts]


def test_prompts_of_the_night_are_in_view_of_the_next_request(
    lab: Lab, engine: Engine, talkers: list[Arm]
) -> None:
    arm, other = talkers
    version, newer = keep(lab, engine, arm, until=AT + 90), keep(lab, engine, other, until=AT + 91)
    promote(engine, version)
    served = ServedArms(lab, engine)
    history = walk(1, 2, 2, 3, 7, 9)
    slates = night(engine, arm, version, [ask(history), ask(walk(4, 5), "v")], AT)
    stored = [(position, item, True) for position, item, _ in said(slates[0])]
    assert [position for position, _, _ in stored] == [3, 4, 5]

    def today(now: Sequence[Behaviour], unit: str = "u") -> Slate:
        return served.arm("mine").recommend([ask(now, unit)])[0]

    same = today(history)
    assert said(same) == stored
    assert same[:4] == slates[0][:4]
    assert not any(one for _, _, one in said(today(history, "stranger")))
    # It grew: of the last three behaviours two had prompts.
    grown = said(today([*history, *walk(11, start=50)]))
    assert grown[:2] == stored[1:]
    assert [(position, one) for position, _, one in grown[2:]] == [(6, False)]
    # Its oldest part was cut, within a run too, and it grew.
    cut = said(today([*history[2:], *walk(11, start=50)]))
    assert cut[:2] == [(position - 2, item, True) for position, item, _ in stored[1:]]
    # They are rewritten, and then the version is another one, which has said nothing.
    with writing(engine) as connection:
        told = prompts.told([one._replace(item=ITEMS.ids[19]) for one in slates[0].prompts], history)
        prompts.write(connection, "mine", version, {"u": told}, written=AT + 1)
    assert said(today(history)) == stored
    assert served.refresh() == {}
    assert {item for _, item, one in said(today(history)) if one} == {ITEMS.ids[19]}
    promote(engine, newer)
    assert served.refresh() == {"mine": newer}
    assert not any(one for _, _, one in said(today(history)))
    night(engine, other, newer, [ask(history)], AT + 2)
    served.forget_prompts()
    assert all(one for _, _, one in said(today(history)))


@sqlite_only
def test_without_the_prompts_table_requests_are_answered(
    lab: Lab, engine: Engine, talkers: list[Arm]
) -> None:
    version = keep(lab, engine, talkers[0], until=AT + 90)
    promote(engine, version)
    served = ServedArms(lab, engine)
    night(engine, talkers[0], version, [ask(walk(1, 2))], AT)
    arm = served.arm("mine")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE prompts RENAME TO elsewhere"))
    (slate,) = arm.recommend([ask(walk(1, 2))])
    assert len(slate.items) == 3
    assert not any(prompt.stored for prompt in slate.prompts)
    assert "prompts" in served.failures["mine"]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO prompts"))
    served.refresh()
    assert served.failures == {}
    assert all(prompt.stored for prompt in arm.recommend([ask(walk(1, 2))])[0].prompts)
