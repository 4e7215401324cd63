"""Serve an application with uvicorn until a signal ends it."""

import logging
import signal
import socket
from collections.abc import Callable

import uvicorn

from armlift.api.app import make_app
from armlift.errors import InputError
from armlift.serving.service import Service

DRAIN_SECONDS = 10
"""Seconds for which requests in flight are answered when it ends."""
BACKLOG = 2_048


def serve(service: Service, listening: socket.socket, *, say: Callable[[str], None]) -> None:
    """Answer at an address that `listen` gave; returns after SIGTERM, when all that was accepted is kept.

    Raises what the service raises at its start.
    """
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        make_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=BACKLOG,
    )
    server = _Server(
        config, lambda: say(f"armlift answers at {address}; what it takes: {address}/openapi.json")
    )

    def ended(_number: int, _frame: object) -> None:
        server.should_exit = True

    def expected(_record: logging.LogRecord) -> bool:
        return service.failure is None

    log = logging.getLogger("uvicorn.error")
    # What the service raised at its start is for the caller to tell, uvicorn would tell it as a traceback.
    log.addFilter(expected)
    # Uvicorn raises the signal that ended it once more, for whoever was there before.
    before = signal.signal(signal.SIGTERM, ended)
    try:
        server.run(sockets=[listening])
    except SystemExit:
        if service.failure is None:
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
        log.removeFilter(expected)
        listening.close()
    if service.failure is not None:
        raise service.failure


class _Server(uvicorn.Server):
    """A server that tells when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def listen(host: str, port: int) -> socket.socket:
    """Take an address; raises InputError for one that cannot be listened at."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: cannot be listened at ({error.strerror or error})"
        ) from error
    return found
