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
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from sqlalchemy import Engine

from armlift import promotions
from armlift.arm import Behaviour, History, ItemTable
from armlift.artefacts import save_artefact
from armlift.commands.options import open_stream
from armlift.days import DAY_MS
from armlift.lab import VARIABLE, Lab, init_lab
from armlift.reproduction import take_report
from armlift.runs import Run, begin, definition_of
from armlift.simulation.laboratory import Size
from armlift.simulation.simulate import Simulation
from armlift.store.database import open_database, writing
from armlift.store.tables import exposures, feedback
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


WALKED = 1_700_000_000_000
"""When units of `walkers` began to walk, UTC milliseconds."""
Walkers = tuple[Lab, Engine, Run, str]
"""A lab, its database, its run of the experiment `demo`, and the version of recgpt that serves there."""


@pytest.fixture(scope="session")
def small_recgpt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Fit a small recgpt with three prompts on units that walk round 20 items; its artefacts, its version."""
    from armlift_arms.recgpt import RecGpt, RecGptConfig

    small = {"dim": 16, "pretraining_epochs": 2, "epochs": 2, "negatives": 64, "prompts": 3}
    arm = RecGpt(RecGptConfig.model_validate({"name": "recgpt", "model": "recgpt", **small}))
    items = ItemTable([f"item{number:02}" for number in range(24)])
    histories = [History(f"unit{unit:03}", walk(unit)) for unit in range(60)]
    arm.fit(histories, items, until=WALKED + DAY_MS)
    folder = tmp_path_factory.mktemp("models")
    manifest = save_artefact(
        arm, str(folder), data_hash="walk", data_until=WALKED + DAY_MS, created="2023-11-15T00:00:00+00:00"
    )
    return folder, manifest.version


def walk(unit: int) -> list[Behaviour]:
    """Let a unit click its way from item to item, with a short play of each."""
    did = []
    for step in range(8):
        item, ts = f"item{(unit + step) % 20:02}", WALKED + 60_000 * step
        did += [Behaviour(item, "click", 1.0, ts), Behaviour(item, "play", 12.0, ts)]
    return did


@pytest.fixture
def walkers(small_recgpt: tuple[Path, str], engine: Engine, tmp_path: Path) -> Walkers:
    """Make a lab with a run of 60 walkers; recgpt serves, recgpt1 is broken, comirec is missing."""
    models, version = small_recgpt
    init_lab(tmp_path / "lab")
    lab = Lab(tmp_path / "lab", database=engine.url.render_as_string(hide_password=False))
    shutil.copytree(models, lab.folder / "models")
    broken = lab.folder / "models" / "recgpt1" / version
    shutil.copytree(models / "recgpt" / version, broken)
    experiment = lab.experiment("demo")
    definition = definition_of(experiment, lab.metrics_of(experiment))
    run = Run("walk", 1, "demo", "simulated", False, 5, 0, "finished", True, definition, {}, {}, {}, {})
    day = WALKED // DAY_MS
    arms = list(experiment.arms)
    with writing(engine) as connection:
        run = begin(connection, run)
        for name in ("recgpt", "recgpt1"):
            promotions.add_candidate(
                connection, name, "*", version, data_hash="walk", data_until=WALKED + DAY_MS,
                definition_hash="f", parent=None,
            )  # fmt: skip
        promotions.promote(connection, "recgpt", "*", version, at=WALKED, by="ada", reason="it walks")
        met = [
            (
                day,
                day,
                f"e{unit}",
                "walk",
                WALKED,
                f"unit{unit:03}",
                "demo",
                0,
                0,
                arms[unit % 3],
                "v",
                False,
                False,
            )
            for unit in range(60)
        ]
        connection.execute(
            exposures.insert(), [dict(zip(exposures.c.keys(), row, strict=True)) for row in met]
        )
        did = [
            (
                day,
                day,
                f"f{unit}-{number}",
                "walk",
                one.ts,
                "r",
                f"unit{unit:03}",
                one.item,
                one.kind,
                one.value,
                0,
            )
            for unit in range(60)
            for number, one in enumerate(walk(unit))
        ]
        connection.execute(feedback.insert(), [dict(zip(feedback.c.keys(), row, strict=True)) for row in did])
    return lab, engine, run, version
