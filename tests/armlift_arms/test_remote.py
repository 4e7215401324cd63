"""The arm behind an endpoint: a real server that answers rightly, wrongly, late or not at all."""

import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from armlift.arm import Behaviour, Exploration, History, ItemTable, Request, Slate
from armlift_arms.popularity import Popularity, PopularityConfig
from armlift_arms.remote import Remote, RemoteConfig
from armlift_arms.remote_wire import Reason, accept, read_batch, write_batch

DAY = 86_400_000
TABLE = ItemTable([f"item{number:02}" for number in range(20)])
HISTORIES = [
    History(f"unit{unit}", [Behaviour(TABLE.ids[number], "click", 1.0, unit) for number in range(unit)])
    for unit in range(12)
]
ASKED = [
    Request(f"{number:032x}", history.unit, 30, 5, history.behaviours)
    for number, history in enumerate(HISTORIES)
]

Json = dict[str, Any]
Respond = Callable[["Handler", Json], None]


class Server(ThreadingHTTPServer):
    """An endpoint on a free port; `respond` writes answers, `bodies` and `heads` hold what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond: Respond = answer_all
        self.bodies: list[Json] = []
        self.heads: list[dict[str, str]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/recommend"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        self.server.respond(self, body)

    def reply(self, body: bytes, status: int = 200, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def ranked(request: Json, **changes: object) -> Json:
    """Rank backwards by id, as popularity would not: the candidates, or what is not in the history."""
    met = {behaviour["item"] for behaviour in request["history"]}
    pool = request["candidates"] if request["candidates"] is not None else set(TABLE.ids) - met
    items = sorted(pool, reverse=True)[: request["k"]]
    scores = [-place / 8 for place in range(len(items))]
    return {"request_id": request["request_id"], "items": items, "scores": scores} | changes


def answer_all(handler: Handler, body: Json) -> None:
    handler.reply(json.dumps({"slates": [ranked(request) for request in body["requests"]]}).encode())


def answer_each(change: Callable[[Json], Json]) -> Respond:
    """Answer with slates to which something was done."""

    def respond(handler: Handler, body: Json) -> None:
        slates = [change(ranked(request)) for request in body["requests"]]
        handler.reply(json.dumps({"slates": slates}).encode())

    return respond


def keep_silent(handler: Handler, body: Json) -> None:
    handler.server.ended.wait(5)
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.ended.set()
        one.shutdown()
        thread.join()


@pytest.fixture
def closed_url() -> str:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/recommend"


def remote(url: str, clock: Callable[[], float] = time.monotonic, **changes: object) -> Remote:
    definition = {"name": "mine", "model": "remote", "url": url, "timeout": 5} | changes
    config = RemoteConfig.model_validate(definition)
    arm = Remote(config, clock=clock)
    arm.fit(HISTORIES, TABLE, until=DAY)
    return arm


def popular(requests: list[Request], exploration: Exploration | None = None) -> list[Slate]:
    """Give what the fallback is to answer."""
    arm = Popularity(PopularityConfig(name="p", model="popularity", exploration=exploration))
    arm.fit(HISTORIES, TABLE, until=DAY)
    return [slate._replace(fallback=True) for slate in arm.recommend(requests)]


def test_an_answer_in_time_is_the_slate(server: Server) -> None:
    arm = remote(server.url)
    slates = arm.recommend(ASKED)
    assert [slate.items for slate in slates] == [["item19", "item18", "item17", "item16", "item15"]] * 12
    assert slates[0] == Slate(slates[0].items, [0, -1 / 8, -2 / 8, -3 / 8, -4 / 8], [0] * 5, [None] * 5)
    assert arm.fallbacks == {}
    assert len(server.bodies) == 1


def test_what_is_sent(server: Server) -> None:
    arm = remote(server.url, seed=7)
    asked = Request(
        "0" * 32,
        "unit1",
        30,
        5,
        [Behaviour("item01", "click", 1.0, 3)],
        ["item09", "item04", "item09"],
        context={"hour": 3},
        attributes={"age": float("nan"), "since": Path("x")},
    )
    assert arm.recommend([asked])[0].items == ["item09", "item04"]
    assert server.bodies == [
        {
            "schema": 1,
            "arm": "mine",
            "seed": 7,
            "requests": [
                {
                    "request_id": "0" * 32,
                    "unit": "unit1",
                    "ts": 30,
                    "k": 5,
                    "history": [{"item": "item01", "kind": "click", "value": 1.0, "ts": 3}],
                    "candidates": ["item04", "item09"],
                    "context": {"hour": 3},
                    "attributes": {"age": None, "since": "x"},
                }
            ],
        }
    ]
    assert server.heads[0]["content-type"] == "application/json"


def test_batches_and_their_order_change_nothing(server: Server) -> None:
    together = remote(server.url).recommend(ASKED)
    arm = remote(server.url, batch=5)
    assert arm.recommend(ASKED) == together
    assert [len(body["requests"]) for body in server.bodies] == [12, 5, 5, 2]
    assert arm.recommend(ASKED[::-1]) == together[::-1]
    assert arm.recommend([]) == []


def test_headers_come_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arm = remote(server.url, headers={"Authorization": "RANKER_TOKEN"})
    for value in (None, "", "two\nlines", "gehäm"):
        if value is not None:
            monkeypatch.setenv("RANKER_TOKEN", value)
        assert arm.recommend(ASKED[:1]) == popular(ASKED[:1])
    assert server.heads == []
    assert arm.fallbacks == {"headers": 4}
    assert "headers.Authorization: RANKER_TOKEN must be set" in caplog.text
    assert "lines" not in caplog.text
    monkeypatch.setenv("RANKER_TOKEN", "Bearer s3cret\n")
    assert not arm.recommend(ASKED[:1])[0].fallback
    assert server.heads[0]["authorization"] == "Bearer s3cret"


def test_propensities_are_those_of_the_endpoint(server: Server) -> None:
    server.respond = answer_each(lambda slate: slate | {"propensities": [0.5, 1, None, 0.25, 1e-9]})
    assert remote(server.url).recommend(ASKED[:1])[0].propensities == [0.5, 1.0, None, 0.25, 1e-9]


SHORT = {"items": ["item19"], "scores": [1]}
BAD_SLATES = {
    "no list": ("shape", lambda slate: None),
    "no scores": ("shape", lambda slate: {"items": slate["items"], "request_id": slate["request_id"]}),
    "numbers for items": ("shape", lambda slate: slate | {"items": [1, 2, 3, 4, 5]}),
    "one score less": ("shape", lambda slate: slate | {"scores": slate["scores"][1:]}),
    "one propensity less": ("shape", lambda slate: slate | {"propensities": [1.0] * 4}),
    "another request": ("shape", lambda slate: slate | {"request_id": "f" * 32}),
    "more than k": ("too_many", lambda slate: slate | {"items": TABLE.ids[12:18], "scores": [1.0] * 6}),
    "nothing": ("too_few", lambda slate: slate | {"items": [], "scores": []}),
    "an item twice": ("duplicate", lambda slate: slate | {"items": ["item19"] * 5}),
    "an item that was met": ("seen", lambda slate: slate | SHORT | {"items": ["item00"]}),
    "an item of no catalogue": ("unknown", lambda slate: slate | SHORT | {"items": ["new"]}),
    "NaN": ("score", lambda slate: slate | {"scores": [float("nan")] * 5}),
    "infinity": ("score", lambda slate: slate | {"scores": [float("inf")] * 5}),
    "an impossible item": ("propensity", lambda slate: slate | {"propensities": [1, 1, 0, 1, 1]}),
    "more than certain": ("propensity", lambda slate: slate | {"propensities": [1, 1, 1, 1, 1.5]}),
}


@pytest.mark.parametrize(("reason", "change"), BAD_SLATES.values(), ids=BAD_SLATES)
def test_a_bad_slate_costs_its_own_request_alone(
    server: Server, reason: str, change: Callable[[Json], Json]
) -> None:
    def spoil(slate: Json) -> Json:
        return change(slate) if slate["request_id"] == ASKED[3].request_id else slate

    right = remote(server.url).recommend(ASKED)
    server.respond = answer_each(spoil)
    arm = remote(server.url)
    slates = arm.recommend(ASKED)
    assert slates[3] == popular(ASKED)[3]
    assert slates[:3] + slates[4:] == right[:3] + right[4:]
    assert arm.fallbacks == {reason: 1}
    assert len(arm.recommend(ASKED)) == 12  # a bad answer is an answer: the endpoint is asked again
    assert arm.fallbacks == {reason: 2}


def test_a_short_slate_is_one(server: Server) -> None:
    server.respond = answer_each(lambda slate: slate | SHORT)
    assert remote(server.url).recommend(ASKED[:1]) == [Slate(["item19"], [1.0], [0], [None])]


def test_all_candidates_must_be_placed(server: Server) -> None:
    asked = ASKED[3]._replace(candidates=["item00", "item01", "new"])
    arm = remote(server.url)
    assert arm.recommend([asked])[0].items == ["new", "item01", "item00"]
    for items, reason in ((["new", "item01"], "too_few"), (["new", "item01", "item02"], "unknown")):
        server.respond = answer_each(
            lambda slate, items=items: slate | {"items": items, "scores": [1] * len(items)}  # type: ignore[misc]
        )
        assert arm.recommend([asked]) == popular([asked])
        assert arm.fallbacks[reason] == 1  # type: ignore[index]


BAD_ANSWERS: dict[str, tuple[str, bytes, int]] = {
    "not JSON": ("unreadable", b"<html>", 200),
    "not UTF-8": ("unreadable", b'"\xff"', 200),
    "nested without end": ("unreadable", b"[" * 100_000, 200),
    "no object": ("unreadable", b"[]", 200),
    "no slates": ("unreadable", b'{"slates": {}}', 200),
    "too few slates": ("unreadable", b'{"slates": []}', 200),
    "server error": ("status", b'{"slates": []}', 500),
    "moved": ("status", b"", 307),
}


@pytest.mark.parametrize(("reason", "body", "status"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_costs_its_batch(server: Server, reason: str, body: bytes, status: int) -> None:
    server.respond = lambda handler, _: handler.reply(body, status)
    arm = remote(server.url, batch=8)
    assert arm.recommend(ASKED) == popular(ASKED)
    assert arm.fallbacks == {reason: 12}
    assert len(server.bodies) == 2


def test_what_cannot_be_written_costs_its_batch(server: Server) -> None:
    asked = ASKED[0]._replace(attributes={"name": "\ud800"})
    arm = remote(server.url, batch=1)
    assert arm.recommend([asked, ASKED[1]])[0] == popular([asked])[0]
    assert arm.fallbacks == {"unsendable": 1}


def test_a_dead_endpoint_costs_one_timeout_a_pause(server: Server) -> None:
    server.respond = keep_silent
    arm = remote(server.url, timeout=0.2, batch=1)
    began = time.monotonic()
    assert arm.recommend(ASKED) == popular(ASKED)
    assert 0.2 <= time.monotonic() - began < 1.2
    assert arm.fallbacks == {"timeout": 1, "paused": 11}
    assert len(server.bodies) == 1


def test_after_the_pause_it_is_asked_again(server: Server, closed_url: str) -> None:
    now = 100.0
    arm = remote(closed_url, clock=lambda: now, pause=5.0)
    arm.recommend(ASKED[:1])
    now = 104.9
    arm.recommend(ASKED[:1])
    assert arm.fallbacks == {"unreachable": 1, "paused": 1}
    now = 105.1
    arm.recommend(ASKED[:1])
    arm.recommend(ASKED[:1])
    assert arm.fallbacks == {"unreachable": 2, "paused": 2}
    now = 110.2
    server_arm = remote(server.url, clock=lambda: now, pause=5.0, timeout=0.2)
    server.respond = keep_silent
    # The clock stands still: httpx's own wait ends the try.
    server_arm.recommend(ASKED[:1])
    server.respond = answer_all
    now = 116.0
    assert [slate.fallback for slate in server_arm.recommend(ASKED[:2])] == [False, False]
    assert [slate.fallback for slate in server_arm.recommend(ASKED[:2])] == [False, False]
    assert server_arm.fallbacks == {"timeout": 1}


def test_one_caller_tries_again_while_others_fall_back(server: Server, closed_url: str) -> None:
    now = 0.0
    arm = remote(server.url, clock=lambda: now, pause=5.0, timeout=0.3, batch=1)
    server.respond = keep_silent
    arm.recommend(ASKED[:1])
    now = 6.0
    with ThreadPoolExecutor(4) as pool:
        slates = list(pool.map(lambda request: arm.recommend([request])[0], ASKED[:8]))
    assert slates == popular(ASKED[:8])
    assert arm.fallbacks == {"timeout": 2, "paused": 7}
    assert len(server.bodies) == 2


def test_without_a_pause_it_is_asked_each_time(closed_url: str) -> None:
    arm = remote(closed_url, pause=0, batch=1)
    began = time.monotonic()
    assert arm.recommend(ASKED) == popular(ASKED)
    assert time.monotonic() - began < 1
    assert arm.fallbacks == {"unreachable": 12}


def test_the_timeout_is_for_the_whole_answer(server: Server) -> None:
    """An endpoint that sends a byte now and then would keep a wait for each byte alone for ever."""

    def drip(handler: Handler, body: Json) -> None:
        handler.reply(b"", length=1000)
        while not handler.server.ended.wait(0.05):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    server.respond = drip
    arm = remote(server.url, timeout=0.3)
    began = time.monotonic()
    assert arm.recommend(ASKED) == popular(ASKED)
    assert time.monotonic() - began < 2
    assert arm.fallbacks == {"timeout": 12}


def test_the_timeout_is_for_all_tries(server: Server) -> None:
    def hang_up(handler: Handler, body: Json) -> None:
        handler.server.ended.wait(0.1)
        handler.close_connection = True

    server.respond = hang_up
    arm = remote(server.url, timeout=0.25, retries=10, pause=0)
    began = time.monotonic()
    assert arm.recommend(ASKED[:1]) == popular(ASKED[:1])
    assert 0.2 < time.monotonic() - began < 1
    assert 1 <= len(server.bodies) <= 3
    assert set(arm.fallbacks) == {"timeout"}


def test_a_connection_that_broke_is_tried_again(server: Server) -> None:
    def hang_up_once(handler: Handler, body: Json) -> None:
        server.respond = answer_all
        handler.close_connection = True

    server.respond = hang_up_once
    assert not remote(server.url).recommend(ASKED[:1])[0].fallback
    server.respond = hang_up_once
    arm = remote(server.url, retries=0)
    assert arm.recommend(ASKED[:1]) == popular(ASKED[:1])
    assert arm.fallbacks == {"unreachable": 1}


def test_a_reason_is_told_once(closed_url: str, caplog: pytest.LogCaptureFixture) -> None:
    arm = remote(closed_url, pause=0)
    for _ in range(3):
        arm.recommend(ASKED)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"arm mine: popularity answers for {closed_url}: no connection" in record.getMessage()
    assert "unreachable" in record.getMessage()


EXPLORATIONS = [
    Exploration(kind="epsilon", epsilon=0.5, slots=2),
    Exploration(kind="plackett_luce", temperature=0.5),
]


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=repr)
def test_the_arm_explores_what_the_endpoint_ranks(server: Server, exploration: Exploration) -> None:
    arm = remote(server.url, exploration=exploration, depth=7)
    asked = [ASKED[0]._replace(request_id=f"{number:032x}") for number in range(60)]
    slates = arm.recommend(asked)
    assert {request["k"] for body in server.bodies for request in body["requests"]} == {7}
    shown = {item for slate in slates for item in slate.items}
    assert shown == set(TABLE.ids[13:])
    assert all(propensity and propensity < 1 for slate in slates for propensity in slate.propensities[3:])
    assert arm.recommend(asked[::-1]) == slates[::-1]
    server.respond = answer_each(lambda slate: slate | {"propensities": [0.5] * 7})
    assert arm.recommend(asked) == popular(asked, exploration)
    assert arm.fallbacks == {"propensity": 60}


def test_saved_and_loaded_it_answers_and_falls_back_alike(server: Server, tmp_path: Path) -> None:
    arm = remote(server.url, pause=0)
    arm.save(tmp_path)
    loaded = Remote.load(tmp_path)
    assert (loaded.config, loaded.version) == (arm.config, arm.version)
    assert loaded.recommend(ASKED) == arm.recommend(ASKED)
    server.respond = lambda handler, _: handler.reply(b"", 503)
    assert loaded.recommend(ASKED) == arm.recommend(ASKED) == popular(ASKED)
    assert loaded.fallbacks == {"status": 12}


def test_the_documents_show_the_wire_format(root: Path) -> None:
    whole = (root / "docs" / "definitions.md").read_text(encoding="utf-8")
    text = whole.partition("### A recommender behind HTTP")[2].partition("\n## ")[0]
    sent, answered = (part.removeprefix("json\n") for part in text.split("```") if part.startswith("json\n"))
    (told,) = json.loads(sent)["requests"]
    asked = Request(**told | {"history": [Behaviour(**behaviour) for behaviour in told["history"]]})
    assert json.loads(write_batch("ranker", 0, [asked])) == json.loads(sent)
    (slate,) = read_batch(answered.encode(), 1)
    assert accept(slate, asked, {}, certain=False).items == ["v9", "v3"]
    assert set(get_args(Reason)) == set(re.findall(r"`([a-z_]+)`\)", text))


def test_httpx_is_loaded_when_an_endpoint_is_asked() -> None:
    code = "import sys, armlift_arms.remote; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_another_url_is_another_version(server: Server, closed_url: str) -> None:
    assert remote(server.url).version != remote(closed_url).version


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80/x",
        "ftp://host/x",
        "http:///x",
        "http://a..b/x",
        "http://host:0/",
        "http://host:99999/",
        "http://a host/",
        "http://host/\n",
        "http://[::1/",
    ],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="is no endpoint, must be http://HOST:PORT/PATH or https://"):
        remote(url)


def test_a_secret_is_refused() -> None:
    with pytest.raises(ValidationError, match="must hold no user and password, name them under headers"):
        remote("https://user:secret@host:0/")
    with pytest.raises(ValidationError, match="headers"):
        remote("https://host/", headers={"Authorization": "Bearer secret"})


def test_endpoints_of_other_forms_are_accepted() -> None:
    for url in ("https://[::1]:80/x", "http://host/a@b", "https://bücher.example/?v=3"):
        assert remote(url).config.url == url
