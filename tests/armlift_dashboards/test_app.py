"""The app as a whole: in a real browser, and without one in every state of a lab."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from armlift.lab import VARIABLE, Lab, init_lab
from armlift.store.database import open_database

APP = "dashboards/app.py"
PATHS = ("", "results", "arms", "pipelines", "traffic", "planner")


@pytest.mark.parametrize("path", PATHS)
def test_every_page_answers_at_its_address(filled_pages: str, page: Page, path: str) -> None:
    page.goto(f"{filled_pages}/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text((path or "experiments").capitalize())
    expect(page.get_by_test_id("stException")).to_have_count(0)


@pytest.fixture
def look(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], AppTest]:
    """Look at the first page of a lab."""

    def at(lab: Path) -> AppTest:
        from armlift_dashboards.source import open_source

        open_source.clear()
        monkeypatch.setenv(VARIABLE, str(lab))
        return AppTest.from_file(str(root / APP), default_timeout=30).run()

    return at


def test_a_lab_without_a_database_says_what_makes_one(
    look: Callable[[Path], AppTest], tmp_path: Path
) -> None:
    init_lab(tmp_path / "lab")
    app = look(tmp_path / "lab")
    assert [one.value for one in app.info] == ["The lab lab has no database yet."]
    assert [one.value for one in app.code] == ["armlift demo"]
    assert not app.exception


def test_no_lab_is_one_line(look: Callable[[Path], AppTest], tmp_path: Path) -> None:
    (line,) = look(tmp_path / "none").error
    assert "is not a lab" in line.value


def test_an_old_schema_is_one_line(look: Callable[[Path], AppTest], tmp_path: Path) -> None:
    from sqlalchemy import text

    init_lab(tmp_path / "lab")
    engine = open_database(Lab(tmp_path / "lab"), create=True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    engine.dispose()
    (line,) = look(tmp_path / "lab").error
    assert "run `armlift db upgrade`" in line.value


def test_an_empty_database_shows_drafts_alone(look: Callable[[Path], AppTest], tmp_path: Path) -> None:
    init_lab(tmp_path / "lab")
    open_database(Lab(tmp_path / "lab"), create=True).dispose()
    app = look(tmp_path / "lab")
    assert not app.exception
    assert not app.error
    assert "draft" in str(app.get("bidi_component")[0].proto)


def test_a_filled_lab_shows_its_experiments(look: Callable[[Path], AppTest], filled: Lab) -> None:
    app = look(filled.folder)
    assert not app.exception
    banner, told = (str(one.proto) for one in app.get("bidi_component"))
    assert "SYNTHETIC DATA" in banner
    assert "baselines" in told
    assert "synthetic" in told
