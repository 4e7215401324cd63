"""POST /v1/recommend and GET /v1/assignments/{unit}: what a unit is shown, and which arm it gets."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import TypeAdapter, ValidationError

from armlift.api.errors import RefusedError
from armlift.api.models import (
    AssignmentAnswer,
    AssignmentsAnswer,
    Context,
    RecommendAnswer,
    Recommended,
    RecommendRequest,
    Text,
)
from armlift.api.samples import RECOMMEND, errors
from armlift.arm import Name
from armlift.complaints import choices
from armlift.days import utc_now
from armlift.errors import InputError
from armlift.events import request_identity, request_time
from armlift.keys import Key
from armlift.serving.live import Live
from armlift.serving.recommender import Answer, Wanted
from armlift.serving.service import Service
from armlift.splitter import Assignment

HOUR_MS = 3_600_000
SIMULATE = "simulate"
"""The scope of keys that may name times far from now."""
_CONTEXT: TypeAdapter[Context] = TypeAdapter(Context)


def routes(service: Service) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1")

    @router.post("/recommend", tags=["recommend"], responses=errors(401, 403, 404, 413, 422, 429, 503))
    async def recommend(
        request: Request, asked: Annotated[RecommendRequest, Body(openapi_examples=RECOMMEND)]
    ) -> RecommendAnswer:
        """Give a unit its slate. Its first meeting with an arm is kept as an exposure before this answers."""
        request_id = _request_id(asked.request_id, request.state.key)
        if asked.experiment is not None:
            live: Live | None = _live(service, asked.experiment)
        else:
            live = _of_layer(service, str(asked.layer), asked.unit_id)
        if asked.force is not None and live is not None and asked.force not in live.split.arms:
            raise InputError(f"force: {asked.force!r} {choices(asked.force, live.split.arms)}")
        wanted = Wanted(
            asked.unit_id, live, request_id, request_time(request_id), asked.k, asked.context, asked.force
        )
        return _answer(await service.recommender.recommend(wanted))

    @router.get("/assignments/{unit:path}", tags=["assignments"], responses=errors(401, 403, 404, 422, 429))
    async def assignments(
        unit: Annotated[Text, Path()],
        experiment: Annotated[Name | None, Query(description="Of this one; absent: of all.")] = None,
        context: Annotated[
            str | None, Query(max_length=20_000, description="Attributes, as a JSON object.")
        ] = None,
    ) -> AssignmentsAnswer:
        """Tell which arm a unit gets, without exposing it."""
        some = [*service.live.all.values()] if experiment is None else [_live(service, experiment)]
        now, given = utc_now(), {} if context is None else _context(context)
        found = [
            _assignment(unit, live, await service.recommender.assign(unit, live, now, given))
            for live in some
            if experiment is not None or live.running.state != "stopped"
        ]
        return AssignmentsAnswer(assignments=found)

    return router


def _live(service: Service, name: str) -> Live:
    found = service.live.all.get(name)
    if found is None:
        raise RefusedError(404, "not_found", f"experiment {name!r} was not started")
    return found


def _of_layer(service: Service, layer: str, unit: str) -> Live | None:
    if not service.live.has_layer(layer):
        raise RefusedError(404, "not_found", f"layer {layer!r} has no experiment that was started")
    return service.live.of_layer(layer, unit)


def _request_id(given: str | None, key: Key | None) -> str:
    """Name the request, or check the name it brings."""
    now = utc_now()
    if given is None:
        return request_identity(now, secrets.token_hex(16))
    if given[12] != "7" or given[16] not in "89ab":
        raise InputError(f"request_id: {given!r} is no UUIDv7, must be one in 32 hexadecimal digits")
    far = abs(request_time(given) - now) > HOUR_MS
    if far and key is not None and SIMULATE not in key.scopes:
        raise InputError(
            f"request_id: its time {request_time(given)} is more than an hour from now, must not be, or the "
            f"key needs the scope {SIMULATE}"
        )
    return given


def _context(text: str) -> Context:
    try:
        return _CONTEXT.validate_json(text)
    except ValidationError as error:
        raise InputError(
            f"context: {error.errors()[0]['msg']}, must be a JSON object of texts, numbers, true or false"
        ) from error


def _assignment(unit: str, live: Live, found: Assignment) -> AssignmentAnswer:
    return AssignmentAnswer(
        unit_id=unit,
        experiment=live.name,
        run=live.running.run,
        arm=found.arm,
        phase=found.phase,
        generation=found.generation,
        rule=found.rule,
        exposed=found.exposed,
    )


def _answer(found: Answer) -> RecommendAnswer:
    wanted, given, slate = found.wanted, found.assignment, found.slate
    columns = zip(slate.items, slate.steps, slate.scores, slate.propensities, strict=True)
    return RecommendAnswer(
        request_id=wanted.request_id,
        ts=wanted.ts,
        run=wanted.run,
        unit_id=wanted.unit,
        experiment=None if wanted.live is None else wanted.live.name,
        arm=given.arm,
        arm_version=found.version,
        phase=given.phase,
        generation=given.generation,
        rule=given.rule,
        exposed=given.exposed,
        exposure=None if found.exposure is None else found.exposure.event_id,
        fallback=found.fallback,
        items=[
            Recommended(
                item_id=item,
                position=position,
                step=int(step),
                score=float(score),
                propensity=None if propensity is None else float(propensity),
            )
            for position, (item, step, score, propensity) in enumerate(columns)
        ],
    )
