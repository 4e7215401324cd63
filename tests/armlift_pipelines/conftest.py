"""Fixtures of nights: servers that alerts are told to, a lab with some days of events, an arm that fails."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from databases import free_port
from sqlalchemy import Engine
from walkers import fill, make_lab

from armlift.lab import Lab

HANG = 0
"""The answer of a server that gives none."""


class Server(ThreadingHTTPServer):
    """A webhook that gives these answers in turn, the last one for ever, and keeps what it got."""

    def __init__(self, *answers: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [*answers]
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.server.headers.append(dict(self.headers))
        answers = self.server.answers
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == HANG:
            self.server.over.wait(20)
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_webhook(*answers: int) -> Iterator[Server]:
    with Server(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class Mailbox:
    """An SMTP server's handler that keeps mails; addresses that begin with `nobody` it does not know."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.rcpt_tos: list[list[str]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, _: Any) -> str:  # noqa: N802
        if address.startswith("nobody"):
            return "550 no such mailbox"
        if address.startswith("busy"):
            return "450 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.rcpt_tos.append(envelope.rcpt_tos)
        return "250 OK"


@contextmanager
def running_mail_server(**chosen: Any) -> Iterator[tuple[str, Mailbox]]:
    box, port = Mailbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port, **chosen)
    controller.start()
    try:
        yield f"127.0.0.1:{port}", box
    finally:
        controller.stop()


@pytest.fixture
def webhook() -> Callable[..., AbstractContextManager[Server]]:
    """Give what runs a webhook with these answers (0: it hangs); it has a `url` and what it `got`."""
    return running_webhook


@pytest.fixture
def mail_server() -> Callable[..., AbstractContextManager[tuple[str, Mailbox]]]:
    """Give what runs an SMTP server; it lends HOST:PORT and the mailbox."""
    return running_mail_server


@pytest.fixture
def closed_port() -> int:
    """Give a port of 127.0.0.1 where nobody listens."""
    return free_port()


FAULTY = '''
import os, time
import numpy as np
from armlift_arms.popularity import Popularity, PopularityConfig

class FaultyConfig(PopularityConfig):
    fault: str = "none"
    slow: float = 0.0

class Faulty(Popularity):
    """Popularity that fails while it is fitted, as its definition says."""
    config_class = FaultyConfig

    def fit(self, histories, items, *, until, warm=None):
        if until and self.config.slow:
            time.sleep(self.config.slow)
        if until and self.config.fault == "crash":
            raise ZeroDivisionError("by nothing")
        if until and self.config.fault == "abort":
            os.abort()
        if until and self.config.fault == "memory":
            kept = [bytearray(os.urandom(1024)) * 1024 for _ in range(4000)]
        super().fit(histories, items, until=until, warm=warm)
        if until and self.config.fault == "nan":
            self._learn(items, until, {"scores": np.full(len(items), np.nan)})
        if until and self.config.fault == "worst":
            self._learn(items, until, {"scores": -self._tensors["scores"]})
'''


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with the model `faulty`, for this process and those it starts."""
    site = tmp_path / "site"
    (site / "faulty-1.0.dist-info").mkdir(parents=True)
    (site / "faulty-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n"
    )
    (site / "faulty-1.0.dist-info" / "entry_points.txt").write_text(
        "[armlift.arms]\nfaulty = faulty_arm:Faulty\n"
    )
    (site / "faulty_arm.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    yield
    sys.modules.pop("faulty_arm", None)


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Lab:
    """Give a lab, its database that of the engine, with seven days of events and two arms."""
    folder = tmp_path / "lab"
    make_lab(folder)
    fill(engine)
    return Lab(folder, database=engine.url.render_as_string(hide_password=False))
