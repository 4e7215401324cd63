"""Guards: who and what is let in, and that every answer, of whatever kind, is as safe as the others."""

import asyncio
import json
import logging
import re
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine
from starlette.types import Message, Receive, Scope, Send

from armlift import keys
from armlift.api.guards import SECURITY_HEADERS, Guards
from armlift.keys import KeyRing
from armlift.settings import ServeSettings
from armlift.store.database import connect, writing

AT = 1_700_000_000_000
HOSTILE = [
    "",
    "armlift_",
    "' OR '1'='1",
    "armlift_000000000000_' OR 1=1; DROP TABLE api_keys; --",
    "../../../../etc/passwd",
    "%00",
    "x" * 20_000,
    "${jndi:ldap://x}",
]
PATHS = [
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/open/..%2frecommend",
    "/open/%2e%2e/recommend",
    "//recommend",
    "/recommend%00",
    "/recommend/",
    "/recommend;x",
    "/assignments/..%5c..%5cwindows",
    "/items/' OR 1=1 --",
    "/<script>alert(1)</script>",
]


class Said(NamedTuple):
    """What came of a request."""

    status: int
    headers: httpx.Headers
    body: Any


def scopes_of(method: str, path: str) -> str | None:
    """Name what the tests' app needs; all that it does not know needs a key too."""
    if path.startswith("/open"):
        return None
    return "recommend" if (method, path) == ("GET", "/recommend") else "items"


