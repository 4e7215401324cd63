"""A client of the HTTP API.

    with Client("http://127.0.0.1:8000", key) as client:
        answer = client.recommend("u42", experiment="demo", k=10)
        client.send([client.impression(answer, 0), client.feedback(answer, 0, "click")])

A call that gets no answer is made again, with the same request's id: it is the same call. Events are the same
however often they are sent. Threads may share a client.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec

from armlift.api.models import (
    AssignmentAnswer,
    AssignmentsAnswer,
    ExperimentAnswer,
    RecommendAnswer,
)
from armlift.days import utc_now
from armlift.errors import ArmliftError, InputError
from armlift.events import (
    Event,
    Feedback,
    Impression,
    feedback_identity,
    impression_identity,
    request_identity,
)

PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a call is made again."""
AGAIN = frozenset({429, 502, 503, 504})
"""Answers after which a call may be made again."""
UNIT_HEADER = "X-Unit"
"""Names the unit that a call is about, percent-encoded."""
BATCH = 1_000
"""Events sent at a time."""
Context = Mapping[str, str | int | float | bool]


class ApiError(ArmliftError):
    """The API did not answer as asked: its status (0: no answer at all) and code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Client:
    """Asks one API; `key` is an API key where it asks for one, `timeout` in seconds holds for each try."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 10.0, connections: int = 16
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._url = url.rstrip("/")
        try:
            self._client = httpx.Client(
                base_url=self._url, headers=headers, timeout=timeout, limits=limits, trust_env=False
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError(
                f"{url!r} is no address of an API, must be like http://127.0.0.1:8000"
            ) from error

    def recommend(
        self, unit: str, *, experiment: str | None = None, layer: str | None = None, k: int = 10,
        context: Context | None = None, force: str | None = None, request_id: str | None = None,
    ) -> RecommendAnswer:  # fmt: skip
        """Ask for a unit's slate, in an experiment or in a layer; the unit is exposed where it takes part."""
        named = request_id or request_identity(utc_now(), secrets.token_hex(16))
        body = {
            "unit_id": unit, "experiment": experiment, "layer": layer, "k": k, "context": dict(context or {}),
            "force": force, "request_id": named,
        }  # fmt: skip
        return RecommendAnswer.model_validate_json(self._ask("POST", "/v1/recommend", body, unit=unit))

    def assignments(
        self, unit: str, *, experiment: str | None = None, context: Context | None = None
    ) -> list[AssignmentAnswer]:
        """Ask which arm a unit gets, in one experiment or in all; nothing is exposed."""
        asked = {
            "experiment": experiment,
            "context": None if context is None else msgspec.json.encode(context).decode(),
        }
        given = {name: value for name, value in asked.items() if value is not None}
        found = self._ask("GET", f"/v1/assignments/{_in_path(unit)}", params=given, unit=unit)
        return AssignmentsAnswer.model_validate_json(found).assignments

    def send(self, events: Iterable[Event]) -> int:
        """Send events; returns how many, when all are kept. Raises ApiError where some are refused."""
        runs: dict[str, list[Event]] = {}
        for event in events:
            runs.setdefault(event.run, []).append(event)
        count = 0
        for run, those in runs.items():
            for start in range(0, len(those), BATCH):
                some = those[start : start + BATCH]
                units = {event.unit_id for event in some}
                unit = units.pop() if len(units) == 1 else None
                self._ask("POST", "/v1/events", {"run": run, "events": [*map(_plain, some)]}, unit=unit)
                count += len(some)
        return count

    def experiments(self) -> list[ExperimentAnswer]:
        """List all experiments that were ever started."""
        found = msgspec.json.decode(self._ask("GET", "/v1/experiments"))
        return [ExperimentAnswer.model_validate(one) for one in found["experiments"]]

    def start(self, experiment: str, reason: str) -> ExperimentAnswer:
        """Start an experiment of the lab's files."""
        return self._change(experiment, "start", {"reason": reason})

    def ramp(
        self, experiment: str, traffic: float, reason: str, weights: Mapping[str, float] | None = None
    ) -> ExperimentAnswer:
        """Begin a new phase now."""
        weighed = None if weights is None else dict(weights)
        return self._change(experiment, "ramp", {"traffic": traffic, "weights": weighed, "reason": reason})

    def pause(self, experiment: str, reason: str) -> ExperimentAnswer:
        """Let nobody meet the arms until `resume`."""
        return self._change(experiment, "pause", {"reason": reason})

    def resume(self, experiment: str, reason: str) -> ExperimentAnswer:
        """Let a paused experiment go on."""
        return self._change(experiment, "resume", {"reason": reason})

    def stop(self, experiment: str, reason: str) -> ExperimentAnswer:
        """End an experiment for good."""
        return self._change(experiment, "stop", {"reason": reason})

    @staticmethod
    def impression(answer: RecommendAnswer, position: int, *, ts: int | None = None) -> Impression:
        """Make the event that an item of an answer was shown, now or at a time (UTC milliseconds)."""
        item = answer.items[position]
        return Impression(
            impression_identity(answer.request_id, item.item_id), answer.run, _time(ts), answer.request_id,
            answer.unit_id, answer.arm, answer.arm_version, item.item_id, position, item.step, item.score,
            item.propensity, answer.fallback is not None,
        )  # fmt: skip

    @staticmethod
    def feedback(
        answer: RecommendAnswer, position: int, kind: str, value: float = 1.0, *, ordinal: int = 0,
        ts: int | None = None,
    ) -> Feedback:  # fmt: skip
        """Make the event that a unit did something with an item of an answer; the n-th time has ordinal n."""
        item = answer.items[position].item_id
        identity = feedback_identity(answer.request_id, item, kind, ordinal)
        return Feedback(
            identity, answer.run, _time(ts), answer.request_id, answer.unit_id, item, kind, value, ordinal
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _change(self, experiment: str, action: str, body: Mapping[str, Any]) -> ExperimentAnswer:
        found = self._ask("POST", f"/v1/experiments/{_in_path(experiment)}/{action}", body, pauses=())
        return ExperimentAnswer.model_validate_json(found)

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *,
        params: Mapping[str, str] | None = None, pauses: Sequence[float] = PAUSES, unit: str | None = None,
    ) -> bytes:  # fmt: skip
        """Give the body of the answer; a change of an experiment is not asked for twice.

        What is about one unit says so to a load balancer, which may take it to where the unit is known.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"content-type": "application/json"}
        if unit is not None:
            headers[UNIT_HEADER] = _in_path(unit)
        for pause in (*pauses, None):
            try:
                answer = self._client.request(method, path, content=content, headers=headers, params=params)
            except httpx.TransportError as error:
                if pause is None:
                    raise ApiError(
                        0, "unreachable", f"{self._url}: {error or type(error).__name__}"
                    ) from error
            else:
                if answer.is_success:
                    return answer.content
                if answer.status_code not in AGAIN or pause is None:
                    raise _failure(answer)
            time.sleep(pause)
        raise AssertionError


def _failure(answer: httpx.Response) -> ApiError:
    try:
        told = msgspec.json.decode(answer.content)["error"]
        return ApiError(answer.status_code, told["code"], told["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ApiError(answer.status_code, "unreadable", f"{answer.url}: status {answer.status_code}")


def _plain(event: Event) -> dict[str, Any]:
    """Write an event as the API takes it: its identity follows from what it says."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in found.items() if name not in ("event_id", "run")}


def _in_path(text: str) -> str:
    return quote(text, safe="")


def _time(ts: int | None) -> int:
    return utc_now() if ts is None else ts
