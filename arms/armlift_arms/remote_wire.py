"""What a `remote` arm and its endpoint write to each other, and what makes an answer a slate.

    POST  {"schema": 1, "arm": ..., "seed": ..., "requests": [{"request_id": ..., ...}, ...]}
    200   {"slates": [{"request_id": ..., "items": [...], "scores": [...], "propensities": [...]}, ...]}

Slates stand in the order of the requests. Keys of an answer that are not named here are let through.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from armlift.arm import Request
from armlift.slates import seen_items

SCHEMA = 1

Reason = Literal[
    "headers",
    "unsendable",
    "paused",
    "timeout",
    "unreachable",
    "status",
    "unreadable",
    "shape",
    "too_many",
    "too_few",
    "duplicate",
    "seen",
    "unknown",
    "score",
    "propensity",
]
"""Why an endpoint's answer does not stand; up to `unreadable` it is the whole batch's."""

_UNWRITABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What writing a context or attributes of any kind as JSON may raise."""


class RefusedError(Exception):
    """There is no answer, or none that stands: `reason` says of which kind, the text says what was wrong."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


class Answer(msgspec.Struct):
    """One slate on the wire; without propensities they are not known."""

    request_id: str
    items: list[str]
    scores: list[float]
    propensities: list[float | None] | None = None


def write_batch(arm: str, seed: int, requests: Sequence[Request]) -> bytes:
    """Write requests as JSON; NaN becomes null, and what JSON does not know becomes text.

    Candidates go sorted and once each: their order may tell what another policy preferred. Raises
    RefusedError if a request cannot be written.
    """
    batch = {"schema": SCHEMA, "arm": arm, "seed": seed, "requests": [_written(one) for one in requests]}
    try:
        return msgspec.json.encode(batch, enc_hook=str)
    except _UNWRITABLE as error:
        raise RefusedError("unsendable", f"the requests cannot be written: {error}") from error


def _written(request: Request) -> dict[str, object]:
    return {
        "request_id": request.request_id,
        "unit": request.unit,
        "ts": request.ts,
        "k": request.k,
        "history": [behaviour._asdict() for behaviour in request.history],
        "candidates": None if request.candidates is None else sorted(set(request.candidates)),
        "context": request.context,
        "attributes": request.attributes,
    }


def read_batch(body: bytes, count: int) -> list[object]:
    """Take the slates out of an answer to `count` requests; what each is worth is for `accept` to say.

    Raises RefusedError if the answer is not JSON of the right form.
    """
    try:
        # The lenient parser: a NaN, which clients do write, spoils its own slate only.
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError("unreadable", f"the answer is not JSON: {error}") from error
    slates = answer.get("slates") if isinstance(answer, dict) else None
    if not isinstance(slates, list):
        raise RefusedError("unreadable", 'the answer holds no list "slates"')
    if len(slates) != count:
        raise RefusedError("unreadable", f"the answer holds {len(slates)} slates, must hold {count}")
    return slates


def accept(raw: object, request: Request, catalogue: Mapping[str, object], *, certain: bool) -> Answer:
    """Read one slate as the answer to a request.

    `request.k` is the number of items that was asked for. Where the arm itself explores, the endpoint's order
    must be `certain`. Raises RefusedError with the first thing that is wrong.
    """
    try:
        answer = msgspec.convert(raw, Answer)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RefusedError("shape", f"a slate is not of the right form: {error}") from error
    for reason, text in _objections(answer, request, catalogue, certain):
        raise RefusedError(reason, f"request {request.request_id}: {text}")
    return answer


def _objections(
    answer: Answer, request: Request, catalogue: Mapping[str, object], certain: bool
) -> Iterator[tuple[Reason, str]]:
    if answer.request_id != request.request_id:
        yield "shape", f"the slate in its place is of {answer.request_id!r}"
    propensities = answer.propensities if answer.propensities is not None else [None] * len(answer.items)
    if not len(answer.items) == len(answer.scores) == len(propensities):
        yield "shape", "items, scores and propensities must be of one length"
    yield from _objections_to_items(answer.items, request, catalogue)
    for item, score in zip(answer.items, answer.scores, strict=True):
        if not math.isfinite(score):
            yield "score", f"score {score} of item {item!r}, must be finite"
    for item, propensity in zip(answer.items, propensities, strict=True):
        if propensity is None or propensity == 1:
            continue
        if certain:
            yield (
                "propensity",
                f"propensity {propensity} of item {item!r}, must be 1 as the arm itself explores",
            )
        if not 0 < propensity <= 1:
            yield "propensity", f"propensity {propensity} of item {item!r}, must be above 0 and at most 1"


def _objections_to_items(
    items: Sequence[str], request: Request, catalogue: Mapping[str, object]
) -> Iterator[tuple[Reason, str]]:
    if len(items) > request.k:
        yield "too_many", f"{len(items)} items, must be at most {request.k}"
    for item, times in Counter(items).items():
        if times > 1:
            yield "duplicate", f"item {item!r} stands {times} times"
    if request.candidates is not None:
        candidates = set(request.candidates)
        for item in items:
            if item not in candidates:
                yield "unknown", f"item {item!r} is not among the candidates"
        if len(items) < (needed := min(request.k, len(candidates))):
            yield "too_few", f"{len(items)} items, must be {needed} of {len(candidates)} candidates"
        return
    seen = seen_items(request)
    for item in items:
        if item not in catalogue:
            yield "unknown", f"item {item!r} is not in the catalogue"
        if item in seen:
            yield "seen", f"item {item!r} is in the history"
    if not items and request.k and any(item not in seen for item in catalogue):
        yield "too_few", "no item, must be at least 1"
