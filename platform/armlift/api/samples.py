"""Examples and errors, as OpenAPI shows them."""

from typing import Any

from fastapi.openapi.models import Example

from armlift.api.models import ErrorAnswer

_REQUEST = "0193d6a0c1f07b2c8d4e5f60718293a4"
_SHOWN = int(_REQUEST[:12], 16) + 2_000
_WHY = {
    401: "No API key, or one that is not known.",
    403: "The key's scopes do not allow it.",
    404: "What is named was never started.",
    409: "As things stand it cannot be done: the message says how they stand.",
    413: "More than may come at once.",
    422: "Something is wrong: where, the value, and what is allowed.",
    429: "Too much at once, or no room to keep more; Retry-After says when to come again.",
    503: "Neither the arm nor the fallback can answer, or the database does not.",
}
_CODES = {
    401: "unauthorized", 403: "forbidden", 404: "not_found", 409: "conflict", 413: "too_large",
    422: "invalid", 429: "too_many_requests", 503: "unavailable",
}  # fmt: skip


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": _WHY[status],
            "content": {
                "application/json": {
                    "example": {"error": {"code": _CODES[status], "message": _WHY[status], "id": None}}
                }
            },
        }
        for status in statuses
    }


def _examples(**found: tuple[str, Any]) -> dict[str, Example]:
    return {name: {"summary": summary, "value": value} for name, (summary, value) in found.items()}


RECOMMEND = _examples(
    experiment=(
        "In an experiment",
        {"unit_id": "u42", "experiment": "demo", "k": 10, "context": {"country": "de", "age": 31}},
    ),
    layer=("In a layer", {"unit_id": "u42", "layer": "models", "k": 10}),
    forced=("To look at an arm", {"unit_id": "u42", "experiment": "demo", "force": "recgpt"}),
)
EVENTS = _examples(
    shown_and_clicked=(
        "An item was shown and clicked",
        {
            "run": "live",
            "events": [
                {
                    "type": "impression", "request_id": _REQUEST, "unit_id": "u42", "item_id": "v7",
                    "arm": "recgpt", "arm_version": "3f2a9c81d0e4", "position": 0, "step": 0, "score": 8.25,
                    "ts": _SHOWN,
                },
                {
                    "type": "feedback", "request_id": _REQUEST, "unit_id": "u42", "item_id": "v7",
                    "kind": "click", "value": 1.0, "ordinal": 0, "ts": _SHOWN + 1_500,
                },
            ],
        },
    ),
    signed_in=(
        "An anonymous id signs in",
        {"events": [{"type": "alias", "ts": 1732700000000, "unit_id": "u42", "anonymous_id": "a9"}]},
    ),
)  # fmt: skip
REASON = _examples(why=("Why", {"reason": "the week before the holidays is over"}))
RAMP = _examples(
    half=("Half of the units", {"traffic": 0.5, "reason": "no harm seen at 10 %"}),
    weights=(
        "New weights",
        {"traffic": 1.0, "weights": {"recgpt": 1, "comirec": 1}, "reason": "one arm less"},
    ),
)
ITEMS = _examples(
    gone=("An item is gone, another is rated", {
        "items": [
            {"item_id": "v7", "available": False},
            {"item_id": "v8", "available": True, "attributes": {"author": "a1", "rated": "12+"}},
        ]
    }),
)  # fmt: skip
PARAMETERS = {"unit": "u42", "experiment": "demo", "name": "demo", "context": {"country": "de"}}
"""An example of each parameter, by its name."""
_ASSIGNED = {
    "unit_id": "u42", "experiment": "demo", "run": "live", "arm": "recgpt", "phase": 0, "generation": 0,
    "rule": "range", "exposed": True,
}  # fmt: skip
_SLATE = _ASSIGNED | {
    "request_id": _REQUEST, "ts": 1732700000000, "arm_version": "3f2a9c81d0e4",
    "exposure": "0193d6a0c1f0d2c8b14e5f6071829a3b", "fallback": None,
    "items": [{"item_id": "v7", "position": 0, "step": 0, "score": 8.25, "propensity": None}],
}  # fmt: skip
_STANDS = {
    "experiment": "demo", "run": "live", "state": "running", "version": 1,
    "hash": "9b1c", "arms": {"recgpt": 1.0, "popularity": 1.0},
    "control": "popularity", "layer": "models", "phase": 0, "traffic": 0.5, "changes": [],
}  # fmt: skip
_CHANGE = "/v1/experiments/{name}"
ANSWERS: dict[tuple[str, str], Any] = {
    ("post", "/v1/recommend"): _SLATE,
    ("get", "/v1/assignments/{unit}"): {"assignments": [_ASSIGNED]},
    ("post", "/v1/events"): {"accepted": 2},
    ("get", "/v1/experiments"): {"experiments": [_STANDS]},
    ("get", _CHANGE): _STANDS,
    ("post", f"{_CHANGE}/start"): _STANDS,
    ("post", f"{_CHANGE}/ramp"): _STANDS | {"phase": 1},
    ("post", f"{_CHANGE}/pause"): _STANDS | {"state": "paused"},
    ("post", f"{_CHANGE}/resume"): _STANDS,
    ("post", f"{_CHANGE}/stop"): _STANDS | {"state": "stopped"},
    ("post", "/v1/items"): {"accepted": 2},
    ("get", "/healthz"): {"status": "ok", "reasons": []},
    ("get", "/readyz"): {"status": "degraded", "reasons": ["stream: not open yet; events are kept on disk"]},
    ("get", "/metrics"): 'armlift_serve_requests_total{route="/healthz",status="200"} 3.0\n',
}
"""An example of each good answer, by method and path."""
