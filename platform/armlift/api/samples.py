"""Examples and errors, as OpenAPI shows them."""

from typing import Any

from fastapi.openapi.models import Example

from armlift.api.models import ErrorAnswer

_REQUEST = "0193d6a0c1f07b2c8d4e5f60718293a4"
_WHY = {
    401: "No API key, or one that is not known.",
    403: "The key's scopes do not allow it.",
    404: "What is named was never started.",
    413: "More than may come at once.",
    422: "Something is wrong: where, the value, and what is allowed.",
    429: "Too much at once, or no room to keep more; Retry-After says when to come again.",
    503: "Neither the arm nor the fallback can answer, or the database does not.",
}
_CODES = {
    401: "unauthorized", 403: "forbidden", 404: "not_found", 413: "too_large",
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
                },
                {
                    "type": "feedback", "request_id": _REQUEST, "unit_id": "u42", "item_id": "v7",
                    "kind": "click", "value": 1.0, "ordinal": 0,
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
