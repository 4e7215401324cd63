"""Serve an application with uvicorn until a signal ends it."""

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


def serve(service: Service, host: str, port: int, *, say: Callable[[str], None]) -> None:
    """Answer at an address; returns after SIGTERM, when all that was accepted is kept.

    Raises InputError for an address that cannot be listened at, and what the service raises at its start.
    """
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
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
    # Uvicorn raises the signal that ended it once more, for whoever was there before.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
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


def _listen(host: str, port: int) -> socket.socket:
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
