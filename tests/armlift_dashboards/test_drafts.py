"""Drafts: their file passes the real check, and complaints are those of the command."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from armlift.cli import run
from armlift.lab import Lab, init_lab
from armlift.store.database import reading, writing
from armlift.store.tables import experiments
from armlift_dashboards.drafts import Draft, check, started_names, text_of

DRAFT = Draft(
    name="fresh-feed",
    description="Does it: lift, or 'harm'? #1 — ja",
    arms={"random": 1, "popularity": 2.5},
    control="random",
    primary=["click_rate"],
    secondary=["clicks"],
    guardrails=["watch_time"],
    slice=(0.0, 0.3),
    traffic=0.1 + 0.2,
    audience="country == 'DE'",
    alpha=0.05,
    planned_units=4000,
    smallest_lift=0.00001,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("drafts") / "lab"
    init_lab(folder)
    return Lab(folder)


def told_by_the_command(lab: Lab, draft: Draft, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    file = lab.folder / "experiments" / f"{draft.name}.yaml"
    file.write_text(text_of(draft), encoding="utf-8")
    try:
        capsys.readouterr()
        code = run(["experiment", "check", draft.name, "--lab", str(lab.folder)])
        return code, capsys.readouterr().err
    finally:
        file.unlink()


def test_a_draft_passes_the_check_and_says_what_was_asked(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(lab, DRAFT) == (None, [])
    code, err = told_by_the_command(lab, DRAFT, capsys)
    assert (code, err) == (0, "")
    file = lab.folder / "experiments" / "fresh-feed.yaml"
    file.write_text(text_of(DRAFT), encoding="utf-8")
    found = lab.experiment("fresh-feed")
    file.unlink()
    assert found.description == DRAFT.description
    assert found.arms == DRAFT.arms
    assert (found.layer.name, found.layer.slice, found.phases[0].traffic) == ("fresh-feed", (0.0, 0.3), 0.3)
    assert found.audience == DRAFT.audience
    assert list(found.metrics.roles) == ["click_rate", "clicks", "watch_time"]
    assert (found.analysis.planned_units, found.analysis.smallest_lift) == (4000, 0.00001)
    assert text_of(DRAFT).startswith(
        "# yaml-language-server: $schema=../.schemas/experiment.json\nname: fresh-feed\n"
    )
    assert "arms: {random: 1, popularity: 2.5}\n" in text_of(DRAFT)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Big Name"},
        {"arms": {}, "control": ""},
        {"arms": {"random": 0.0, "popularity": 0.0}},
        {"control": "popularit"},
        {"primary": []},
        {"secondary": ["click_rate"]},
        {"audience": "country ="},
        {"slice": (0.3, 0.3)},
        {"layer": "feed"},
        {"layer": "No Layer"},
    ],
)
def test_a_complaint_is_the_line_of_the_command(
    lab: Lab, capsys: pytest.CaptureFixture[str], changed: dict[str, object]
) -> None:
    draft = DRAFT._replace(**changed)  # type: ignore[arg-type]
    complaint = check(lab, draft).complaint
    assert complaint is not None
    code, err = told_by_the_command(lab, draft, capsys)
    assert (code, err) == (2, f"armlift: {lab.folder}/{complaint}\n")


def test_a_doubt_is_told_as_the_command_does(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    draft = DRAFT._replace(arms={"random": 1.0, "popularity": 0.0})
    checked = check(lab, draft)
    assert checked.complaint is None
    code, err = told_by_the_command(lab, draft, capsys)
    assert code == 0
    assert err == "".join(f"experiment fresh-feed: {one}\n" for one in checked.doubts)


def test_a_name_that_is_taken_is_refused(lab: Lab) -> None:
    taken = check(lab, DRAFT._replace(name="baselines")).complaint
    assert taken == "experiments/baselines.yaml: name: 'baselines' is taken, the experiment is there already"
    gone = check(lab, DRAFT, ["fresh-feed"]).complaint
    assert gone is not None
    assert gone.endswith("was started already, though its file is gone")


def test_started_experiments_are_known(engine: Engine) -> None:
    rows: list[dict[str, object]] = [
        {
            "experiment": "x",
            "version": version,
            "definition": {},
            "hash": "h",
            "run": "r",
            "state": "running",
            "by": "me",
            "at": version,
        }
        for version in (1, 2)
    ]
    with writing(engine) as connection:
        connection.execute(insert(experiments), rows)
    with reading(engine) as connection:
        assert started_names(connection) == ["x"]


def test_text_is_utf_8_and_reads_back_whole(lab: Lab, tmp_path: Path) -> None:
    long = "word " * 90
    draft = DRAFT._replace(description=long.strip())
    assert check(lab, draft) == (None, [])
    assert long.strip() in text_of(draft)
