"""Serving: requests a second of `armlift serve`, beside the bare framework with empty handlers, in one run.

A load of another process on this machine's loopback, SQLite and the embedded stream. RecGPT of the stock
definition, two steps, answers distinct units whose histories of 50 lie in SQL, over 12,000 items; it is
trained for one epoch, which changes nothing of its speed. ARMLIFT_BENCH_UNITS says how many units ask
(default 6,000; each asks once).
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from figures import Figure, show
from load import Figures
from serving_lab import serving
from sqlalchemy import Engine

from armlift import promotions, running
from armlift.arm import Behaviour, History, ItemTable, arm_class, new_arm
from armlift.artefacts import save_artefact
from armlift.days import DAY_MS, utc_day, utc_now
from armlift.events import feedback_identity, request_identity
from armlift.lab import Lab, init_lab
from armlift.promotions import EVERY_EXPERIMENT
from armlift.store.database import open_database, writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback

HERE = Path(__file__).parent
UNITS = int(os.environ.get("ARMLIFT_BENCH_UNITS", "6000"))
ITEMS, LENGTH, K = 12_000, 50, 20
TRAINED = 400
CONNECTIONS, BATCHES, A_BATCH, ASSIGNED = 16, 600, 100, 20_000
_EXPERIMENT = """
name: speed
arms: {recgpt: 1, popularity: 0}
control: popularity
metrics: {primary: [click_rate]}
"""
NAMES = [f"v{number:05}" for number in range(ITEMS)]


def main() -> None:
    """Make the lab, load both servers, and print."""
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(Path(folder) / "lab")
        asks = [
            {"method": "POST", "path": "/v1/recommend",
             "body": json.dumps({"unit_id": f"u{number}", "experiment": "speed", "k": K})}
            for number in range(UNITS)
        ]  # fmt: skip
        looks = [
            {"method": "GET", "path": f"/v1/assignments/w{number}?experiment=speed"}
            for number in range(ASSIGNED)
        ]
        sends = [{"method": "POST", "path": "/v1/events", "body": batch(number)} for number in range(BATCHES)]
        with bare() as port:
            plain = {name: load(port, some) for name, some in (("a", asks), ("b", looks), ("c", sends))}
        with serving(lab) as answering:
            half = UNITS // 2
            load(answering.port, looks[:500])
            open_loop = load(answering.port, asks[:half], rate=300.0)
            closed = load(answering.port, asks[half:])
            assigned = load(answering.port, looks)
            sent = load(answering.port, sends)
            figures = httpx.get(f"{answering.url}/metrics", trust_env=False).text
    tell("300 requests a second asked for", open_loop)
    tell("as many as there can be", closed)
    tell("assignments", assigned)
    tell("batches of events", sent)
    print("\n".join(line for line in figures.splitlines() if "fallbacks_total{" in line) or "no fallbacks")
    events = sent.rate * A_BATCH
    show(
        [
            figure("recommend, recgpt", closed.rate, plain["a"].rate, "requests/s", 300),
            Figure(
                "recommend at 300/s, p99", open_loop.p99, "ms", "-", None, None, "<= 50 ms",
                good(open_loop) and open_loop.p99 <= 50,
            ),
            figure("assignments", assigned.rate, plain["b"].rate, "requests/s", 2_000),
            figure(f"batches of {A_BATCH} events", events, plain["c"].rate * A_BATCH, "events/s", 10_000),
        ]
    )  # fmt: skip


def figure(name: str, value: float, bare: float, unit: str, least: int) -> Figure:
    """Make a figure beside the bare framework's."""
    goal = f">= {least:,}/s"
    return Figure(name, value, unit, "an empty handler", bare, value / bare, goal, value >= least)


def good(found: Figures) -> bool:
    """Tell whether all was answered well."""
    return set(found.statuses) <= {"200", "202"}


def tell(what: str, found: Figures) -> None:
    """Print a load's figures."""
    print(
        f"{what}: {found.rate:,.0f}/s, p50 {found.p50:.1f}, p95 {found.p95:.1f}, p99 {found.p99:.1f}, "
        f"worst {found.worst:.1f} ms, {found.statuses}"
    )


