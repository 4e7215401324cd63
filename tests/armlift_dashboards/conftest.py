"""Fixtures of pages: a lab with something on every page, servers of its pages, and a real browser."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import pytest
import streamlit
from databases import free_port
from demos import Demo
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from armlift import promotions
from armlift.arm import Behaviour, History, ItemTable
from armlift.artefacts import save_artefact
from armlift.days import DAY_MS
from armlift.lab import VARIABLE, Lab, init_lab
from armlift.runs import Run, begin, definition_of
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.tables import exposures, feedback

PROBES = ("/_stcore/health", "/_stcore/host-config")
"""What Streamlit's own script looks for below each page's address before it finds them at the root."""


@pytest.fixture(scope="session")
def filled(demo: Demo) -> Lab:
    """Give the lab of `armlift demo`: `baselines` had nights, `demo` has neural arms, both daily reports."""
    return Lab(demo.folder)


@contextmanager
def serving(root: Path, lab: Path, **environment: str) -> Iterator[str]:
    """Serve a lab's pages as `armlift dashboard` does, and give their address."""
    port = free_port()
    command = [sys.executable, "-m", "armlift_dashboards.supervisor", "run"]
    command.append(str(root / "dashboards" / "app.py"))
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium; skips where it is not installed.

    Its driver's event loop runs as long as it does, and no other can beside it: it ends with the module.
    """
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


@pytest.fixture
def bare(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Make a lab whose database is empty, and let pages of this process show it."""
    streamlit.cache_data.clear()
    streamlit.cache_resource.clear()
    init_lab(tmp_path / "bare")
    shutil.copyfile(sqlite_template, tmp_path / "bare" / "armlift.db")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bare"))
    yield Lab(tmp_path / "bare")
    streamlit.cache_data.clear()
    streamlit.cache_resource.clear()


def _view(name: str) -> None:
    from importlib import import_module

    from armlift_dashboards.app import render

    render(import_module(f"armlift_dashboards.views.{name}").show)


Shown = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the main module, from which processes of later tests start: a page's test takes its place."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def shown() -> Shown:
    """Give what shows a page of this process's lab: `shown("traffic", experiment="demo")`."""

    def show(name: str, **query: str) -> AppTest:
        app = AppTest.from_function(_view, args=(name,), default_timeout=30)
        for key, value in query.items():
            app.query_params[key] = value
        return app.run()

    return show


@pytest.fixture
def told() -> Callable[[AppTest], str]:
    """Give what gives the markup of all sections of a page that is shown, one behind another."""

    def markup(app: AppTest) -> str:
        assert not app.exception
        return "".join(
            str(json.loads(one.proto.json)["html"]) for one in app.main if one.type == "bidi_component"
        )

    return markup


Happened = Callable[[Engine, int], None]


@pytest.fixture
def happened() -> Happened:
    """Give what fills a database with nights, looks of the monitor, alerts, and what is planned next."""
    return _happen


def job_run(started: int, subject: str, **other: object) -> dict[str, object]:
    """Make a row of `job_runs`, which took 90 s and succeeded."""
    return {
        "id": uuid4().hex, "job": "nightly", "subject": subject, "step": "", "arm": "", "scope": "",
        "attempt": 1, "status": "succeeded", "started": started, "ended": started + 90_000,
        "owner": "host:1:2.00", "seen": started, "inputs_hash": "abc123", "inputs": {"night": subject},
        "outputs": {}, "versions": {"armlift": "0.1.0"}, "log": None, "error": None,
    } | other  # fmt: skip


def _happen(engine: Engine, now: int) -> None:
    """The night before last succeeded, the last failed in part, one is lost, and the monitor looks."""
    shift = {"value": 0.3, "noise": 0.01, "limit": 0.02, "warn": 0.1, "fail": 0.25, "n": 9, "m": 9, "bins": 3}
    drift = {
        "status": "fail", "window": 7, "behaviours": [900, 6000], "units": [50, 80],
        "measures": [
            {"name": "kinds of feedback, PSI", "status": "fail", **shift},
            {"name": "hour of day (UTC), PSI", "status": "ok", **shift, "value": 0.01},
            {"name": "seconds of play, PSI", "status": "no_data", **dict.fromkeys(shift)},
        ],
    }  # fmt: skip
    day = 86_400_000
    early, last = now - day, now - 3_600_000
    of_arm = {"arm": "recgpt", "scope": "*"}
    rows = [
        job_run(now - 2 * day, "live/2025-12-31", status="skipped", error="no scheduler"),
        job_run(early, "live/2026-01-01"),
        job_run(early, "live/2026-01-01", step="retrain", **of_arm, ended=early + 60_000),
        job_run(early + 60_000, "live/2026-01-01", step="drift", ended=early + 80_000),
        job_run(last, "live/2026-01-02", id="a" * 32, status="failed", error="1 of 5 steps failed: it <b>"),
        job_run(last, "live/2026-01-02", step="build_dataset", outputs={"units": 80, "behaviours": 6900}),
        job_run(last + 10, "live/2026-01-02", step="retrain", **of_arm, status="failed", error="killed"),
        job_run(
            last + 20, "live/2026-01-02", id="b" * 32, step="retrain", **of_arm, attempt=2,
            outputs={"candidate": "v2"}, log="logs/live-2026-01-02/retrain-recgpt.log",
        ),
        job_run(
            last + 30, "live/2026-01-02", step="gate", **of_arm,
            outputs={"passed": False, "reasons": ["worse"]},
        ),
        job_run(last + 40, "live/2026-01-02", step="drift", outputs={"drift": drift}),
        job_run(last + 50, "live/2026-01-02", step="snapshot", status="failed", error="no\nspace"),
        job_run(now - 60_000, "2026-01-02T04:55+00:00", job="monitor", ended=now - 59_000),
        job_run(now - 400_000, "2026-01-02T04:50+00:00", job="monitor", status="failed", error="away"),
        job_run(now - 2 * day, "2025-12-31T04:50+00:00", job="monitor"),
        job_run(now - 7_200_000, "x", job="export", status="running", ended=None, id="c" * 32, seen=0),
    ]  # fmt: skip
    repeated = {"repeated": 4, "latest": {"at": now - 1000, "text": "recgpt is 4.1 days old"}}
    told = [
        (now - 9 * day, "failure", "nightly", "old news", {}, {}),
        (now - day, "stale_model", "recgpt/*", "recgpt is 3 days old", repeated, {"webhook": "ok"}),
        (last, "refused", "recgpt", "a new model of recgpt was refused", {}, {"email": "failed: no route"}),
    ]
    columns = ("at", "kind", "subject", "text", "details", "deliveries")
    planned = [("monitor", now / 1000 + 200), ("nightly", now / 1000 + 80_000)]
    with writing(engine) as connection:
        connection.execute(tables.job_runs.insert(), rows)
        connection.execute(tables.alerts.insert(), [dict(zip(columns, one, strict=True)) for one in told])
        connection.execute(
            tables.scheduled_jobs.insert(),
            [{"id": job, "next_run_time": at, "job_state": b""} for job, at in planned],
        )


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
