"""Errors of the API: one line of JSON, as the command line has one line of text."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from armlift.errors import InputError
from armlift.refreshing import line_of
from armlift.serving.recommender import UnavailableError
from armlift.serving.waiting import OutboxFullError

logger = logging.getLogger("armlift.api")
CODES = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}


class RefusedError(Exception):
    """A request that is refused: its status, a code for programs, and a line for people."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Write an error's answer."""
    line = " ".join(message.split())
    return JSONResponse({"error": {"code": code, "message": line}}, status, headers)


def add_handlers(app: FastAPI) -> None:
    """Have every error become one line."""

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> JSONResponse:
        return answer(error.status, error.code, str(error), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, "invalid", complaint(error))

    @app.exception_handler(InputError)
    async def wrong(_request: Request, error: InputError) -> JSONResponse:
        return answer(422, "invalid", str(error))

    @app.exception_handler(UnavailableError)
    async def unavailable(_request: Request, error: UnavailableError) -> JSONResponse:
        return answer(503, "unavailable", str(error), {"Retry-After": "1"})

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolTimeoutError)
    async def away(request: Request, error: Exception) -> JSONResponse:
        logger.warning("%s %s: the database: %s", request.method, request.url.path, line_of(error))
        return answer(503, "unavailable", "the database does not answer", {"Retry-After": "1"})

    @app.exception_handler(OutboxFullError)
    async def full(_request: Request, error: OutboxFullError) -> JSONResponse:
        return answer(429, "full", str(error), {"Retry-After": "5"})

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            return answer(422, "invalid", "the body cannot be read, must be JSON in UTF-8")
        code = CODES.get(error.status_code, "refused")
        return answer(error.status_code, code, str(error.detail), dict(error.headers or {}))


def complaint(error: RequestValidationError) -> str:
    """Say where the first thing is wrong and what it must be, and how many more there are."""
    found = error.errors()
    first = found[0]
    place = ".".join(str(step) for step in first["loc"][1:] if not str(step).startswith("function-"))
    text = str(first["msg"]).removeprefix("Value error, ")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{place}: {text}{more}" if place else f"{text}{more}"
