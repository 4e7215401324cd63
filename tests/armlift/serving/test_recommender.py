"""The recommender over HTTP: budgets, fallbacks and their exposures, versions and items that change."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from databases import free_port
from nightly_lab import change
from pressure import Asked, figures, pressure
from serving_lab import (
    NAME,
    Answering,
    Api,
    begin,
    command,
    make_lab,
    promote_newer,
    serving,
    size_of,
    wait_for,
)
from sqlalchemy import select

from armlift import running
from armlift.api.models import RecommendAnswer
from armlift.client import ApiError, Client
from armlift.lab import Lab
from armlift.store.database import open_database, writing
from armlift.store.tables import exposures

BUDGET_MS = 600
SLACK = 0.6
"""Seconds that a test's machine may take beside."""
FILTERS = """
filters:
  - {name: adults_only, hide: 'rated == "18+"', units: age < 18}
caps: {author: 2}
hidden: ["0001"]
"""


class Endpoint:
    """A recommender of somebody's own: it takes `delay` seconds, or answers with `status`."""

    def __init__(self) -> None:
        self.delay, self.status, self.asked = 0.0, 200, 0
        self.items: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                endpoint.asked += len(body["requests"])
                time.sleep(endpoint.delay)
                raw = json.dumps({"slates": [endpoint.slate(one) for one in body["requests"]]}).encode()
                self.send_response(endpoint.status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def slate(self, request: dict[str, Any]) -> dict[str, Any]:
        seen = {one["item"] for one in request["history"]}
        items = [one for one in self.items if one not in seen][: request["k"]]
        return {"request_id": request["request_id"], "items": items, "scores": [1.0] * len(items)}


class World(NamedTuple):
    """A lab whose arm `remote` asks an endpoint of the test's, served, with an ingester beside."""

    api: Api
    endpoint: Endpoint


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Endpoint]]:
    endpoint = Endpoint()
    threading.Thread(target=endpoint.server.serve_forever, daemon=True).start()
    lab = make_lab(
        tmp_path_factory.mktemp("recommender") / "lab", ("popularity", "remote"),
        users=60, serve={"budget_ms": BUDGET_MS},
    )  # fmt: skip
    remote = lab.folder / "arms" / "remote.yaml"
    change(remote, {"timeout": 30, "retries": 0, "pause": 0})
    remote.write_text(remote.read_text().replace("http://127.0.0.1:8900/recommend", endpoint.url))
    (lab.folder / "serving.yaml").write_text(FILTERS)
    lab = Lab(lab.folder)
    engine = open_database(lab, create=True)
    begin(lab, engine, size_of(60, 1))
    written = (lab.folder / "experiments" / f"{NAME}.yaml").read_text()
    unready = written.replace(f"name: {NAME}", "name: unready\nlayer: {name: other}")
    (lab.folder / "experiments" / "unready.yaml").write_text(unready.replace("remote", "sasrec"))
    with writing(engine) as connection:
        running.start(connection, lab, "unready", reason="too early", by="me", at=now())
    engine.dispose()
    yield lab, endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.fixture(scope="module")
def served(lab: tuple[Lab, Endpoint]) -> Iterator[World]:
    engine = open_database(lab[0])
    with command(lab[0], "ingest"), serving(lab[0]) as api, Client(api.url) as client:
        wait_for(lambda: told(api)["reasons"][:1] != ["experiments were not read yet"])
        found = client.recommend("anybody", experiment=NAME, force="popularity", k=100)
        lab[1].items = [one.item_id for one in reversed(found.items)]
        yield World(Api(lab[0], engine, api, client), lab[1])
    engine.dispose()


@pytest.fixture
def world(served: World) -> Iterator[World]:
    served.endpoint.delay, served.endpoint.status = 0.0, 200
    yield served
    served.endpoint.delay, served.endpoint.status = 0.0, 200


def now() -> int:
    return time.time_ns() // 1_000_000


def told(api: Answering) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{api.url}/readyz", trust_env=False).json()
    return found


def unit_of(client: Client, arm: str, prefix: str, experiment: str = NAME) -> str:
    """Give a unit whose arm it is."""
    return next(
        f"{prefix}{number}" for number in range(1_000)
        if client.assignments(f"{prefix}{number}", experiment=experiment)[0].arm == arm
    )  # fmt: skip


def timed(client: Client, unit: str, **more: Any) -> tuple[RecommendAnswer, float]:
    began = time.monotonic()
    return client.recommend(unit, **{"experiment": NAME, **more}), time.monotonic() - began


def kept(world: World, unit: str) -> list[tuple[str, bool]]:
    """Give the arm and `fallback` of a unit's exposures, in their order."""
    e = exposures.c
    with world.api.engine.connect() as connection:
        found = connection.execute(select(e.arm, e.fallback).where(e.unit_id == unit).order_by(e.ts))
        return [(row.arm, row.fallback) for row in found]


