"""Whether everybody can use the pages: by screen reader, phone and keyboard, and in the dark."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

PATHS = ("", "results", "arms", "pipelines", "traffic", "planner")
DRAWN = "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
PICTURES = Path(__file__).resolve().parents[2] / "build" / "pages"
"""Where pictures are kept, for whoever looks at what CI saw."""
SCREENS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (390, "light")}


def settle(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("h1")
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(800)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing_serious_and_nothing_overflows(
    filled_pages: str, browser: Browser, path: str, screen: str
) -> None:
    width, scheme = SCREENS[screen]
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    settle(page, f"{filled_pages}/{path}")
    PICTURES.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(height + 20, 8_000)})
    page.wait_for_timeout(400)
    page.screenshot(path=PICTURES / f"{path or 'experiments'}-{screen}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    context.close()
    serious = [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []


def test_results_can_be_reached_and_read_by_the_keyboard_alone(filled_pages: str, page: Page) -> None:
    settle(page, filled_pages)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED).startswith("results?"):
            break
    else:
        raise AssertionError("no link to results can be focused")
    page.keyboard.press("Enter")
    page.wait_for_url("**/results?**")
    page.wait_for_selector("tr[data-comparison]")


FOCUSED = """() => {
  let one = document.activeElement
  while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement
  return one?.getAttribute('href') ?? ''
}"""
