"""Remote: a recommender behind an HTTP endpoint; popularity answers where it does not."""

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from armlift.arm import ArmConfig, Capability, Request, Slate
from armlift.slates import Ranking, slate_of
from armlift_arms.popularity import Popularity, PopularityConfig
from armlift_arms.remote_wire import Reason, RefusedError, accept, read_batch, write_batch

if TYPE_CHECKING:
    import httpx

SILENT: frozenset[Reason] = frozenset({"timeout", "unreachable"})
"""Failures that cost time; after one the endpoint is left alone for a while."""
_SHORTEST = 0.001
"""Seconds; a wait of 0 would mean not to wait but to poll."""

Clock = Callable[[], float]
HeaderName = Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")]
Variable = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]

logger = logging.getLogger(__name__)


class RemoteConfig(PopularityConfig):
    """The arm definition of `remote`; `half_life_days` and `kind_weights` are those of its fallback."""

    url: str = Field(
        default="http://127.0.0.1:8900/recommend",
        description="Where requests are posted: http:// or https://. Name the served version in it.",
    )
    timeout: float = Field(
        default=0.5,
        gt=0,
        le=600,
        description="Seconds a batch may take from connecting to the last byte, tries included.",
    )
    retries: int = Field(
        default=1,
        ge=0,
        le=10,
        description="How often a batch is sent again, within its timeout, after a connection that broke.",
    )
    pause: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="Seconds the endpoint is not asked after it did not answer; 0 asks always.",
    )
    batch: int = Field(default=64, ge=1, le=10_000, description="The most requests of one POST.")
    depth: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Items asked for, where k is less, when `exploration` draws among them.",
    )
    headers: dict[HeaderName, Variable] = Field(
        default_factory=dict,
        description="Headers by the environment variables that hold them, such as {Authorization: TOKEN}.",
    )

    @field_validator("url")
    @classmethod
    def _names_an_endpoint(cls, url: str) -> str:
        if "@" in url.partition("//")[2].partition("/")[0]:
            raise ValueError("must hold no user and password, name them under headers")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            (parts.hostname or "").encode("idna")
        except ValueError:
            usable = False
        if not usable or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is no endpoint, must be http://HOST:PORT/PATH or https://HOST/PATH")
        return url


