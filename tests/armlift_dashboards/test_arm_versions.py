"""Versions of arms: who let each serve and why, and which one answers for a run."""

import shutil

from sqlalchemy import Engine

from armlift import promotions
from armlift.lab import Lab
from armlift.runs import Run
from armlift.store.database import writing
from armlift_dashboards.arm_versions import (
    Answering,
    answering,
    arm_names,
    prompting,
    scope_label,
    scopes,
    versions,
)

AT = 1_700_000_000_000
Walkers = tuple[Lab, Engine, Run, str]


def add(engine: Engine, arm: str, scope: str, version: str, until: int) -> None:
    with writing(engine) as connection:
        promotions.add_candidate(
            connection, arm, scope, version,
            data_hash=version, data_until=until, definition_hash="f", parent="first",
        )  # fmt: skip


def test_versions_tell_who_let_them_serve_and_who_refused_them(engine: Engine) -> None:
    for until, version in enumerate(("v1", "v2", "v3", "v4", "v5")):
        add(engine, "mine", "demo", version, until)
    add(engine, "mine", "*", "v1", 0)
    with writing(engine) as connection:
        promotions.promote(connection, "mine", "*", "v1", at=AT, by="elsewhere", reason="another scope")
        promotions.promote(connection, "mine", "demo", "v1", at=AT, by="ada", reason="the first")
        promotions.promote(connection, "mine", "demo", "v2", at=AT + 1, by="bob", reason="better")
        promotions.refuse(connection, "mine", "demo", "v3", ["too slow", "too large"], AT + 2, "nightly")
        promotions.promote(connection, "mine", "demo", "v4", at=AT + 3, by="eve", reason="newest")
        promotions.rollback(connection, "mine", "demo", at=AT + 4, by="ada", reason="clicks fell")
    with engine.connect() as connection:
        found = {one.version: one for one in versions(connection, "mine", "demo")}
    assert list(found) == ["v5", "v4", "v3", "v2", "v1"], "the newest data first"
    told = {
        name: (one.state, one.promoted, one.by, one.reason, list(one.reasons)) for name, one in found.items()
    }
    assert told == {
        "v5": ("candidate", None, None, None, []),
        "v4": ("refused", AT + 3, "ada", "clicks fell", ["rolled back: clicks fell"]),
        "v3": ("refused", None, "nightly", None, ["too slow", "too large"]),
        "v2": ("promoted", AT + 4, "ada", "clicks fell", []),
        "v1": ("retired", AT, "ada", "the first", []),
    }
    assert {one.parent for one in found.values()} == {"first"}


def test_arms_and_scopes_are_those_of_files_and_of_the_database(walkers: Walkers) -> None:
    lab, engine, run, _ = walkers
    add(engine, "gone", "walk", "v1", 0)
    add(engine, "gone", "*", "v1", 0)
    add(engine, "gone", "demo", "v1", 0)
    with engine.connect() as connection:
        assert "gone" in arm_names(connection, lab)
        assert {*lab.arm_names()} < {*arm_names(connection, lab)}
        assert scopes(connection, "gone") == ["*", "demo", "walk"]
        assert scopes(connection, "sasrec") == []
    assert prompting(lab) == ["recgpt", "recgpt1"]
    assert [scope_label(scope, [run]) for scope in ("*", "demo", "walk")] == [
        "every experiment",
        "experiment demo",
        "run 1 of demo, simulated",
    ]


def test_what_is_promoted_nearest_to_the_run_answers(walkers: Walkers) -> None:
    lab, engine, run, version = walkers
    with engine.connect() as connection:
        assert answering(connection, lab, run, "recgpt") == Answering(
            "recgpt", version, "promoted", AT + 86_400_000
        )
        assert answering(connection, lab, run, "comirec") is None, "it was never trained"
        assert answering(connection, lab, run, "nobody") is None
    near = ("a" * 12, "b" * 12, "c" * 12)
    for scope, name in zip(("walk", "demo", "other"), near, strict=True):
        shutil.copytree(lab.folder / "models/recgpt" / version, lab.folder / "models/recgpt" / name)
        add(engine, "recgpt", scope, name, AT)
    with writing(engine) as connection:
        promotions.promote(connection, "recgpt", "demo", near[1], at=AT, by="ada", reason="own")
    with engine.connect() as connection:
        found = answering(connection, lab, run, "recgpt")
        assert found is not None
        assert (found.version, found.state) == (near[1], "promoted"), (
            "its experiment's before that of every one"
        )
    with writing(engine) as connection:
        promotions.promote(connection, "recgpt", "walk", near[0], at=AT, by="ada", reason="own")
    with engine.connect() as connection:
        found = answering(connection, lab, run, "recgpt")
        assert found is not None
        assert found.version == near[0]


def test_a_version_without_artefact_or_that_was_refused_does_not_answer(walkers: Walkers) -> None:
    lab, engine, run, version = walkers
    add(engine, "recgpt", "walk", "0" * 12, AT + 9)
    with writing(engine) as connection:
        promotions.promote(connection, "recgpt", "walk", "0" * 12, at=AT, by="ada", reason="its file is lost")
    with engine.connect() as connection:
        found = answering(connection, lab, run, "recgpt")
        assert found is not None
        assert found.version == version
    with writing(engine) as connection:
        promotions.refuse(connection, "recgpt1", "*", version, ["no"], AT, "ada")
    with engine.connect() as connection:
        assert answering(connection, lab, run, "recgpt1") is None


def test_an_arm_that_is_trained_elsewhere_answers_by_its_definition(walkers: Walkers) -> None:
    lab, engine, run, _ = walkers
    (lab.folder / "nightly.yaml").write_text("arms:\n  remote: {steps: []}\n")
    with engine.connect() as connection:
        assert answering(connection, lab, run, "remote") == Answering("remote", None, "defined", None)
