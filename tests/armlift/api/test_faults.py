"""The API under faults: brokers that go away, signals. What a 202 accepted is in SQL, once."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest
from brokers import Broker
from databases import Server
from pressure import Asked, Reply, figures, pressure
from serving_lab import NAME, Answering, command, ready, serving, size_of, wait_for
from sqlalchemy import NullPool, create_engine, func, make_url, select, text

from armlift.api.models import AssignmentAnswer
from armlift.client import Client
from armlift.events import (
    Exposure,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.lab import Lab
from armlift.splitter import Split, assign
from armlift.started import find
from armlift.store.database import open_database
from armlift.store.tables import dead_letters, exposures, feedback, impressions

A_BATCH = 10
"""Requests of a batch, each with an impression and two feedbacks."""
PATIENCE = 60.0
BUDGET_MS = 400
SLACK = 0.6
"""Seconds that a test's machine may take beside."""
WARM, COLD = [f"warm{number}" for number in range(40)], [f"cold{number}" for number in range(40)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a lab whose experiment runs, to be copied."""
    return ready(tmp_path_factory.mktemp("served") / "lab", size_of(200, 2)).folder


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Lab:
    return Lab(shutil.copytree(template, tmp_path / "lab"))


def batch(number: int, prefix: str = "b") -> Asked:
    """Make the n-th batch of events; its ids are told by what it says."""
    now, rows, ids = time.time_ns() // 1_000_000, [], []
    for place in range(A_BATCH):
        unit = f"{prefix}{number}-{place}"
        named = request_identity(now, unit)
        common = {"request_id": named, "unit_id": unit, "item_id": "v1"}
        shown = {"type": "impression", "arm": "popularity", "arm_version": "1", "position": 0}
        rows.append({**common, **shown})
        ids.append(impression_identity(named, "v1"))
        for ordinal in range(2):
            rows.append({**common, "type": "feedback", "kind": "click", "ordinal": ordinal})
            ids.append(feedback_identity(named, "v1", "click", ordinal))
    return Asked("POST", "/v1/events", {"events": rows}, ids)


def accepted(replies: Iterable[Reply]) -> set[str]:
    return {one for reply in replies if reply.status == 202 for one in reply.what}


def stored(lab: Lab) -> list[str]:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = [
            name for table in (impressions, feedback) for name in connection.scalars(select(table.c.event_id))
        ]
        assert connection.scalar(select(func.count()).select_from(dead_letters)) == 0
    engine.dispose()
    return found


def check_stored(lab: Lab, replies: list[Reply], before: Iterable[str] = ()) -> None:
    """Check that all that was accepted is stored, once, and nothing that was not sent, now or before."""
    wanted, sent = accepted(replies), {one for reply in replies for one in reply.what}
    assert wanted
    wait_for(lambda: wanted <= set(stored(lab)), PATIENCE)
    found = stored(lab)
    assert len(found) == len(set(found))
    assert set(found) <= sent | set(before)


def test_no_event_is_lost_while_the_broker_is_away(durable: Broker, lab: Lab) -> None:
    """Of three processes one is told to end meanwhile and one is killed: the third brings what they kept."""
    stream = ("--stream", durable.url(f"faults-{uuid4().hex}"))
    with ExitStack() as stack:
        stack.enter_context(command(lab, "ingest", *stream))
        one, two, three = (stack.enter_context(serving(lab, *stream)) for _ in range(3))
        with pressure([three.url], batch, threads=2, pause=0.01) as lasting:
            with pressure([one.url, two.url], partial(batch, prefix="ends"), pause=0.01) as replies:
                time.sleep(1.0)
                away = time.monotonic()
                durable.kill()
                time.sleep(2.5)
                one.process.terminate()
                two.process.kill()
                assert one.process.wait(30) == 0
                ended = time.monotonic()
            back = time.monotonic()
            durable.start()
            time.sleep(1.0)
        print(f"events, until the broker went: {figures([one for one in lasting if one.sent < away])}")
        print(f"while it was away: {figures([one for one in lasting if away <= one.sent < back])}")
        print(f"in all: {figures(lasting)}; a process ended within {ended - away - 2.5:.1f} s")
        assert {reply.status for reply in lasting} == {202}
        assert {reply.status for reply in replies} == {202, 0}
        check_stored(lab, [*lasting, *replies])
        assert not [*(lab.folder / "spill").glob("*/[0-9]*")], "all of it is in the stream"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_accepted_outlives_a_signal(lab: Lab, number: signal.Signals) -> None:
    with serving(lab) as api:
        with pressure([api.url], batch) as replies:
            time.sleep(1.5)
            api.process.send_signal(number)
            began = time.monotonic()
            code = api.process.wait(30)
            print(f"ended after {time.monotonic() - began:.2f} s")
            time.sleep(0.1)
        print(figures(replies))
        assert code == (0 if number == signal.SIGTERM else -number)
        assert accepted(replies)
        assert not [line for line in api.log if "Error" in line], api.log
    with command(lab, "ingest"), serving(lab):
        check_stored(lab, replies)


class Ramped(NamedTuple):
    """A lab on PostgreSQL with two experiments, one of them ramped with new weights, and its API."""

    server: Server
    lab: Lab
    api: Answering
    client: Client
    first: Mapping[str, str]
    """The arms that units of the ramped experiment met before it was."""


@pytest.fixture(scope="module")
def ramped(postgresql_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ramped]:
    url = make_url(postgresql_server.url)
    once = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with once.connect() as connection:
        connection.execute(text("CREATE DATABASE faults"))
    there = url.set(database="faults").render_as_string(hide_password=False)
    lab = ready(
        tmp_path_factory.mktemp("ramped") / "lab", size_of(200, 2),
        database=there, serve={"budget_ms": BUDGET_MS},
    )  # fmt: skip
    written = (lab.folder / "experiments" / f"{NAME}.yaml").read_text()
    (lab.folder / "experiments" / "ramped.yaml").write_text(
        written.replace(f"name: {NAME}", "name: ramped\nlayer: {name: other}")
    )
    first = {}
    with serving(lab) as api, Client(api.url) as client:
        client.start("ramped", "to be ramped")
        for unit in (*WARM, *COLD):
            (given,) = client.assignments(unit, experiment="ramped")
            first[unit] = given.arm
        # The database alone knows what these met: nobody asked for them since.
        client.send(exposure(unit, first[unit]) for unit in COLD)
        with command(lab, "ingest"):
            wait_for(lambda: exposed(lab, COLD) == len(COLD))
        for unit in WARM:
            client.recommend(unit, experiment="ramped")
        client.ramp("ramped", 1.0, "new weights", {"popularity": 1, "covisitation": 3})
        yield Ramped(postgresql_server, lab, api, client, first)


def exposure(unit: str, arm: str) -> Exposure:
    now = time.time_ns() // 1_000_000
    identity = exposure_identity(now, "live", unit, "ramped", arm)
    return Exposure(identity, "live", now, unit, "ramped", 0, 0, arm, "elsewhere")


def exposed(lab: Lab, units: Sequence[str]) -> int:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = connection.scalar(select(func.count()).where(exposures.c.unit_id.in_(units)))
    engine.dispose()
    return found or 0


def mixed(number: int) -> Asked:
    """Make the n-th request of a load of many kinds; units are those in memory, or new."""
    new, warm = f"{time.monotonic_ns()}", WARM[number % len(WARM)]
    asked = {
        0: batch(number, "mixed"),
        1: Asked("GET", f"/v1/assignments/{new}?experiment={NAME}", what=("assigned", new)),
        2: Asked("GET", f"/v1/assignments/{warm}?experiment=ramped", what=("kept", warm)),
        3: Asked("POST", "/v1/recommend", {"unit_id": warm, "experiment": NAME}, ("slate", warm)),
        4: Asked("POST", "/v1/recommend", {"unit_id": new, "experiment": NAME}, ("slate", new)),
    }
    return asked[number % len(asked)]


def ask_cold(ramped: Ramped, units: Sequence[str]) -> list[tuple[AssignmentAnswer, float]]:
    """Ask for units that are not in memory, all at the same time; with the seconds each took."""

    def ask(unit: str) -> tuple[AssignmentAnswer, float]:
        began = time.monotonic()
        (found,) = ramped.client.assignments(unit, experiment="ramped")
        return found, time.monotonic() - began

    with ThreadPoolExecutor(8) as pool:
        return [*pool.map(ask, units)]


@pytest.mark.parametrize("how", ["stopped", "hung"])
def test_units_are_answered_while_the_database_is_away(ramped: Ramped, how: str) -> None:
    server, lab, api, _, first = ramped
    before = stored(lab)
    cold = COLD[: len(COLD) // 2] if how == "stopped" else COLD[len(COLD) // 2 :]
    # One that hangs fails nobody who reads units: they go without an answer when their time is over.
    parts = {"experiments", "units"} if how == "stopped" else {"experiments"}
    go, come = (server.stop, server.start) if how == "stopped" else (server.pause, server.resume)
    with pressure([api.url], mixed, threads=4, pause=0.005) as replies:
        time.sleep(1.0)
        away = time.monotonic()
        go()
        try:
            time.sleep(0.5)
            found = ask_cold(ramped, cold)
            if how == "stopped":
                refused(api)
            wait_for(lambda: amiss(api) >= parts)
            told = httpx.get(f"{api.url}/readyz", trust_env=False)
            if how == "stopped":
                # It is back right after units were asked for in vain, so that they are not asked for yet.
                failed = failures(api)
                wait_for(lambda: failures(api) > failed)
        finally:
            back = time.monotonic()
            come()
        there = time.monotonic()
        wait_for(lambda: httpx.get(f"{api.url}/readyz", trust_env=False).json()["status"] == "ok")
        ready_after = time.monotonic() - there
    during = [one for one in replies if away < one.sent < back]
    print(f"{how}, while it was away for {back - away:.1f} s: {figures(during)}")
    print(f"in all: {figures(replies)}; ready after {ready_after:.1f} s")
    print(f"not in memory: worst {1000 * max(took for _, took in found):.0f} ms")
    assert (told.status_code, told.json()["status"]) == (200, "degraded")
    for part in (told.text, "".join(api.log)):
        assert "secret" not in part
    assert {one.status for one in replies} == {200, 202}
    assert max(one.seconds for one in during) < 2 * BUDGET_MS / 1000 + SLACK
    assert max(took for _, took in found) < BUDGET_MS / 1000 + SLACK
    check_arms(ramped, replies)
    check_cold(ramped, found)
    again = ask_cold(ramped, cold)
    assert {one.unit_id: (one.arm, one.rule) for one, _ in again} == {
        unit: (first[unit], "stored") for unit in cold
    }
    with command(lab, "ingest"):  # the one before may have ended with the database
        check_stored(lab, [one for one in replies if one.status == 202], before)


def amiss(api: Answering) -> set[str]:
    """Ask which parts are amiss."""
    reasons: Sequence[str] = httpx.get(f"{api.url}/readyz", trust_env=False).json()["reasons"]
    return {reason.partition(":")[0] for reason in reasons}


def failures(api: Answering) -> int:
    """Count how often units were asked for in vain."""
    return sum("units cannot be read" in line for line in api.log)


def refused(api: Answering) -> None:
    """Ask for what nobody can do without the database."""
    for path, body in (
        ("/v1/items", {"items": [{"item_id": "v1"}]}),
        ("/v1/experiments/ramped/ramp", {"traffic": 0.5}),
        ("/v1/experiments/ramped/start", {}),
    ):
        answer = httpx.post(api.url + path, json=body, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), answer.text


def split_of(lab: Lab, name: str) -> Split:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = find(connection, name)
    engine.dispose()
    assert found is not None
    return found.split(lab)


def check_arms(ramped: Ramped, replies: Sequence[Reply]) -> None:
    """Check that units got the splitter's arm, and those that met one before the ramp kept it."""
    split, kinds = split_of(ramped.lab, NAME), Counter[str]()
    for one in replies:
        if one.status != 200:
            continue
        kind, unit = one.what
        kinds[kind] += 1
        if kind == "slate":
            assert (one.body["arm"], one.body["exposed"]) == (assign(split, 0, unit).arm, True)
            assert one.body["items"]
            continue
        (answer,) = one.body["assignments"]
        if kind == "assigned":
            assert (answer["arm"], answer["rule"]) == (assign(split, 0, unit).arm, "range")
        else:
            assert (answer["arm"], answer["rule"]) == (ramped.first[unit], "stored")
    assert set(kinds) == {"assigned", "kept", "slate"}


def check_cold(ramped: Ramped, found: Sequence[tuple[AssignmentAnswer, float]]) -> None:
    """Check that nobody was given an arm that may not be its own."""
    split, rules = split_of(ramped.lab, "ramped"), Counter[str]()
    for one, _ in found:
        drawn = assign(split, 1, one.unit_id)
        if drawn.arm == ramped.first[one.unit_id]:
            assert (one.arm, one.exposed, one.rule) == (drawn.arm, True, "range")
        else:
            assert (one.arm, one.exposed, one.rule) == ("popularity", False, "unknown")
        rules[one.rule] += 1
    assert set(rules) == {"range", "unknown"}, rules
