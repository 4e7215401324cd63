"""The page Experiments in each state, and how one gets from it to results."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from armlift.lab import VARIABLE, Lab

Shown = Callable[..., AppTest]
Told = Callable[[AppTest], str]


def test_without_runs_there_are_drafts(bare: Lab, shown: Shown, told: Told) -> None:
    text = told(shown("experiments"))
    assert "draft" in text
    assert "results?" not in text


def test_without_files_and_runs_it_says_what_makes_a_lab(bare: Lab, shown: Shown) -> None:
    for path in (bare.folder / "experiments").glob("*.yaml"):
        path.unlink()
    (line,) = shown("experiments").info
    assert line.value == "There is no experiment yet."


def test_a_file_that_is_wrong_is_one_line(bare: Lab, shown: Shown) -> None:
    (bare.folder / "experiments" / "demo.yaml").write_text("name: demo\ncontrol: none\n")
    (line,) = shown("experiments").error
    assert "demo.yaml" in line.value


def test_runs_have_their_lift_and_a_link(
    filled: Lab, shown: Shown, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(filled.folder))
    text = told(shown("experiments"))
    assert len(re.findall(r'href="results\?experiment=(demo|baselines)&amp;run=\w{16}"', text)) == 2
    assert "synthetic" in text
    assert "click_rate of" in text


def test_a_person_goes_from_an_experiment_to_its_results(filled_pages: str, page: Page) -> None:
    page.goto(filled_pages)
    page.get_by_role("link", name="baselines").click()
    expect(page.get_by_role("heading", name="Lift against random")).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile("/results.experiment=baselines&run="))