def test_a_slow_arm_is_answered_for_within_the_budget(world: World) -> None:
    client = world.api.client
    unit, other = (unit_of(client, "remote", name) for name in ("early", "late"))
    answer, _ = timed(client, unit)
    assert (answer.arm, answer.fallback) == ("remote", None)
    assert [one.item_id for one in answer.items] == world.endpoint.items[:10]
    world.endpoint.delay = 2 * BUDGET_MS / 1_000
    for one in (unit, other):
        late, took = timed(client, one)
        assert (late.arm, late.fallback, late.exposed) == ("remote", "timeout", True)
        assert late.arm_version == answer.arm_version, "the fallback answers in the arm's name"
        assert late.exposure is not None, "also of a unit that was exposed already"
        assert late.items
        assert took < BUDGET_MS / 1_000 + SLACK
    wait_for(lambda: kept(world, unit) == [("remote", False), ("remote", True)])
    wait_for(lambda: kept(world, other) == [("remote", True)])
    world.endpoint.delay = 0.0
    wait_for(lambda: client.recommend(unit, experiment=NAME).fallback is None)


def test_what_others_wait_for_holds_up_no_other_arm(world: World) -> None:
    client = world.api.client
    slow = [unit_of(client, "remote", f"wait{number}-") for number in range(6)]
    quick = unit_of(client, "popularity", "quick")
    client.recommend(quick, experiment=NAME)
    world.endpoint.delay = 2.0
    body = {"experiment": NAME}
    with pressure(
        [world.api.answering.url],
        lambda number: Asked("POST", "/v1/recommend", {**body, "unit_id": slow[number % 6]}),
    ) as replies:
        time.sleep(0.2)
        for _ in range(10):
            answer, took = timed(client, quick)
            assert (answer.fallback, took < 0.4) == (None, True)
            time.sleep(0.05)
    print(f"a slow arm: {figures(replies)}")
    assert {(one.status, one.body["fallback"]) for one in replies} == {(200, "timeout")}
    assert max(one.seconds for one in replies) < BUDGET_MS / 1_000 + SLACK


def test_an_endpoint_that_fails_is_the_arms_own_fallback(world: World) -> None:
    unit = unit_of(world.api.client, "remote", "own")
    wait_for(lambda: world.api.client.recommend(f"{unit}x", experiment=NAME, force="remote").fallback is None)
    world.endpoint.status = 500
    answer, _ = timed(world.api.client, unit)
    assert (answer.fallback, answer.exposure is not None) == ("arm", True)
    wait_for(lambda: kept(world, unit) == [("remote", True)])


def test_an_arm_without_a_version_is_answered_for(world: World) -> None:
    unit = unit_of(world.api.client, "sasrec", "unready", "unready")
    answer, took = timed(world.api.client, unit, experiment="unready")
    assert (answer.arm, answer.fallback, answer.arm_version) == ("sasrec", "failed", "none")
    assert took < BUDGET_MS / 1_000 + SLACK
    assert any("arm sasrec: has no promoted version" in one for one in told(world.api.answering)["reasons"])


def test_arms_that_are_killed_are_answered_for_and_begun_anew(world: World) -> None:
    unit = unit_of(world.api.client, "popularity", "killed")
    assert world.api.client.recommend(unit, experiment=NAME).fallback is None
    (arms,) = [
        one for one in psutil.Process(world.api.answering.process.pid).children()
        if "spawn_main" in " ".join(one.cmdline())
    ]  # fmt: skip
    body = {"unit_id": unit, "experiment": NAME}
    with pressure([world.api.answering.url], lambda _: Asked("POST", "/v1/recommend", body)) as replies:
        time.sleep(0.3)
        arms.kill()
        began = time.monotonic()
        wait_for(lambda: bool(replies) and replies[-1].body["fallback"] is not None)
        wait_for(lambda: replies[-1].body["fallback"] is None, 30)
        took = time.monotonic() - began
        time.sleep(0.3)
    print(f"arms killed: back after {took:.1f} s; {figures(replies)}")
    assert {one.status for one in replies} == {200}
    assert {one.body["fallback"] for one in replies} == {None, "failed"}
    assert took < 15


