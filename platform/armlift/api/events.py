"""POST /v1/events: batches of events, accepted when they are durable, the same however often sent."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Body

from armlift.api.errors import RefusedError
from armlift.api.models import (
    Accepted,
    AliasEvent,
    AnyEvent,
    EventBatch,
    ExposureEvent,
    FeedbackEvent,
    ImpressionEvent,
)
from armlift.api.samples import EVENTS, errors
from armlift.days import DAY_MS, utc_now
from armlift.errors import InputError
from armlift.events import (
    Alias,
    Event,
    Exposure,
    Feedback,
    Impression,
    alias_identity,
    exposure_identity,
    feedback_identity,
    impression_identity,
)
from armlift.serving.live import LiveExperiments
from armlift.serving.service import Service
from armlift.serving.waiting import OutboxFullError


def routes(service: Service) -> APIRouter:
    """Make the route."""
    router = APIRouter(prefix="/v1", tags=["events"])
    most = service.settings.most_events

    @router.post("/events", status_code=202, responses=errors(401, 403, 413, 422, 429))
    async def post_events(batch: Annotated[EventBatch, Body(openapi_examples=EVENTS)]) -> Accepted:
        """Accept a batch, all of it or nothing: 202 says that it is kept, whatever fails from now on.

        An event's identity is what happened: sent again, it is the same event.
        """
        figures = service.figures
        if len(batch.events) > most:
            figures.refused.labels("too_large").inc(len(batch.events))
            raise RefusedError(
                413, "too_large", f"events: are {len(batch.events)}, must be at most {most} a batch"
            )
        try:
            found = checked(batch, service)
            encoded = [(unit, service.codec.encode(events)) for unit, events in by_request(found)]
            await asyncio.wrap_future(service.outbox.send(encoded))
        except InputError:
            figures.refused.labels("invalid").inc(len(batch.events))
            raise
        except OutboxFullError:
            figures.refused.labels("full").inc(len(batch.events))
            raise
        service.units.apply(found)
        for kind, count in Counter(one.type for one in batch.events).items():
            figures.events.labels(kind).inc(count)
        return Accepted(accepted=len(found))

    return router


def checked(batch: EventBatch, service: Service) -> list[Event]:
    """Make the events of a batch; raises InputError for the first that cannot be stored."""
    live, now = service.live, utc_now()
    if batch.run not in live.runs:
        raise InputError(f"run: {batch.run!r} is no live run, must be one of {', '.join(sorted(live.runs))}")
    found = []
    for place, one in enumerate(batch.events):
        event = _event(one, batch.run, now)
        wrong = service.codec.objection(event, now + DAY_MS) or _unknown(one, batch.run, live)
        if wrong:
            raise InputError(f"events.{place}.{one.type}: {wrong}")
        found.append(event)
    return found


def by_request(events: Sequence[Event]) -> Iterable[tuple[str, list[Event]]]:
    """Group events into messages: of one unit and one request, else by themselves."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        request = event.request_id if isinstance(event, Impression | Feedback) else event.event_id
        found.setdefault((event.unit_id, request), []).append(event)
    return ((unit, some) for (unit, _), some in found.items())


def _event(one: AnyEvent, run: str, now: int) -> Event:
    match one:
        case FeedbackEvent():
            identity = feedback_identity(one.request_id, one.item_id, one.kind, one.ordinal)
            ts = now if one.ts is None else one.ts
            rest = (one.request_id, one.unit_id, one.item_id, one.kind, one.value, one.ordinal)
            return Feedback(identity, run, ts, *rest)
        case ImpressionEvent():
            identity = impression_identity(one.request_id, one.item_id)
            ts = now if one.ts is None else one.ts
            return Impression(
                identity, run, ts, one.request_id, one.unit_id, one.arm, one.arm_version, one.item_id,
                one.position, one.step, one.score, one.propensity, one.fallback,
            )  # fmt: skip
        case ExposureEvent():
            identity = exposure_identity(one.ts, run, one.unit_id, one.experiment, one.arm)
            return Exposure(
                identity, run, one.ts, one.unit_id, one.experiment, one.generation, one.phase, one.arm,
                one.arm_version, one.forced, one.fallback,
            )  # fmt: skip
        case AliasEvent():
            identity = alias_identity(one.ts, run, one.anonymous_id, one.unit_id)
            return Alias(identity, run, one.ts, one.unit_id, one.anonymous_id)


def _unknown(one: AnyEvent, run: str, live: LiveExperiments) -> str | None:
    """Say why an exposure names what there is not, or None."""
    if not isinstance(one, ExposureEvent):
        return None
    found = live.all.get(one.experiment)
    if found is None or found.running.run != run:
        return f"experiment {one.experiment!r} was not started in run {run!r}"
    if one.arm not in found.split.arms:
        return f"arm {one.arm!r} is not in {one.experiment}, must be one of {', '.join(found.split.arms)}"
    return None
