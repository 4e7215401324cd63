"""Pages: how long each takes in Chromium, on PostgreSQL with a million units, until all of it is drawn.

ARMLIFT_BENCH_UNITS says how many units there are (default 1,000,000), ARMLIFT_BENCH_LOADS how often each page
is loaded (default 20). Cold: the browser and the server's caches know nothing of the page; warm: both do. A
page is loaded when its script has ended and every chart is drawn.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import bench_aggregates as aggregates
import numpy as np
from databases import postgresql
from figures import Figure, show
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Engine

from armlift.days import DAY_MS
from armlift.lab import VARIABLE, Lab, init_lab
from armlift.reproduction import take_daily
from armlift.runs import IMPORTED, Run, begin, definition_of
from armlift.store.database import connect, upgrade, writing
from armlift.store.sink import insert_new
from armlift.store.tables import arrivals, job_runs, models

UNITS = int(os.environ.get("ARMLIFT_BENCH_UNITS", "1000000"))
LOADS = int(os.environ.get("ARMLIFT_BENCH_LOADS", "20"))
PATHS = ("", "results", "arms", "pipelines", "traffic", "planner")
DAYS, NIGHTS, METRICS = 4, 365, 3
OF_ARM = ("retrain", "evaluate", "gate", "promote")
STEPS = ("roll_up", "build_dataset", *OF_ARM, "drift", "snapshot")
GOAL = 2.0
DRAWN = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
  && document.querySelector('h1') && !document.querySelector('[data-testid=stSkeleton]')
  && [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]
    .every(one => one.querySelector('canvas, svg'))"""
EXPERIMENT = """name: bench
arms: {a: 1, b: 1}
control: a
metrics: {primary: [metric_0], secondary: [metric_1], guardrails: [metric_2]}
"""


def fill(lab: Lab, engine: Engine) -> None:
    """Write a run of a million units, its daily reports, a year of nights, and what arrived."""
    start = time.perf_counter()
    aggregates.fill(engine, UNITS, metrics=METRICS, days=(-1, 0, 1))
    print(f"filled in {time.perf_counter() - start:,.0f} s", flush=True)
    experiment = lab.experiment("bench")
    first = aggregates.FIRST_DAY * DAY_MS
    log = {"format": "bench", "first_ts": first, "last_ts": first + DAYS * DAY_MS - 1, "kinds": ["click"]}
    counts = {"rows": 0, "random_rows": None, "compared": 0}
    definition = definition_of(experiment, lab.metrics_of(experiment))
    run = Run(aggregates.RUN, 0, "bench", IMPORTED, False, 0, 0, "finished", True, definition,
              {"a": "v", "b": "v"}, log, counts, {})  # fmt: skip
    with writing(engine) as connection:
        run = begin(connection, run)
        insert_new(connection, job_runs, list(_nights(first)))
        insert_new(connection, models, [_model(night, first) for night in range(NIGHTS)])
        insert_new(connection, arrivals, list(_arrived(first)))
    start = time.perf_counter()
    take_daily(engine, run, lab.calendar)
    print(f"{DAYS} daily reports of {UNITS:,} units in {time.perf_counter() - start:,.0f} s", flush=True)


def _model(night: int, first: int) -> tuple[Any, ...]:
    at, state = first + night * DAY_MS, "promoted" if night == NIGHTS - 1 else "retired"
    parent = f"{night - 1:012x}" if night else None
    return ("popularity", "*", f"{night:012x}", state, "d", at, "h", parent, at, None)


def _arrived(first: int) -> Iterator[tuple[Any, ...]]:
    for partition in range(8):
        for day in range(90):
            at = first + day * DAY_MS
            yield ("s", partition, aggregates.RUN, aggregates.FIRST_DAY + day, UNITS, 10, at)