def test_a_version_that_is_promoted_takes_the_others_place_without_an_error(world: World) -> None:
    lab, engine = world.api.lab, world.api.engine
    unit = unit_of(world.api.client, "popularity", "newer")
    before = world.api.client.recommend(unit, experiment=NAME).arm_version
    newer = promote_newer(lab, engine, world.endpoint.items)
    began = time.monotonic()
    body = {"unit_id": unit, "experiment": NAME}
    ask = Asked("POST", "/v1/recommend", body)
    with pressure([world.api.answering.url], lambda _: ask, threads=2) as replies:
        wait_for(lambda: bool(replies) and replies[-1].body["arm_version"] == newer)
        took = time.monotonic() - began
        time.sleep(0.3)
    print(f"a new version answers after {took:.1f} s: {figures(replies)}")
    versions = [one.body["arm_version"] for one in sorted(replies, key=lambda one: one.sent)]
    assert {one.status for one in replies} == {200}
    assert {one.body["fallback"] for one in replies} == {None}
    assert set(versions) == {before, newer}
    assert took < 8
    items = [one["item_id"] for one in replies[-1].body["items"]]
    assert items == world.endpoint.items[:10], "it was fitted on these"


def test_items_and_filters_change_slates_soon(world: World) -> None:
    client, url = world.api.client, world.api.answering.url
    unit = unit_of(client, "popularity", "filtered")

    def slate(**context: int) -> list[str]:
        answer = client.recommend(unit, experiment=NAME, k=8, context=context)
        assert answer.fallback is None
        return [one.item_id for one in answer.items]

    first = slate()
    assert (len(first), "0001" in first) == (8, False), "one is hidden in serving.yaml"

    def tell(*rows: dict[str, Any]) -> float:
        answer = httpx.post(f"{url}/v1/items", json={"items": rows}, trust_env=False)
        assert (answer.status_code, answer.json()) == (200, {"accepted": len(rows)})
        return time.monotonic()

    at = tell({"item_id": first[0], "available": False})
    wait_for(lambda: first[0] not in slate())
    print(f"an item was gone after {time.monotonic() - at:.2f} s")
    assert time.monotonic() - at < 2
    assert slate()[:7] == first[1:], "the others move up, and one more comes"
    tell({"item_id": first[1], "attributes": {"rated": "18+"}})
    wait_for(lambda: first[1] not in slate(age=17))
    assert first[1] in slate(age=18)
    tell(*({"item_id": one, "attributes": {"author": "a"}} for one in first[2:6]))
    wait_for(lambda: len({*first[2:6]} & {*slate()}) == 2)
    tell(*({"item_id": one} for one in first))
    wait_for(lambda: slate() == first)


def test_requests_in_flight_are_answered_by_their_arms_when_it_is_told_to_end(
    lab: tuple[Lab, Endpoint], world: World
) -> None:
    """SIGTERM to every process, as systemd sends it."""
    units = [unit_of(world.api.client, "remote", f"flight{number}-") for number in range(8)]
    endpoint = world.endpoint
    with serving(lab[0]) as api, Client(api.url) as client, ThreadPoolExecutor(len(units)) as pool:
        wait_for(lambda: client.recommend("ready", experiment=NAME, force="remote").fallback is None)
        endpoint.delay, before = BUDGET_MS / 5_000, endpoint.asked
        answers = [pool.submit(client.recommend, unit, experiment=NAME) for unit in units]
        wait_for(lambda: endpoint.asked > before)
        for one in (*psutil.Process(api.process.pid).children(), psutil.Process(api.process.pid)):
            one.terminate()
        assert api.process.wait(30) == 0
        found = [one.result() for one in answers]
    assert {one.arm for one in found} == {"remote"}
    assert [one.fallback for one in found] == [None] * len(units)
    assert all(one.exposure for one in found)
    for unit in units:
        wait_for(lambda unit=unit: kept(world, unit) == [("remote", False)])  # type: ignore[misc]


def test_where_no_exposure_can_be_kept_the_default_arm_answers_unexposed(lab: tuple[Lab, Endpoint]) -> None:
    """The stream is away and the spill is full."""
    nowhere = f"kafka://127.0.0.1:{free_port()}/nothing"
    folder = lab[0].folder
    with serving(Lab(folder), "--stream", nowhere) as api, Client(api.url) as client:
        unit = unit_of(client, "remote", "full")
        answer = client.recommend(unit, experiment=NAME)
        assert answer.exposure is not None, "kept on disk"
        (own,) = [one for one in (folder / "spill").iterdir() if one.name.startswith(f"{api.process.pid}-")]
        shutil.rmtree(own)
        own.touch()
        full = client.recommend(f"{unit}x", experiment=NAME)
        assert (full.arm, full.exposed, full.rule, full.exposure) == ("popularity", False, "not_kept", None)
        click = {
            "type": "feedback",
            "request_id": full.request_id,
            "unit_id": "u",
            "item_id": "v",
            "kind": "click",
        }
        refused = httpx.post(f"{api.url}/v1/events", json={"events": [click]}, trust_env=False)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "full")
        assert refused.headers["retry-after"] == "5"
        with pytest.raises(ApiError, match="must be one of"):
            client.recommend(unit, experiment=NAME, force="nothing")
        own.unlink()