def app(
    settings: ServeSettings, ring: KeyRing | None = None, clock: Callable[[], int] = lambda: AT
) -> FastAPI:
    """Make a small API behind guards."""
    made = FastAPI(openapi_url=None)
    made.add_middleware(Guards, key_ring=ring, scopes_of=scopes_of, settings=settings, clock=clock)

    @made.get("/recommend")
    @made.get("/open")
    def answer(request: Request) -> dict[str, Any]:
        key = request.state.key
        return {"key": key.name if key else None}

    @made.post("/items")
    @made.post("/open/items")
    async def take(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @made.post("/open/json")
    def read(body: dict[str, str]) -> int:
        return len(body)

    @made.post("/open/careless")
    async def careless(request: Request) -> str:
        try:
            await request.body()
        except Exception:  # noqa: BLE001
            return "all is well"
        return "read"

    @made.post("/open/broken")
    async def broken(request: Request) -> None:
        try:
            raise ValueError(f"secret {await request.body()!r}")
        except ValueError as error:
            raise RuntimeError("hidden text") from error

    @made.get("/open/half")
    async def half() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise RuntimeError("hidden text")

        return StreamingResponse(parts())

    return made


def ask(made: Any, method: str, path: str, **options: Any) -> Said:
    """Send one request to an app."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=made)
        async with httpx.AsyncClient(transport=transport, base_url="http://armlift") as client:
            return await client.request(method, path, **options)

    found = asyncio.run(send())
    try:
        body = found.json()
    except ValueError:
        body = found.text
    return Said(found.status_code, found.headers, body)


def bearer(text: str) -> dict[str, Any]:
    return {"headers": [(b"authorization", f"Bearer {text}".encode())]}


def is_safe(said: Said) -> bool:
    there = [(name.lower(), value) for name, value in said.headers.raw]
    return all(there.count(header) == 1 for header in SECURITY_HEADERS) and "server" not in said.headers


def is_error(said: Said, status: int, code: str) -> bool:
    """Tell whether an answer is an error in our form, and as safe as any."""
    assert (said.status, said.body["error"]["code"]) == (status, code), said
    assert said.body["error"]["message"]
    assert said.headers["content-type"] == "application/json"
    return is_safe(said)


OPEN = ServeSettings()
CLOSED = ServeSettings(require_keys=True)


@pytest.fixture
def engine_on_file(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    shutil.copyfile(sqlite_template, tmp_path / "armlift.db")
    made = connect("sqlite:///armlift.db", tmp_path)
    yield made
    made.dispose()


@pytest.fixture
def shop(engine_on_file: Engine) -> tuple[KeyRing, str]:
    """Give a ring with a key that opens `recommend` until an hour from `AT`, and its text."""
    with writing(engine_on_file) as connection:
        made = keys.create(connection, "shop", ["recommend"], by="ada", at=AT, expires=AT + 3_600_000)
    ring = KeyRing(engine_on_file)
    ring.refresh()
    return ring, made.text


def test_without_keys_everybody_is_let_in_as_nobody(shop: tuple[KeyRing, str]) -> None:
    for options in ({}, bearer(shop[1]), bearer("nonsense")):
        said = ask(app(OPEN), "GET", "/recommend", **options)
        assert (said.status, said.body, is_safe(said)) == (200, {"key": None}, True)


def test_a_key_opens_its_scopes_and_no_others(shop: tuple[KeyRing, str]) -> None:
    made = app(CLOSED, shop[0])
    said = ask(made, "GET", "/recommend", **bearer(shop[1]))
    assert (said.status, said.body, is_safe(said)) == (200, {"key": "shop"}, True)
    assert ask(made, "GET", "/recommend", headers={"authorization": f"bEARER  {shop[1]}"}).status == 200
    said = ask(made, "POST", "/items", content=b"x", **bearer(shop[1]))
    assert is_error(said, 403, "forbidden")
    assert said.body["error"]["message"] == "this key does not open items"
    assert ask(made, "GET", "/open").body == {"key": None}
    assert ask(made, "GET", "/open", **bearer(shop[1])).body == {"key": "shop"}
    # A route that answers HEAD is as closed to it as to GET.
    assert ask(made, "HEAD", "/recommend").status == 401
    assert ask(made, "HEAD", "/recommend", **bearer(shop[1])).status == 405


@pytest.mark.parametrize("text", [*HOSTILE, None])
def test_who_shows_no_valid_key_is_refused(shop: tuple[KeyRing, str], text: str | None) -> None:
    made = app(CLOSED, shop[0])
    for path in ("/recommend", "/nowhere"):
        said = ask(made, "GET", path, **({} if text is None else bearer(text)))
        assert is_error(said, 401, "unauthorized")
        assert said.headers["www-authenticate"] == "Bearer"


def test_a_key_shown_in_another_way_is_none(shop: tuple[KeyRing, str]) -> None:
    ring, text = shop
    made = app(CLOSED, ring)
    shown: list[dict[str, Any]] = [
        {"params": {"key": text}},
        {"headers": {"authorization": text}},
        {"headers": {"authorization": f"Basic {text}"}},
        {"headers": {"authorization": f"Bearer {text}, Bearer {text}"}},
        {"headers": [("authorization", f"Bearer {text}"), ("authorization", "Bearer x")]},
        {"headers": {"x-api-key": text}},
        {"headers": {"authorization": b"Bearer " + b"\xff" * 64}},
    ]
    for options in shown:
        assert is_error(ask(made, "GET", "/recommend", **options), 401, "unauthorized"), options
    late = app(CLOSED, ring, clock=lambda: AT + 3_600_000)
    assert is_error(ask(late, "GET", "/recommend", **bearer(text)), 401, "unauthorized")


@pytest.mark.parametrize("path", PATHS)
def test_strange_paths_lead_nowhere(shop: tuple[KeyRing, str], path: str) -> None:
    said = ask(app(CLOSED, shop[0]), "GET", path)
    assert said.status in (401, 404)
    assert is_safe(said)
    assert "root:" not in str(said.body)
    said = ask(app(OPEN), "GET", path)
    assert said.status in (200, 307, 404, 405)
    assert said.status != 200 or said.body == {"key": None}
    assert is_safe(said)


def test_the_scope_is_that_of_the_route_where_a_proxy_mounts_the_api(shop: tuple[KeyRing, str]) -> None:
    made = app(CLOSED, shop[0])
    made.root_path = "/open"
    assert is_error(ask(made, "GET", "/open/recommend"), 401, "unauthorized")
    assert ask(made, "GET", "/open/recommend", **bearer(shop[1])).body == {"key": "shop"}


def test_keys_need_a_ring() -> None:
    with pytest.raises(ValueError, match="require_keys asks for a key ring"):
        Guards(app(OPEN), key_ring=None, scopes_of=scopes_of, settings=CLOSED)


def test_a_body_is_taken_up_to_its_most() -> None:
    made = app(ServeSettings(most_kilobytes=2))
    assert ask(made, "POST", "/items", content=b"x" * 2048).body == {"bytes": 2048}
    said = ask(made, "POST", "/items", content=b"x" * 2049)
    assert is_error(said, 413, "too_large")
    assert said.body["error"]["message"] == "the body is too large, must be at most 2 KiB"
    assert said.headers["connection"] == "close"
    for length in ("9" * 5000, "999999999999999999999"):
        said = ask(made, "POST", "/items", content=b"x", headers={"content-length": length})
        assert is_error(said, 413, "too_large")


@pytest.mark.parametrize("path", ["/items", "/open/json", "/open/careless", "/open/broken"])
def test_a_body_of_unknown_length_is_cut_off_whatever_the_app_makes_of_it(path: str) -> None:
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 1024

    made = app(ServeSettings(most_kilobytes=2))
    said = ask(made, "POST", path, content=parts(), headers={"content-type": "application/json"})
    assert is_error(said, 413, "too_large")
    assert sent == 3, "no more is read than shows that it is too large"

    async def few() -> AsyncIterator[bytes]:
        yield b'{"a":'
        yield b'"b"}'

    if path != "/open/broken":
        assert ask(made, "POST", path, content=few()).status in (200, 422)


def test_one_key_is_answered_so_many_times_a_second(shop: tuple[KeyRing, str]) -> None:
    made = app(ServeSettings(require_keys=True, requests_per_second=3), shop[0])
    said = [ask(made, "GET", "/recommend", **bearer(shop[1])) for _ in range(12)]
    refused = [one for one in said if one.status != 200]
    assert refused
    assert is_error(refused[0], 429, "too_many_requests")
    assert refused[0].headers["retry-after"] == "1"
    assert sum(one.status == 200 for one in said) >= 3
    time.sleep(1.05)
    assert ask(made, "GET", "/recommend", **bearer(shop[1])).status == 200, "the next second is another"


def test_addresses_and_keys_are_counted_apart(shop: tuple[KeyRing, str]) -> None:
    made = app(ServeSettings(require_keys=True, requests_per_second=2), shop[0])
    while ask(made, "GET", "/recommend").status == 401:
        pass
    assert is_error(ask(made, "GET", "/recommend"), 429, "too_many_requests"), "guessing is slowed too"
    assert ask(made, "GET", "/recommend", **bearer(shop[1])).status == 200


def test_an_exception_is_told_by_an_id_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="armlift.api"):
        said = ask(
            app(OPEN),
            "POST",
            "/open/broken?token=hidden-query",
            content=b"hidden-body",
            headers={"x-header": "hidden-header", "authorization": "Bearer hidden-key"},
        )
    assert is_error(said, 500, "internal")
    assert set(said.body["error"]) == {"code", "message", "id"}
    identity = said.body["error"]["id"]
    assert re.fullmatch("[0-9a-f]{12}", identity)
    assert "Traceback" not in str(said.body)
    (record,) = (one for one in caplog.records if one.name == "armlift.api")
    told = record.getMessage()
    assert told.startswith(
        f"error {identity}: POST '/open/broken': builtins.RuntimeError from builtins.Value"
    )
    assert "in broken" in told, "the log says where"
    assert (record.exc_info, "hidden" in told.replace('"hidden text"', "")) == (None, False)


def test_a_path_cannot_forge_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise OSError("hidden")

    made = Guards(broken, key_ring=None, scopes_of=scopes_of, settings=OPEN)
    assert is_error(ask(made, "GET", "/x%0aerror 0: all is well"), 500, "internal")
    assert "GET '/x\\nerror 0: all is well': builtins.OSError" in caplog.records[-1].getMessage()


def test_headers_of_the_app_stand_but_for_its_server() -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Server", b"own/1.0"), (b"Cache-Control", b"max-age=5"), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    said = ask(Guards(own, key_ring=None, scopes_of=scopes_of, settings=OPEN), "GET", "/")
    assert said.headers.get_list("cache-control") == ["max-age=5"]
    assert (said.headers["x-own"], "server" in said.headers) == ("1", False)
    assert said.headers["x-frame-options"] == "DENY"


def test_a_websocket_is_closed_and_a_lifespan_passes() -> None:
    seen: list[Any] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def send(message: Message) -> None:
        seen.append((message["type"], message.get("code")))

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    made = Guards(inner, key_ring=None, scopes_of=scopes_of, settings=OPEN)
    for kind in ("websocket", "lifespan"):
        asyncio.run(made({"type": kind, "path": "/", "headers": []}, receive, send))
    assert seen == [("websocket.close", 1008), "lifespan"]


@pytest.fixture(params=["h11", "httptools"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Serve the small API by uvicorn, and give its port."""
    made = app(ServeSettings(most_kilobytes=64))
    config = uvicorn.Config(
        made, host="127.0.0.1", port=0, http=request.param, server_header=False, log_level="critical"
    )
    server = uvicorn.Server(config)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    end = time.monotonic() + 10
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listening.close()


def talk(port: int, head: str, *parts: bytes) -> tuple[bytes, bytes]:
    """Send bytes to a server until it closes; gives the head and the body of what it says."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n")
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except ConnectionResetError:
            pass
    head_said, _, body = said.partition(b"\r\n\r\n")
    return head_said, body


def test_a_real_server_refuses_what_is_too_large_and_hangs_up(port: int) -> None:
    start = "POST /open/items HTTP/1.1\nHost: x\n"
    head, body = talk(port, f"{start}Content-Length: 100000000\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"]["code"] == "too_large"
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head, body = talk(port, f"{start}Transfer-Encoding: chunked\n", *[chunk] * 4)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"]["code"] == "too_large"
    assert b"\r\nserver:" not in head.lower()
    good = chunk + b"0\r\n\r\n"
    head, body = talk(port, f"{start}Transfer-Encoding: chunked\nConnection: close\n", good)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b'{"bytes":32768}' in body


def test_an_answer_that_breaks_off_is_seen_to(port: int, caplog: pytest.LogCaptureFixture) -> None:
    head, body = talk(port, "GET /open/half HTTP/1.1\nHost: x\nConnection: close\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"first" in body
    assert not body.endswith(b"0\r\n\r\n"), "the end never came, so the client knows"
    assert any("GET '/open/half'" in one.getMessage() for one in caplog.records)
    assert "hidden text" not in caplog.text.replace('"hidden text"', "")