def _nights(first: int) -> Iterator[tuple[Any, ...]]:
    """Give a year of nights with their steps, as `job_runs` holds them."""
    measured = {"asked": 500, "metrics": {"rerank_NDCG@10": 0.5}, "promoted": {"rerank_NDCG@10": 0.49}}
    for night in range(NIGHTS):
        at, day = first + night * DAY_MS, date(1970, 1, 1) + timedelta(days=aggregates.FIRST_DAY + night)
        outputs: dict[str, dict[str, Any]] = {
            "evaluate": {"evaluation": measured},
            "gate": {"passed": True, "reasons": [], "rulings": []},
            "promote": {"serving": f"{night:012x}", "promoted": True},
        }
        for number, step in enumerate(("", *STEPS)):
            arm = "popularity" if step in OF_ARM else ""
            identity, ended = f"{night:016x}{number:016x}", at + 1000 * (number + 1)
            yield (
                identity, "nightly", f"live/{day}", step, arm, "*" if arm else "", 1, "succeeded", at, ended,
                "bench", at, "h", {}, outputs.get(step, {}), {}, None, None,
            )  # fmt: skip


@contextmanager
def serving(root: Path, lab: Path, database: str) -> Iterator[str]:
    """Serve the pages, with empty caches."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "armlift_dashboards.supervisor", "run"]
    command.append(str(root / "dashboards" / "app.py"))
    command += [f"--server.port={port}", "--server.address=127.0.0.1"]
    environment = {**os.environ, VARIABLE: str(lab), "ARMLIFT_DATABASE_URL": database}
    server = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def load(page: Page, address: str) -> float:
    """Load a page, and give the seconds until all of it is drawn."""
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(DRAWN, polling=20)
    return time.perf_counter() - start


def cold(browser: Browser, address: str) -> float:
    """Load a page in a browser that knows nothing."""
    context = browser.new_context()
    try:
        return load(context.new_page(), address)
    finally:
        context.close()


def measure(root: Path, lab: Path, database: str, browser: Browser) -> dict[str, list[float]]:
    """Load every page cold and warm; each round of cold loads has a server of its own."""
    found: dict[str, list[float]] = {f"{path} {kind}": [] for path in PATHS for kind in ("cold", "warm")}
    for _ in range(LOADS):
        with serving(root, lab, database) as address:
            cold(browser, f"{address}/none")  # what Python and Streamlit load once
            for path in PATHS:
                found[f"{path} cold"].append(cold(browser, f"{address}/{path}"))
    with serving(root, lab, database) as address:
        context = browser.new_context()
        page = context.new_page()
        for path in PATHS:
            load(page, f"{address}/{path}")
            found[f"{path} warm"] += [load(page, f"{address}/{path}") for _ in range(LOADS)]
        context.close()
    return found


def main() -> None:
    """Measure and print."""
    program = shutil.which("chromium") or sys.exit("bench pages needs Chromium")
    root = Path(__file__).resolve().parents[1]
    with postgresql() as server, tempfile.TemporaryDirectory() as folder:
        if server is None:
            sys.exit("bench pages needs PostgreSQL's programs")
        print(f"{server.name}, {UNITS:,} units, {LOADS} loads of each page", flush=True)
        init_lab(Path(folder) / "lab")
        lab = Lab(Path(folder) / "lab", database=server.url)
        _define(lab.folder)
        engine = connect(server.url, lab.folder)
        upgrade(engine)
        fill(lab, engine)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
            )
            found = measure(root, lab.folder, server.url, browser)
            browser.close()
        engine.dispose()
    figures = []
    for name, times in found.items():
        path, kind = name.rsplit(" ", 1)
        p95, middle = float(np.quantile(times, 0.95)), median(times)
        told = f"page {path or 'experiments'}, {kind} (p95 of {LOADS})"
        goal = f"<= {GOAL:g} s"
        figures.append(Figure(told, p95, "s", "its median", middle, p95 / middle, goal, p95 <= GOAL))
    show(figures)


def _define(folder: Path) -> None:
    metrics = "".join(
        f"metric_{number}: {{kind: mean, cuped: 7d, of: {{event: click}}}}\n" for number in range(METRICS)
    )
    (folder / "metrics.yaml").write_text(metrics)
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    (folder / "experiments" / "bench.yaml").write_text(EXPERIMENT)
    for arm in ("a", "b"):
        (folder / "arms" / f"{arm}.yaml").write_text(f"name: {arm}\nmodel: popularity\n")


if __name__ == "__main__":
    main()
