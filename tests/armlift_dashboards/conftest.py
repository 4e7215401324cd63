"""Fixtures of pages: a lab with something on every page, servers of its pages, and a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from armlift.commands.options import open_stream
from armlift.lab import VARIABLE, Lab, init_lab
from armlift.reproduction import take_report
from armlift.simulation.laboratory import Size
from armlift.simulation.simulate import Simulation
from armlift.store.database import open_database
from armlift_pipelines.night import Night

USERS, DAYS = 240, 3
PROBES = ("/_stcore/health", "/_stcore/host-config")
"""What Streamlit's own script looks for below each page's address before it finds them at the root."""


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Make a lab whose experiment `baselines` was simulated, reported day by day, and had a night."""
    folder = tmp_path_factory.mktemp("filled") / "lab"
    init_lab(folder)
    lab = Lab(folder)
    experiment = lab.experiment("baselines")
    engine = open_database(lab, create=True)
    with open_stream(lab) as stream:
        run = Simulation(lab, experiment, Size(USERS, DAYS, 10, 0), engine).run(stream, truth=True)
    first = lab.calendar.day(int(str(run.log["first_ts"])))
    for day in range(first, first + DAYS):
        report = take_report(engine, run, lab.calendar, as_of=lab.calendar.start_of(day + 1) - 1)
    assert report.verdict.status != "broken"
    night = date(1970, 1, 1) + timedelta(days=first + DAYS)
    now = lab.calendar.start_of(first + DAYS) + 3_600_000
    Night(lab, engine, night, now=now, run=run.run, experiments=["baselines"]).run()
    engine.dispose()
    return lab


@contextmanager
def serving(root: Path, lab: Path, **environment: str) -> Iterator[str]:
    """Serve a lab's pages as `armlift dashboard` does, and give their address."""
    port = free_port()
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


Started = tuple[str, "subprocess.Popen[bytes]", Path]


@contextmanager
def commanded(lab: Path, *words: str, port: int | None = None, **environment: str) -> Iterator[Started]:
    """Run `armlift dashboard`, and give its address, its process, and the file of what it says."""
    port = free_port() if port is None else port
    code = "from armlift.cli import main; main()"
    command = [sys.executable, "-c", code, "dashboard", "--lab", str(lab), "--port", str(port), *words]
    log = lab.parent / f"dashboard-{port}.log"
    with log.open("wb") as written:
        server = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=written, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}", server, log
        finally:
            server.terminate()
            server.wait(20)


def free_port() -> int:
    """Give a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    """Give a port that nothing listens on."""
    return free_port()


Command = Callable[..., AbstractContextManager[Started]]


@pytest.fixture(scope="session")
def command() -> Command:
    """Give what runs `armlift dashboard`: `with command(folder, "--address", "::1") as (address, ...)`."""
    return commanded


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
    expect.set_options(timeout=20_000)  # two servers may share a core
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
