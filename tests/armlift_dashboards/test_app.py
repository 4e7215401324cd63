"""The app as a whole, in a real browser."""

import pytest
from playwright.sync_api import Page, expect

PATHS = ("", "results", "arms", "pipelines", "traffic", "planner")


@pytest.mark.parametrize("path", PATHS)
def test_every_page_answers_at_its_address(filled_pages: str, page: Page, path: str) -> None:
    page.goto(f"{filled_pages}/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text((path or "experiments").capitalize())
    expect(page.get_by_test_id("stException")).to_have_count(0)
