"""Pictures of every page of a lab, for the documents: `python benchmarks/screenshots.py LAB FOLDER`."""

import shutil
import sys
from pathlib import Path

from bench_pages import DRAWN, PATHS, serving
from playwright.sync_api import Browser, Page, sync_playwright

from armlift.lab import Lab

MOST_HEIGHT = 2_400
"""Pictures of longer pages end here, in pixels."""
QUERIES = {"results": "experiment=demo", "arms": "arm=popularity"}


def whole(page: Page) -> None:
    """Make the window as high as the page, and wait until all of it is drawn."""
    page.wait_for_function(DRAWN)
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": size["width"], "height": min(height + 20, MOST_HEIGHT)})
    page.wait_for_timeout(700)


def shoot(browser: Browser, address: str, folder: Path) -> None:
    """Take a picture of every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in PATHS:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page = context.new_page()
        page.goto(f"{address}/{path}?{QUERIES.get(path, '')}")
        whole(page)
        page.screenshot(path=folder / f"{path or 'experiments'}.png")
        context.close()


def main() -> None:
    """Serve the lab's pages, and take the pictures."""
    lab, folder = Lab(Path(sys.argv[1])), Path(sys.argv[2])
    program = shutil.which("chromium") or sys.exit("screenshots need Chromium")
    root = Path(__file__).resolve().parents[1]
    with (
        serving(root, lab.folder.resolve(), lab.settings.database_url) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        shoot(browser, address, folder)
        browser.close()


if __name__ == "__main__":
    main()
