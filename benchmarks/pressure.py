"""Pressure: threads that go on asking APIs, and remember each answer, also that there was none."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import httpx

TIMEOUT = 30.0
"""Seconds after which an answer is given up."""
_AGAIN = 0.02


class Asked(NamedTuple):
    """A request; `what` is kept with its answer, `headers` are sent beside those of all."""

    method: str
    path: str
    body: object = None
    what: Any = None
    headers: Mapping[str, str] | None = None


class Reply(NamedTuple):
    """What came of a request: when it was sent (by the monotonic clock), seconds, status; 0: no answer."""

    what: Any
    sent: float
    seconds: float
    status: int
    body: Any


@contextmanager
def pressure(
    urls: Sequence[str], ask: Callable[[int], Asked], *,
    threads: int = 4, pause: float = 0.0, headers: Mapping[str, str] | None = None,
) -> Iterator[list[Reply]]:  # fmt: skip
    """Ask until the block ends, each thread one of the URLs; gives the replies so far.

    `ask` makes the n-th request, counted over all threads; `pause` is in seconds, between two of a thread.
    """
    replies: list[Reply] = []
    ended = threading.Event()
    numbers = count()

    def go_on(url: str) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False) as client:
            while not ended.is_set():
                reply = _reply(client, ask(next(numbers)))
                replies.append(reply)
                ended.wait(pause if reply.status else max(pause, _AGAIN))

    workers = [threading.Thread(target=go_on, args=(urls[at % len(urls)],)) for at in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield replies
    finally:
        ended.set()
        for worker in workers:
            worker.join()


def figures(replies: Sequence[Reply]) -> str:
    """Say how it went: answers by status, and milliseconds to one."""
    took = sorted(one.seconds for one in replies if one.status)
    statuses = dict(sorted(Counter(one.status for one in replies).items()))
    failed = sum(one.status in (0, 500, 503) for one in replies) / max(1, len(replies))
    p50, p99, worst = (1000 * took[min(len(took) - 1, int(part * len(took)))] for part in (0.5, 0.99, 1.0))
    return f"{statuses}, failed {failed:.2%}, p50 {p50:.1f}, p99 {p99:.1f}, worst {worst:.1f} ms"


def _reply(client: httpx.Client, asked: Asked) -> Reply:
    sent = time.monotonic()
    try:
        answer = client.request(asked.method, asked.path, json=asked.body, headers=asked.headers)
    except httpx.TransportError:
        return Reply(asked.what, sent, time.monotonic() - sent, 0, None)
    took = time.monotonic() - sent
    told = answer.headers.get("content-type", "").startswith("application/json")
    return Reply(asked.what, sent, took, answer.status_code, answer.json() if told else answer.text)
