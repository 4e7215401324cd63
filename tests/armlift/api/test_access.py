"""Who may do what over a real socket: keys, limits, and texts that mean harm; nobody is told a secret."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from serving_lab import NAME, Answering, begin, make_lab, serving, size_of, wait_for
from sqlalchemy import Engine, NullPool, create_engine, func, make_url, select, text

from armlift import keys
from armlift.client import ApiError, Client
from armlift.events import request_identity
from armlift.keys import REFRESH_SECONDS, SCOPES
from armlift.store.database import open_database, writing
from armlift.store.tables import audit_log, metadata

PASSWORD = "a-password-nobody-is-told"
MOST_KILOBYTES, PER_SECOND = 64, 30
HOSTILE = [
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "'; DROP TABLE exposures; --",
    '" OR "1"="1',
    "1); DELETE FROM api_keys; --",
    "%(unit)s %s {0} ${jndi:ldap://x} {{7*7}}",
    "a\r\nSet-Cookie: x=1\r\n\r\n",
    "\u202egnp.exe",
    "nul\0nul",
    "\ud800",
    "<script>alert(1)</script>",
    "x" * 100_000,
    "😀" * 200,
    ".",
    "..",
    "/",
    "\\\\host\\share",
    "NaN",
    "",
]


class Guarded(NamedTuple):
    """An API that asks for keys, on PostgreSQL, its database, and a key of all scopes."""

    api: Answering
    engine: Engine
    key: str


@pytest.fixture(scope="module")
def guarded(postgresql_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    once = create_engine(postgresql_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with once.connect() as connection:
        connection.execute(text("CREATE DATABASE guarded"))
    url = make_url(postgresql_url).set(database="guarded", password=PASSWORD)
    serve = {
        "require_keys": True, "budget_ms": 20_000,
        "most_kilobytes": MOST_KILOBYTES, "requests_per_second": PER_SECOND,
    }  # fmt: skip
    there = url.render_as_string(hide_password=False)
    lab = make_lab(tmp_path_factory.mktemp("guarded") / "lab", serve=serve, database=there)
    engine = open_database(lab, create=True)
    begin(lab, engine, size_of(50, 1))
    key = made(engine, "whole", *SCOPES)
    with serving(lab) as api:
        yield Guarded(api, engine, key)
    engine.dispose()
    with once.connect() as connection:
        connection.execute(text("DROP DATABASE guarded WITH (FORCE)"))


def made(engine: Engine, name: str, *scopes: str) -> str:
    with writing(engine) as connection:
        return keys.create(connection, name, scopes, by="me", at=now()).text


def now() -> int:
    return time.time_ns() // 1_000_000


def ask(guarded: Guarded, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
    """Ask with a key, by default the one of all scopes; again where that was too often."""
    headers = {"Authorization": f"Bearer {key or guarded.key}"} | more.pop("headers", {})
    while True:
        answer = httpx.request(
            method, guarded.api.url + path, headers=headers, trust_env=False, timeout=60, **more
        )
        if answer.status_code != 429:
            return answer
        time.sleep(0.2)


def test_experiments_are_changed_by_keys_of_that_scope_alone(guarded: Guarded) -> None:
    reader = made(guarded.engine, "reader", "recommend", "assignments", "events", "items", "metrics")
    changer = made(guarded.engine, "changer", "experiments")
    path = f"/v1/experiments/{NAME}"
    for action in ("start", "ramp", "pause", "resume", "stop"):
        answer = ask(guarded, "POST", f"{path}/{action}", reader, json={"reason": "mine", "traffic": 0.1})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert answer.json()["error"]["message"] == "this key does not open experiments"
    assert ask(guarded, "GET", path, reader).json()["phase"] == 0
    assert ask(guarded, "GET", path, changer).status_code == 403, "to look needs another scope"
    for action, body in (("ramp", {"traffic": 0.5}), ("pause", {}), ("resume", {})):
        done = ask(guarded, "POST", f"{path}/{action}", changer, json={"reason": f"to {action}", **body})
        assert done.status_code == 200, done.text
    with guarded.engine.connect() as connection:
        a = audit_log.c
        rows = connection.execute(
            select(a.by, a.action, a.details).where(a.subject == f"experiment/{NAME}").order_by(a.number)
        ).all()
    assert [(row.by, row.action) for row in rows[1:]] == [
        ("changer", "ramp"), ("changer", "pause"), ("changer", "resume"),
    ]  # fmt: skip
    assert "to ramp" in json.dumps(rows[1].details)


def test_a_revoked_key_ends_soon_and_a_rotated_one_works_at_once(guarded: Guarded) -> None:
    old = made(guarded.engine, "turned", "assignments")

    def status(key: str) -> int:
        return ask(guarded, "GET", "/v1/experiments", key).status_code

    assert status(old) == 200, "also a key that was just made"
    with writing(guarded.engine) as connection:
        new = keys.rotate(connection, "turned", by="me", at=now(), grace=60_000).text
    assert (status(new), status(old)) == (200, 200), "the old one has its grace"
    with writing(guarded.engine) as connection:
        keys.revoke(connection, "turned", by="me", at=now())
    began = time.monotonic()
    wait_for(lambda: (status(new), status(old)) == (401, 401))
    took = time.monotonic() - began
    print(f"revoked keys ended after {took:.1f} s")
    assert took < REFRESH_SECONDS + 1.0


def test_made_up_keys_cost_a_query_now_and_then(guarded: Guarded) -> None:
    wrong = [f"armlift_{number:012x}_{'x' * 43}" for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda key: ask(guarded, "GET", "/v1/experiments", key).status_code, wrong)]
    assert set(found) <= {401, 429}


def test_a_key_is_answered_so_often_a_second_and_others_meanwhile(guarded: Guarded) -> None:
    busy, calm = (made(guarded.engine, name, "assignments") for name in ("busy", "calm"))
    assert ask(guarded, "GET", "/v1/experiments", calm).status_code == 200
    headers = {"Authorization": f"Bearer {busy}"}
    with httpx.Client(base_url=guarded.api.url, headers=headers, trust_env=False) as client:

        def answered_of_a_second() -> tuple[int, bool]:
            """Ask until refused: how often it was answered, and whether all was within one second."""
            time.sleep(1.05)  # the last second is over; the next begins with the first request
            began = time.monotonic()
            for answered in range(10 * PER_SECOND):
                answer = client.get("/v1/experiments")
                if answer.status_code == 429:
                    assert (answer.headers["retry-after"], answer.json()["error"]["code"]) == (
                        "1", "too_many_requests",
                    )  # fmt: skip
                    assert ask(guarded, "GET", "/v1/experiments", calm).status_code == 200
                    return answered, time.monotonic() - began < 1
                assert answer.status_code == 200
            pytest.fail("never refused")

        assert client.get("/v1/experiments").status_code == 200
        # A machine that is busy may need more than a second for so many.
        found = (answered_of_a_second() for _ in range(20))
        assert next(answered for answered, within in found if within) == PER_SECOND
        time.sleep(1.05)
        assert client.get("/v1/experiments").status_code == 200


def test_bodies_are_bounded_whether_they_tell_their_length_or_not(guarded: Guarded) -> None:
    large = b'{"events": [' + b" " * MOST_KILOBYTES * 1024 + b"]}"
    typed = {"content-type": "application/json"}
    for body in (large, iter([large[:1000], large[1000:]])):
        answer = ask(guarded, "POST", "/v1/events", content=body, headers=typed)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    for body in (b"[" * 60_000, b'{"a":' * 10_000, b"\xff\xfe", b'{"events": NaN}', b"1" * 60_000, b""):
        answer = ask(guarded, "POST", "/v1/events", content=body, headers=typed)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid"), body[:20]
    many = [{"item_id": f"i{number}"} for number in range(1_000)]
    assert ask(guarded, "POST", "/v1/items", json={"items": many}).status_code == 200


def test_who_is_slow_or_breaks_off_holds_up_nobody(guarded: Guarded) -> None:
    host, port = "127.0.0.1", guarded.api.port
    slow = [socket.create_connection((host, port)) for _ in range(50)]
    for one in slow:
        one.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n")
    for garbage in (b"\x16\x03\x01" + b"\0" * 200, b"GET " + b"x" * 100_000, b"\r\n\r\n"):
        with socket.create_connection((host, port)) as one, suppress(OSError):
            one.sendall(garbage)
            one.settimeout(0.2)
            one.recv(1000)
    began = time.monotonic()
    assert ask(guarded, "GET", "/v1/experiments").status_code == 200
    assert time.monotonic() - began < 2
    for one in slow:
        one.close()


@pytest.mark.parametrize("hostile", HOSTILE, ids=[repr(one[:20]) for one in HOSTILE])
def test_no_text_does_harm(guarded: Guarded, hostile: str) -> None:
    """Put a text wherever one goes: no error of the server, nothing lost, none of the machine's files."""
    before = counts(guarded.engine)
    in_path = quote(hostile.encode(errors="surrogatepass")[:8_000], safe="")
    common = {"type": "feedback", "request_id": request_identity(now(), "x")}
    feedback = common | {"unit_id": hostile, "item_id": hostile, "kind": hostile}
    item = {"item_id": hostile, "attributes": {"a": hostile, f"b{hostile}": 1}}
    asked = [
        ("GET", f"/v1/assignments/{in_path}", None),
        ("GET", f"/v1/assignments/u?experiment={in_path}", None),
        ("GET", f"/v1/assignments/u?context={in_path}", None),
        ("GET", f"/v1/assignments/u?{in_path}={in_path}", None),
        ("GET", f"/v1/experiments/{in_path}", None),
        ("GET", f"/{in_path}", None),
        ("POST", f"/v1/experiments/{in_path}/pause", {"reason": hostile}),
        ("POST", f"/v1/experiments/{NAME}/{in_path}", {"reason": hostile}),
        ("POST", "/v1/recommend", {"unit_id": hostile, "experiment": NAME, "context": {"a": hostile}}),
        ("POST", "/v1/recommend", {"unit_id": "u", "layer": hostile}),
        ("POST", "/v1/recommend", {"unit_id": "u", "experiment": NAME, "force": hostile}),
        ("POST", "/v1/events", {"run": hostile, "events": [feedback]}),
        ("POST", "/v1/events", {"events": [feedback]}),
        ("POST", "/v1/events", {"events": [{**feedback, "kind": "click"}]}),
        ("POST", "/v1/items", {"items": [item]}),
    ]  # fmt: skip
    for method, path, body in asked:
        content = None if body is None else json.dumps(body).encode()
        answer = ask(guarded, method, path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 202, 404, 405, 413, 422), (path, answer.text)
        assert "root:" not in answer.text
        assert "set-cookie" not in answer.headers
        assert "Traceback" not in answer.text
    after = counts(guarded.engine)
    assert set(after) == set(before)
    assert all(after[name] >= before[name] for name in before)


def counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in metadata.sorted_tables
        }


def test_nobody_is_told_a_secret(guarded: Guarded) -> None:
    """Not in answers, and not in what the server writes."""
    told = httpx.get(f"{guarded.api.url}/readyz", trust_env=False)
    figures = ask(guarded, "GET", "/metrics")
    assert (told.status_code, figures.status_code) == (200, 200)
    secret = guarded.key.rpartition("_")[2]
    with Client(guarded.api.url, f"{guarded.key}x") as client, pytest.raises(ApiError) as caught:
        client.experiments()
    assert caught.value.status == 401
    for part in (told.text, figures.text, str(caught.value), "".join(guarded.api.log)):
        assert PASSWORD not in part
        assert secret not in part
    assert not [line for line in guarded.api.log if "Traceback" in line], guarded.api.log
