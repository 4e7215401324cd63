"""What operators ask: whether it lives, whether it can answer, and its figures."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from armlift.api.models import Health
from armlift.api.samples import errors
from armlift.serving.service import Service

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus's text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}

_HEALTH: dict[int | str, dict[str, Any]] = {
    200: {"model": Health, "description": "It can answer."},
    503: {"model": Health, "description": "It cannot answer yet."},
}


def routes(service: Service) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", responses=errors(429))
    async def healthz() -> Health:
        """Say that the process lives."""
        return Health(status="ok", reasons=[])

    @router.get("/readyz", responses=_HEALTH | errors(429))
    async def readyz() -> Response:
        """Say whether it can answer; `degraded`, and why, where it can but something is amiss.

        Where keys are asked for, anybody learns which part it is, and the log has the rest.
        """
        reasons = service.reasons()
        if service.keys is not None:
            reasons = list(dict.fromkeys(reason.partition(":")[0] for reason in reasons))
        if not service.live.read:
            return _health("unavailable", ["experiments were not read yet", *reasons], 503)
        return _health("degraded" if reasons else "ok", reasons, 200)

    @router.get("/metrics", responses=_TEXT | errors(401, 403, 429), response_class=Response)
    async def metrics() -> Response:
        """Give the figures for Prometheus."""
        _look(service)
        return Response(generate_latest(service.figures.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _health(status: Any, reasons: list[str], code: int) -> JSONResponse:
    return JSONResponse(Health(status=status, reasons=reasons).model_dump(), code)


def _look(service: Service) -> None:
    """Look up the figures that others count."""
    for part, figures in (
        ("outbox", service.outbox.figures),
        ("units", service.units.figures),
        ("follower", service.follower.figures),
    ):
        for name, value in figures._asdict().items():
            if isinstance(value, int | float):
                says = f"{part}: {name.replace('_', ' ')}."
                service.figures.gauge(f"{part}_{name}", says, float(value))
    told = service.told
    service.figures.gauge("attributes_waiting", "Attributes of units yet to be written.", float(told.waiting))
    service.figures.gauge("attributes_dropped", "Attributes that found no room.", float(told.dropped))
    service.figures.gauge("items", "Items with availability or attributes.", float(len(service.catalogue)))
    service.figures.gauge("ready", "1: nothing is amiss.", float(not service.reasons()))
