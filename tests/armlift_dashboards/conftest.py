"""Fixtures of pages: a lab with something on every page, servers of its pages, and a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from demos import Demo
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from armlift.lab import VARIABLE, Lab

PROBES = ("/_stcore/health", "/_stcore/host-config")
"""What Streamlit's own script looks for below each page's address before it finds them at the root."""


@pytest.fixture(scope="session")
def filled(demo: Demo) -> Lab:
    """Give the lab of `armlift demo`: `baselines` had nights, `demo` has neural arms, both daily reports."""
    return Lab(demo.folder)


@contextmanager
def serving(root: Path, lab: Path, **environment: str) -> Iterator[str]:
    """Serve a lab's pages as `armlift dashboard` does, and give their address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(root / "dashboards" / "app.py")]
    command += [f"--server.port={port}", "--server.address=127.0.0.1"]
    log = lab.parent / f"pages-{port}.log"
    with log.open("wb") as written:
        server = subprocess.Popen(
            command, cwd=root, env={**os.environ, VARIABLE: str(lab), **environment},
            stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(address, timeout=2) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} did not answer: {log.read_text()}")


Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serve(root: Path) -> Serve:
    """Give what serves pages of a lab: `with serve(folder, NAME=value) as address`."""
    return lambda lab, **environment: serving(root, lab, **environment)


@pytest.fixture(scope="session")
def filled_pages(filled: Lab, serve: Serve) -> Iterator[str]:
    """Serve the filled lab's pages for the whole session."""
    with serve(filled.folder) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium; skips where it is not installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
        )
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page whose console must stay without errors until the test ends."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="Europe/Berlin")
    found = context.new_page()
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.location["url"].endswith(PROBES):
            errors.append(message.text)

    found.on("console", note)
    found.on("pageerror", lambda error: errors.append(str(error)))
    yield found
    context.close()
    assert errors == []