class Remote(Popularity):
    """Ask an endpoint for slates; answer with popularity, fitted by `fit`, what it leaves open or gets wrong.

    The wire format is that of `remote_wire`. A slate of popularity's has `fallback` set, and `fallbacks`
    counts them by reason. An endpoint that did not answer is not asked for `pause` seconds; then one batch
    tries again. Propensities are the endpoint's, None where it gives none; with `exploration` the arm draws
    among the items the endpoint ranks, whose order must then be certain. Threads may share an arm.
    """

    config: RemoteConfig
    config_class: ClassVar[type[ArmConfig]] = RemoteConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"trainable", "candidates"})

    def __init__(self, config: RemoteConfig, *, clock: Clock = time.monotonic) -> None:
        super().__init__(config)
        self._endpoint = _Endpoint(config, clock)
        self._counting = threading.Lock()
        self._fallbacks: Counter[Reason] = Counter()

    @property
    def fallbacks(self) -> dict[Reason, int]:
        """Count the requests popularity answered, by reason, since this arm was made or loaded."""
        return dict(self._fallbacks)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order; no failure of the endpoint is raised."""
        size = self.config.batch
        return [
            slate
            for start in range(0, len(requests), size)
            for slate in self._answer_batch(requests[start : start + size])
        ]

    def _answer_batch(self, requests: Sequence[Request]) -> list[Slate]:
        deep = self.config.exploration is not None
        asked = [one._replace(k=max(one.k, self.config.depth)) for one in requests] if deep else requests
        try:
            body = write_batch(self.config.name, self.config.seed, asked)
            answers = read_batch(self._endpoint.post(body), len(requests))
        except RefusedError as refused:
            return [self._fall_back(request, refused) for request in requests]
        return [self._slate(*each) for each in zip(requests, asked, answers, strict=True)]

    def _slate(self, request: Request, asked: Request, raw: object) -> Slate:
        explores = self.config.exploration is not None
        try:
            answer = accept(raw, asked, self._scores, certain=explores)
        except RefusedError as refused:
            return self._fall_back(request, refused)
        if explores:
            return slate_of(Ranking(answer.items, answer.scores), request, self.config)
        size = len(answer.items)
        return Slate(answer.items, answer.scores, [0] * size, answer.propensities or [None] * size)

    def _fall_back(self, request: Request, refused: RefusedError) -> Slate:
        with self._counting:
            self._fallbacks[refused.reason] += 1
            first = self._fallbacks[refused.reason] == 1
        if first:
            logger.warning(
                "arm %s: popularity answers for %s: %s (%s; told once, then only counted)",
                self.config.name,
                self.config.url,
                refused,
                refused.reason,
            )
        return self._answer(request)._replace(fallback=True)


class _Endpoint:
    """The HTTP side of an arm: one POST within a time budget, none during a pause."""

    def __init__(self, config: RemoteConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._breaker = _Breaker(config.pause, clock)
        self._making = threading.Lock()
        self._client: httpx.Client | None = None

    def post(self, body: bytes) -> bytes:
        """Send a batch and give the answer's body; raises RefusedError where there is none."""
        headers = self._headers()
        if not self._breaker.lets_through():
            raise RefusedError("paused", f"not asked within {self._config.pause:g} s of a failure")
        try:
            answer = self._send(body, headers)
        except RefusedError as refused:
            self._breaker.heard(alive=refused.reason not in SILENT)
            raise
        self._breaker.heard(alive=True)
        return answer

    def _headers(self) -> dict[str, str]:
        """Read the headers from the environment; what they hold is never shown."""
        headers = {}
        for name, variable in self._config.headers.items():
            value = os.environ.get(variable, "").strip()
            if not value or not value.isascii() or not value.isprintable():
                raise RefusedError(
                    "headers", f"headers.{name}: {variable} must be set to ASCII text in the environment"
                )
            headers[name] = value
        return headers

    def _send(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        import httpx

        client = self._open_client()  # before the clock runs: the first time it takes a while
        waits = _Remaining(self._clock() + self._config.timeout, self._clock)
        tries = 0
        while True:
            tries += 1
            try:
                return self._try(client, body, headers, waits)
            except httpx.TimeoutException as error:
                raise self._late() from error
            except httpx.TransportError as error:
                if waits.over:
                    raise self._late() from error
                if tries > self._config.retries:
                    text = f"no connection that lasts: {error or type(error).__name__}"
                    raise RefusedError("unreachable", text) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise RefusedError("unreadable", f"the answer cannot be read: {error}") from error

    def _try(
        self, client: "httpx.Client", body: bytes, headers: Mapping[str, str], waits: "_Remaining"
    ) -> bytes:
        request = client.build_request(
            "POST", self._config.url, content=body, headers={**headers, "content-type": "application/json"}
        )
        request.extensions["timeout"] = waits
        with closing(client.send(request, stream=True)) as response:
            if response.status_code != 200:
                raise RefusedError("status", f"the answer's status is {response.status_code}, must be 200")
            parts = []
            for part in response.iter_bytes():
                parts.append(part)
                if waits.over:
                    raise self._late()
            return b"".join(parts)

    def _late(self) -> RefusedError:
        return RefusedError("timeout", f"no answer within {self._config.timeout:g} s")

    def _open_client(self) -> "httpx.Client":
        import httpx

        with self._making:
            if self._client is None:
                self._client = httpx.Client()
                weakref.finalize(self, self._client.close)
            return self._client


class _Remaining(Mapping[str, float]):
    """The seconds left until a deadline, whatever is waited for.

    httpx's own timeouts hold for each wait alone, so that a batch could take several of them.
    """

    def __init__(self, deadline: float, clock: Clock) -> None:
        self._deadline = deadline
        self._clock = clock

    @property
    def over(self) -> bool:
        return self._clock() > self._deadline

    def __getitem__(self, key: str) -> float:
        return max(self._deadline - self._clock(), _SHORTEST)

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "read", "write", "pool"))

    def __len__(self) -> int:
        return 4


class _Breaker:
    """Says whether an endpoint may be asked: after a silence not for `pause` seconds, then by one caller."""

    def __init__(self, pause: float, clock: Clock) -> None:
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._until: float | None = None

    def lets_through(self) -> bool:
        with self._lock:
            if self._until is None:
                return True
            now = self._clock()
            if now < self._until:
                return False
            # This caller tries again; the others wait for what it finds.
            self._until = now + self._pause
            return True

    def heard(self, *, alive: bool) -> None:
        with self._lock:
            self._until = None if alive else self._clock() + self._pause
