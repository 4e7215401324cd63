"""The application: routes over one service, behind the guards."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from armlift import __version__
from armlift.api import answers, errors, events, experiments, items, operations
from armlift.api.description import describe
from armlift.api.guards import Guards
from armlift.serving.service import Service

DESCRIPTION = """Recommendations by the arms of running experiments, and the events of what units do.

A request is answered by the unit's arm; its first meeting with it is kept as an exposure. What was shown and
what the unit did comes back as events, which are the same however often they are sent.
"""
OPEN = ("/healthz", "/readyz", "/openapi.json")
"""What anybody may ask."""
_SCOPES = {
    "/v1/events": "events",
    "/v1/assignments": "assignments",
    "/v1/items": "items",
    "/metrics": "metrics",
}
OTHER = "other"
"""The route of requests for what there is not."""


def make_app(service: Service) -> FastAPI:
    """Make the application of a service, which starts and ends with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="armlift",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        # A redirect would name whatever host the request did.
        redirect_slashes=False,
        lifespan=lifespan,
    )
    for part in (answers, events, experiments, items, operations):
        app.include_router(part.routes(service))
    errors.add_handlers(app)
    describe(app, scope_of, keys=service.keys is not None)
    app.add_middleware(Guards, key_ring=service.keys, scopes_of=scope_of, settings=service.settings)
    # Outermost, so that what the guards refuse is counted too.
    app.add_middleware(Measured, service=service)
    return app


def scope_of(method: str, path: str) -> str | None:
    """Name the scope a request needs, also one for what there is not; None where anybody may ask."""
    if path in OPEN:
        return None
    if path.startswith("/v1/experiments"):
        return "experiments" if method == "POST" else "assignments"
    return next((scope for prefix, scope in _SCOPES.items() if path.startswith(prefix)), "recommend")


class Measured:
    """Counts and times answers by route."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._figures = app, service.figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            self._figures.requests.labels(route, str(status)).inc()
            self._figures.seconds.labels(route).observe(time.monotonic() - started)
