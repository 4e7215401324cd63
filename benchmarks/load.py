"""Load: many HTTP requests from one process over kept connections, timed one by one.

    python load.py HOST PORT < plan.json > figures.json

A plan holds `requests` (each method, path, body, headers), `connections`, and `rate`: requests a second that
are sent whatever the answers take (0: each connection sends the next when it has its answer). Latencies count
from when a request was due.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from time import perf_counter
from typing import NamedTuple


class Figures(NamedTuple):
    """What a load came to: answers by status, seconds in all, and milliseconds to an answer."""

    statuses: dict[str, int]
    seconds: float
    rate: float
    p50: float
    p95: float
    p99: float
    worst: float


class Connection:
    """One kept connection; it is opened again where the server closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, message: bytes) -> str:
        """Send a request and give the status of its answer; `error` where there is none."""
        try:
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            self._writer.write(message)
            head = await self._reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            await self._reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
            return head[9:12].decode()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            await self.close()
            return "error"

    async def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def message(method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
    """Write a request."""
    raw = b"" if body is None else body.encode()
    given = {"Host": "load", "Content-Length": str(len(raw)), **headers}
    if body is not None:
        given["Content-Type"] = "application/json"
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + raw


async def load(host: str, port: int, messages: list[bytes], connections: int, rate: float) -> Figures:
    """Send requests over so many connections; gives what it came to."""
    statuses: Counter[str] = Counter()
    took: list[float] = []
    places: Iterator[int] = count()
    began = perf_counter()

    async def send() -> None:
        connection = Connection(host, port)
        while (place := next(places)) < len(messages):
            due = perf_counter()
            if rate:
                due = began + place / rate
                await asyncio.sleep(due - perf_counter())
            statuses[await connection.ask(messages[place])] += 1
            took.append(perf_counter() - due)
        await connection.close()

    await asyncio.gather(*(send() for _ in range(connections)))
    seconds = perf_counter() - began
    took.sort()

    def share(part: float) -> float:
        return 1000 * took[min(len(took) - 1, int(part * len(took)))]

    return Figures(
        dict(statuses), seconds, len(took) / seconds, share(0.5), share(0.95), share(0.99), 1000 * took[-1]
    )


def main() -> None:
    """Read a plan and print figures."""
    plan = json.load(sys.stdin)
    messages = [
        message(one["method"], one["path"], one.get("body"), plan.get("headers", {}))
        for one in plan["requests"]
    ]
    found = asyncio.run(
        load(sys.argv[1], int(sys.argv[2]), messages, plan["connections"], plan.get("rate", 0.0))
    )
    json.dump(found._asdict(), sys.stdout)


if __name__ == "__main__":
    main()