def load(port: int, requests: Sequence[object], rate: float = 0.0) -> Figures:
    """Load a server from a process of its own."""
    plan = {"requests": requests, "connections": 64 if rate else CONNECTIONS, "rate": rate}
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), "127.0.0.1", str(port)],
        input=json.dumps(plan), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Figures(**json.loads(done.stdout))


def batch(number: int) -> str:
    """Write a batch of events: requests of ten items shown, some clicked."""
    now = utc_now()
    rows: list[dict[str, object]] = []
    chance = random.Random(number)
    while len(rows) < A_BATCH:
        unit = f"e{number}-{len(rows)}"
        request_id = request_identity(now, f"{unit}|{number}")
        for place in range(10):
            common = {"request_id": request_id, "unit_id": unit, "item_id": chance.choice(NAMES)}
            shown = {"arm": "recgpt", "arm_version": "1" * 12, "position": place, "score": 1.5}
            rows.append({"type": "impression", **common, **shown})
            if place % 4 == 0:
                rows.append({"type": "feedback", **common, "kind": "click"})
    return json.dumps({"run": "live", "events": rows[:A_BATCH]})


@contextmanager
def bare() -> Iterator[int]:
    """Run the bare framework."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with subprocess.Popen([sys.executable, str(HERE / "bare_api.py"), str(port)]) as process:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        try:
            yield port
        finally:
            process.terminate()


def make_lab(folder: Path) -> Lab:
    """Make a lab whose recgpt serves, and whose units have histories in SQL."""
    init_lab(folder)
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    (folder / "experiments" / "speed.yaml").write_text(_EXPERIMENT, encoding="utf-8")
    lab = Lab(folder)
    engine = open_database(lab, create=True)
    now = utc_now()
    fit(lab, engine, now)
    with writing(engine) as connection:
        running.start(connection, lab, "speed", reason="now", by="me", at=now)
    rows: list[tuple[object, ...]] = []
    for number in range(UNITS):
        rows += behaviours(number, now)
    with writing(engine) as connection:
        insert_new(connection, feedback, rows)
    engine.dispose()
    return lab


def walk(seed: int) -> list[str]:
    """Walk over neighbouring items."""
    chance = random.Random(seed)
    place, found = chance.randrange(ITEMS), []
    for _ in range(LENGTH):
        place = (place + chance.choice((1, 2, 3, 5, 50))) % ITEMS
        found.append(NAMES[place])
    return found


def fit(lab: Lab, engine: Engine, until: int) -> None:
    """Fit and promote the arms."""
    units = [
        History(
            f"t{seed}",
            [Behaviour(item, "click", 1.0, until - DAY_MS + at) for at, item in enumerate(walk(seed))],
        )
        for seed in range(TRAINED)
    ]
    for name in ("recgpt", "popularity"):
        changes = {"epochs": 1, "pretraining_epochs": 1} if name == "recgpt" else {}
        definition = lab.arm(name).model_dump() | changes
        arm = new_arm(arm_class(definition["model"]).config_class.model_validate(definition))
        arm.fit(units, ItemTable(NAMES), until=until)
        manifest = save_artefact(
            arm, lab.resolve(lab.settings.artefact_url), data_hash="bench", data_until=until,
            created="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        with writing(engine) as connection:
            promotions.add_candidate(
                connection, name, EVERY_EXPERIMENT, manifest.version,
                data_hash="bench", data_until=until, definition_hash="bench", parent=None,
            )  # fmt: skip
            promotions.promote(
                connection,
                name,
                EVERY_EXPERIMENT,
                manifest.version,
                at=until,
                by="me",
                reason="r",
                override=True,
            )


def behaviours(number: int, now: int) -> Iterator[tuple[object, ...]]:
    """Give a unit's history as rows of `feedback`."""
    unit, first = f"u{number}", now - DAY_MS
    for at, item in enumerate(walk(TRAINED + number)):
        ts = first + 1_000 * at
        request_id = request_identity(ts, f"{unit}|{at}")
        identity = feedback_identity(request_id, item, "click", 0)
        yield (utc_day(ts), utc_day(ts), identity, "live", ts, request_id, unit, item, "click", 1.0, 0)


if __name__ == "__main__":
    main()
