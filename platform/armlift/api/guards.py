"""Guards: what stands between the network and the API: headers, sizes, keys, rates, errors without traces."""

import asyncio
import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from armlift.days import utc_now
from armlift.keys import Key, KeyRing
from armlift.settings import ServeSettings

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Of every response; what the app gives under one of these names stands."""
MOST_FRAMES, MOST_CAUSES = 20, 5
"""What the log has of an exception: its last frames, and so many that it came of."""
NEWS_SECONDS, NEWS_WAIT = 0.5, 1.5
"""Seconds between two looks for keys that nobody knows yet, and those for which one is looked for."""
ScopesOf = Callable[[str, str], str | None]
"""From a method and a path to the scope that they need; None: open to everybody."""

_LOG = logging.getLogger("armlift.api")
_BEARER = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)


class Guards:
    """ASGI middleware that lets in what is small enough, known, allowed and not too often.

    Every response bears `SECURITY_HEADERS` and no Server header (start uvicorn with `server_header=False`,
    which adds one after us). A body of more than `settings.most_kilobytes` is refused with 413, one of
    unknown length as it comes. With `settings.require_keys` a key must be shown, and have the scope that
    `scopes_of(method, path)` names; a HEAD asks as a GET does. `scope["state"]["key"]` then is the `Key`,
    else None. One key, or where none is found one client's address, is answered
    `settings.requests_per_second` times in a second, which begins with the first of them. An exception
    becomes a 500 with an id by which the log has its type and where it was raised, and neither its text nor
    anything of the request but method and path. Errors read `{"error": {"code", "message"}}`.

    Give it to `app.add_middleware`: around the whole app of Starlette an exception would come too late, as
    its outermost part answers before it raises. `clock` tells the time in UTC milliseconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key_ring: KeyRing | None,
        scopes_of: ScopesOf,
        settings: ServeSettings,
        clock: Callable[[], int] = utc_now,
    ) -> None:
        if settings.require_keys and key_ring is None:
            raise ValueError("require_keys asks for a key ring")
        self._app, self._scopes_of, self._clock = app, scopes_of, clock
        self._ring = key_ring if settings.require_keys else None
        self._looked = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._most_bytes = settings.most_kilobytes * 1024
        # Cheaper a hit than a moving window, which holds the time of each: 7 us at any rate.
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerSecond(settings.requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by the app or instead of it."""
        if scope["type"] == "http":
            await self._answer(scope, _Exchange(receive, send, self._most_bytes))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            refusal = await self._look(scope)
            if refusal is not None:
                await exchange.refuse(refusal)
                return
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  (whatever it is, nobody outside sees more than its id)
            if exchange.too_large:
                await exchange.refuse(_too_large(self._most_bytes))
                return
            await exchange.refuse(_internal(scope, error))

    async def _look(self, scope: Scope) -> "_Refusal | None":
        """Look at a request, but not at its body, and leave its key in the state; gives why it is refused."""
        state = scope.setdefault("state", {})
        state["key"] = None
        if _length(scope) > self._most_bytes:
            return _too_large(self._most_bytes)
        key = await self._key(scope)
        if not self._limiter.hit(self._rate, key.id if key else f"address {_address(scope)}"):
            return _TOO_MANY
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        needed = None if self._ring is None else self._scopes_of(method, _path(scope))
        if needed is not None and key is None:
            return _UNAUTHORIZED
        if needed is not None and key is not None and needed not in key.scopes:
            return _Refusal(403, "forbidden", f"this key does not open {needed}")
        state["key"] = key
        return None

    async def _key(self, scope: Scope) -> Key | None:
        """Find the key that is shown; None where none is, or no keys are asked for."""
        shown = _values(scope, b"authorization")
        form = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
        if self._ring is None or form is None:
            return None
        text = form[1].decode("latin-1")
        if not self._ring.knows(text):
            # It may have just been made; the ring is asked now and then, whoever makes up keys.
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_for_keys(self._ring))
            await asyncio.wait([self._looking], timeout=NEWS_WAIT)
        return self._ring.find(text, self._clock())

    async def _look_for_keys(self, ring: KeyRing) -> None:
        await asyncio.sleep(self._looked + NEWS_SECONDS - time.monotonic())
        await asyncio.to_thread(ring.refresh)
        self._looked = time.monotonic()


class _Refusal(NamedTuple):
    """An error in place of the app's answer."""

    status: int
    code: str
    message: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    id: str | None = None

    def body(self) -> bytes:
        """Write it as JSON."""
        error = {"code": self.code, "message": self.message, **({"id": self.id} if self.id else {})}
        return json.dumps({"error": error}, ensure_ascii=False).encode()


_UNAUTHORIZED = _Refusal(
    401, "unauthorized", "a valid key must be shown, as Authorization: Bearer KEY",
    [(b"www-authenticate", b"Bearer")],
)  # fmt: skip
_TOO_MANY = _Refusal(
    429, "too_many_requests", "too many requests in this second, try again in the next",
    [(b"retry-after", b"1")],
)  # fmt: skip


def _too_large(most_bytes: int) -> _Refusal:
    # The rest of the body is not read, so the connection is of no more use.
    message = f"the body is too large, must be at most {most_bytes // 1024} KiB"
    return _Refusal(413, "too_large", message, [(b"connection", b"close")])


def _internal(scope: Scope, error: Exception) -> _Refusal:
    """Log an exception, without its text, which may hold what was sent."""
    identity = secrets.token_hex(6)
    kinds, frames = _told(error)
    _LOG.error("error %s: %s %r: %s\n%s", identity, scope["method"], scope["path"], kinds, frames)
    message = "something failed here; whoever runs this finds it in the log by its id"
    return _Refusal(500, "internal", message, id=identity)


def _told(error: BaseException) -> tuple[str, str]:
    """Name an exception and what it came of, by type, and where it was raised."""
    kinds: list[str] = []
    frames: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(kinds) < MOST_CAUSES:
        kinds.append(f"{type(seen).__module__}.{type(seen).__qualname__}")
        frames.append("".join(traceback.format_tb(seen.__traceback__, limit=-MOST_FRAMES)).rstrip())
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return " from ".join(kinds), "\n".join(frames)


class _Exchange:
    """The two ways of one request: counts what comes in, and puts headers on what goes out."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive, self._send, self._left = receive, send, most_bytes
        self._most_bytes = most_bytes
        self._begun = False
        self._refused = False

    @property
    def too_large(self) -> bool:
        """Whether more of the body came than may."""
        return self._left < 0

    async def receive(self) -> Message:
        """Give the app what comes; raises where the body is too large."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self.too_large:
                raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Send what the app answers; where its body was too large, whatever it makes of that, a refusal."""
        if self.too_large and not self._begun:
            await self.refuse(_too_large(self._most_bytes))
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": _secured(message.get("headers", ()))}
        await self._send(message)

    async def refuse(self, refusal: _Refusal) -> None:
        """Answer with an error; once the app has begun to answer, only its silence tells of it."""
        if self._begun:
            return
        self._begun = self._refused = True
        body = refusal.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *refusal.headers,
        ]
        start = {"type": "http.response.start", "status": refusal.status, "headers": _secured(headers)}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


class _TooLargeError(Exception):
    """More of a body came than may."""


def _secured(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Add the security headers that are not there, and leave Server out."""
    kept = [(name, value) for name, value in headers if name.lower() != b"server"]
    there = {name.lower() for name, _ in kept}
    return kept + [header for header in SECURITY_HEADERS if header[0] not in there]


def _values(scope: Scope, wanted: bytes) -> list[bytes]:
    """Give the values of a request's header."""
    return [value for name, value in scope["headers"] if name == wanted]


def _length(scope: Scope) -> int:
    """Give the length that a request says its body has; 0 where it says none."""
    said = (one for one in _values(scope, b"content-length") if one.isdigit())
    # Python reads no number of thousands of digits.
    return max((int(one[:18]) for one in said), default=0)


def _address(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else "unknown"


def _path(scope: Scope) -> str:
    """Give the path that the app's routes see: without the prefix under which a proxy mounts it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path
