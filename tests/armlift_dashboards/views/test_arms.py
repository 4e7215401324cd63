"""The page Arms: every state of its tabs, and a person who looks at slates and rates prompts."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from html import unescape

import pytest
import streamlit as st
from playwright.sync_api import Page, expect
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from armlift import promotions
from armlift.lab import VARIABLE, Lab
from armlift.ratings import SOURCES, Rating, of_arm, store
from armlift.runs import Run
from armlift.store.database import writing
from armlift_pipelines.job_runs import FAILED, SUCCEEDED, Key, Record

Walkers = tuple[Lab, Engine, Run, str]
Open = Callable[..., AppTest]
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def script() -> None:
    from armlift_dashboards.app import render
    from armlift_dashboards.views import arms

    render(arms.show)


@pytest.fixture
def opened(walkers: Walkers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Give what opens the page at an address: `opened(show="Slates", unit="u")`."""
    lab, engine, _, _ = walkers
    monkeypatch.setenv(VARIABLE, str(lab.folder))
    monkeypatch.setenv("ARMLIFT_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    st.cache_resource.clear()

    def at(**query: str) -> AppTest:
        page = AppTest.from_function(script, default_timeout=60)
        for name, value in query.items():
            page.query_params[name] = value
        return page.run()

    yield at
    st.cache_resource.clear()


def text_of(page: AppTest) -> str:
    """Give what a page says in its sections and messages, without markup."""
    assert not page.exception
    markup = [json.loads(one.proto.json)["html"] for one in page.main if one.type == "bidi_component"]
    found = [part.value for kind in (page.info, page.error, page.warning, page.caption) for part in kind]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", " ".join([*markup, *found]))))


def test_versions_are_listed_with_who_let_them_serve(opened: Open, walkers: Walkers) -> None:
    _, engine, _, version = walkers
    with writing(engine) as connection:
        promotions.add_candidate(
            connection, "recgpt", "walk", "5" * 12,
            data_hash="d", data_until=0, definition_hash="f", parent=version,
        )  # fmt: skip
        promotions.refuse(connection, "recgpt", "walk", "5" * 12, ["<too> slow"], 1, "nightly")
    page = opened(arm="recgpt")
    assert f"{version} serves every experiment, of 1 version." in text_of(page)
    assert "✓ promoted" in text_of(page)
    assert "ada it walks" in text_of(page)
    page.selectbox(key="scope").select("walk").run()
    assert "No version serves run 1 of demo, simulated, of 1 version." in text_of(page)
    assert "✕ refused" in text_of(page)
    assert "nightly <too> slow" in text_of(page)


def test_an_arm_without_versions_says_why(opened: Open, walkers: Walkers) -> None:
    page = opened(arm="sasrec")
    assert "sasrec has no versions yet: it was not trained." in text_of(page)
    assert page.code[0].value == "armlift nightly"
    (walkers[0].folder / "nightly.yaml").write_text("arms:\n  remote: {steps: []}\n")
    st.cache_resource.clear()
    assert "remote is trained elsewhere: it answers by its definition" in text_of(opened(arm="remote"))


def test_an_unknown_address_does_not_break_the_page(opened: Open) -> None:
    page = opened(arm="nobody", show="Nothing", scope="nowhere", run="none", figure="?")
    assert "serves every experiment" in text_of(page), "the first arm that was trained"
    assert page.selectbox(key="arm").value == "recgpt"


def test_figures_are_shown_by_night_with_those_that_failed(opened: Open, walkers: Walkers) -> None:
    _, engine, _, _ = walkers
    assert "No night has trained recgpt yet, so there are no figures." in text_of(opened(show="Figures"))
    record = Record(engine)

    def step(
        night: str, name: str, status: str, outputs: dict[str, object], error: str | None = None
    ) -> None:
        begun = record.begin(
            Key("nightly", f"live/{night}", name, "recgpt", "*"), {"candidate": "new", "parent": "old"}
        )
        record.end(begun, status, outputs, error)

    lift = {"status": "ok", "lift": -0.2, "low": -0.3, "high": -0.1, "difference": -0.1}
    found = {"asked": 1_234, "metrics": {"HR@10": 0.25, "milliseconds": 7.5}, "promoted": {"HR@10": 0.5}}
    step("2022-04-20", "retrain", FAILED, {}, "no memory")
    assert "retrain: no memory" in text_of(opened(show="Figures"))
    step("2022-04-21", "evaluate", SUCCEEDED, {"evaluation": {**found, "compared": {"HR@10": lift}}})
    step("2022-04-21", "gate", SUCCEEDED, {"passed": False, "reasons": ["it is worse"]})
    page = opened(show="Figures")
    text = text_of(page)
    assert "2022-04-21 ✕ refused new 0.25 old 0.5 -20.0% -30.0% to -10.0% 1,234 it is worse" in text
    assert "2022-04-20 ! failed" in text
    assert page.selectbox(key="figure").options == ["HR@10", "milliseconds"]
    assert len(page.get("arrow_vega_lite_chart") or page.get("vega_lite_chart")) == 1
    page.selectbox(key="figure").select("milliseconds").run()
    assert "2022-04-21 ✕ refused new 7.5 old - - - 1,234" in text_of(page)


def test_slates_stand_beside_one_another(opened: Open, walkers: Walkers) -> None:
    _, _, _, version = walkers
    empty = text_of(opened(show="Slates"))
    assert "Of demo, simulated, run 1; its users are simulated. Some of its units: unit006 unit018" in empty
    assert "Slate of" not in empty, "nothing is asked before a unit is"
    text = text_of(opened(show="Slates", unit=" unit004 "))
    assert "The unit met recgpt1 first, on 14 Nov 2023, 22:13 UTC. 16 behaviours are read." in text
    assert f"recgpt {version} ✓ promoted" in text
    assert "Slate of recgpt." in text
    assert text.count("after item11 :") == 3
    assert "comirec has no version that can answer" in text
    assert "The last 8 items of 8, the newest last" in text
    unknown = opened(show="Slates", unit="<b>![](nobody)")
    assert "Nothing is known of the unit <b>![](nobody) in demo, simulated, run 1" in text_of(unknown)
    assert not unknown.info, "what the address holds is never read as Markdown"


def test_without_a_run_there_is_nobody_to_show_slates_to(opened: Open, walkers: Walkers) -> None:
    with writing(walkers[1]) as connection:
        connection.exec_driver_sql("DELETE FROM runs")
    for tab in ("Slates", "Ratings"):
        assert "There is no run yet, so nobody has met an arm." in text_of(opened(show=tab))


def rate(page: AppTest, marks: list[int]) -> AppTest:
    for radio, mark in zip(page.radio, marks, strict=True):
        radio.set_value(mark)
    return page.button[0].click().run()


def test_a_person_rates_blind_and_is_told_after_saving(opened: Open, walkers: Walkers) -> None:
    _, engine, _, version = walkers
    page = opened(show="Ratings")
    assert "Write your name, and you will be shown a unit and four lists to rate." in text_of(page)
    assert "Nobody has rated prompts of recgpt yet." in text_of(page)
    page.text_input(key="rater").set_value("ada").run()
    text = text_of(page)
    assert "What this unit took last" in text
    assert not any(
        f"{source} " in text.split("Nobody has")[0] for source in ("popular", "random", "shuffled")
    )
    page = page.button[0].click().run()
    assert "Rate all four lists, then save." in text_of(page)
    page = rate(page, [5, 4, 2, 1])
    with engine.connect() as connection:
        first = of_arm(connection, "recgpt")
    assert [(one.rating, one.position) for one in first] == [(5, 0), (4, 1), (2, 2), (1, 3)]
    assert {one.source for one in first} == {*SOURCES}
    assert {(one.version, one.run, one.rater) for one in first} == {(version, "walk", "ada")}
    assert {len(one.items) for one in first} == {3}
    text = text_of(page)
    assert f"These were the lists of unit {first[0].unit_id}" in text
    assert f"List A 5 {first[0].source} :" in text
    assert "The lists of 1 unit were rated 1 time, by 1 rater. One person's opinions" in text
    assert "too few: 1 of the 5 units it takes" in text
    page = rate(page.button[0].click().run(), [1, 2, 3, 4])
    with engine.connect() as connection:
        both = of_arm(connection, "recgpt")
    assert len({one.unit_id for one in both}) == 2
    assert "by 1 rater" in text_of(page)
    other = opened(show="Ratings", rater="bob")
    rate(other, [3, 3, 3, 3])
    with engine.connect() as connection:
        of_bob = [one for one in of_arm(connection, "recgpt") if one.rater == "bob"]
    assert {(one.unit_id, one.source, tuple(one.items)) for one in of_bob} == {
        (one.unit_id, one.source, tuple(one.items)) for one in first
    }, "all raters meet the same units and lists first"


def test_who_has_rated_every_unit_is_told_so(opened: Open, walkers: Walkers) -> None:
    _, engine, _, version = walkers
    with writing(engine) as connection:
        for unit in range(60):
            store(
                connection,
                [Rating("recgpt", version, "walk", f"unit{unit:03}", "ada", "model", 3, 0, ["a"], 1)],
            )
    assert "There is no further unit of this run for you to rate." in text_of(
        opened(show="Ratings", rater="ada")
    )


def test_what_ratings_say_is_told_in_words(opened: Open, walkers: Walkers) -> None:
    _, engine, _, version = walkers
    values = [(5, 3, 1, 5), (4, 3, 2, 4), (5, 2, 1, 4), (4, 4, 1, 5), (5, 3, 2, 5), (4, 2, 1, 3)]
    with writing(engine) as connection:
        for rater, at in (("ada", version), ("bob", version), ("ada", "older")):
            store(connection, [
                Rating("recgpt", at, "walk", f"unit{unit:03}", rater, source, value, 0, ["a"], 1)
                for unit, row in enumerate(values) for source, value in zip(SOURCES, row, strict=True)
            ])  # fmt: skip
    page = opened(show="Ratings")
    text = text_of(page)
    assert "The lists of 6 units were rated 18 times, by 2 raters." in text
    assert "model what the model says to the unit 18 4.50" in text
    assert text.count("the model is rated higher") == 2
    assert "cannot be told from the model" in text
    assert "Krippendorff's alpha is 1.00 (1.00 to 1.00, 95 %), of 24 lists" in text
    assert "they agree well enough to rely on the means" in text
    page.selectbox(key="rated").select("older").run()
    assert "The lists of 6 units were rated 6 times, by 1 rater. One person's" in text_of(page)
    assert "No list was rated by two people yet" in text_of(page)


def test_an_arm_whose_prompts_cannot_be_had_says_so(opened: Open) -> None:
    page = opened(show="Ratings", prompted="recgpt1", rater="ada")
    assert "recgpt1" in page.error[0].value
    assert "Nobody has rated prompts of recgpt1 yet." in text_of(page)


def test_ratings_that_cannot_be_saved_are_not_lost_silently(opened: Open, walkers: Walkers) -> None:
    page = opened(show="Ratings", rater="ada")
    with writing(walkers[1]) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON prompt_ratings "
            "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    page = rate(page, [1, 1, 1, 1])
    assert page.error[0].value.startswith("The ratings could not be saved: ")
    assert "disk is full" in page.error[0].value
    assert len(page.radio) == 4, "and can be saved again"


def test_a_person_looks_at_slates_and_rates_prompts(
    walkers: Walkers, serve: Callable[..., AbstractContextManager[str]], page: Page
) -> None:
    lab, engine, _, _ = walkers
    url = engine.url.render_as_string(hide_password=False)
    page.set_default_timeout(60_000)
    with serve(lab.folder, ARMLIFT_DATABASE_URL=url) as address:
        page.goto(f"{address}/arms")
        expect(page.get_by_role("region", name="Versions of recgpt")).to_contain_text("it walks")
        page.get_by_role("tab", name="Slates").click()
        page.get_by_role("link", name="unit018").click()
        expect(page.get_by_role("heading", name="What each arm would show now")).to_be_visible(timeout=60_000)
        expect(page.get_by_label("Unit", exact=True)).to_have_value("unit018")
        expect(page.get_by_role("region", name="Slate of recgpt.")).to_be_visible()
        page.set_viewport_size({"width": 390, "height": 844})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        page.get_by_role("tab", name="Ratings").click()
        expect(page.get_by_text("Nobody has rated prompts of recgpt yet.")).to_be_visible()
        expect(page).not_to_have_url(re.compile("unit="))
        page.get_by_label("Your name").fill("ada")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="How well would each list continue it?")).to_be_visible(
            timeout=60_000
        )
        for number, letter in enumerate("ABCD", 1):
            group = page.get_by_role("radiogroup", name=f"Rating of list {letter}")
            group.get_by_text(str(number), exact=True).click()
        page.get_by_role("button", name="Save and see where they come from").click()
        expect(page.get_by_role("region", name="Where the lists came from")).to_contain_text("shuffled")
        expect(page.get_by_text("The lists of 1 unit were rated 1 time, by 1 rater.")).to_be_visible()
        expect(page).to_have_url(re.compile("rater=ada&.*show=Ratings"))
    with engine.connect() as connection:
        assert [one.rating for one in of_arm(connection, "recgpt")] == [1, 2, 3, 4]
