"""Channels: how alerts reach people, by a webhook or by e-mail, and what must not be told on the way.

A channel either takes a message, or raises NotTakenError with a reason that holds no secret. One that may
take it a little later is asked again; one that refused it is not.
"""

import logging
import os
import re
import smtplib
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import httpx

from armlift import __version__
from armlift.days import utc_text
from armlift.nightly import AlertSettings, EmailSettings

TIMEOUT = 10.0
"""Seconds a channel may take to answer each step."""
TRIES = 3
BACKOFF = 1.0
"""Seconds before the second try; the third waits twice as long."""
PASSWORD = "ARMLIFT_SMTP_PASSWORD"
"""The environment variable with the password of the SMTP server; it wins over the file's."""
OK = "ok"
FAILED = "failed: "
_LONGEST = 300
_KEY = 16
_USER_INFO = re.compile(r"(://)[^/?#@\s]+@")
_GIVEN = re.compile(r"(password|passwd|secret|token|api_?key)=[^&\s]+", re.IGNORECASE)


class Message(NamedTuple):
    """What is told: `at` is in UTC milliseconds, `details` are plain data."""

    kind: str
    subject: str
    text: str
    details: Mapping[str, Any]
    at: int

    def document(self) -> dict[str, Any]:
        """Give it as webhooks get it."""
        told = {"kind": self.kind, "subject": self.subject, "text": self.text, "details": dict(self.details)}
        return {"armlift": __version__, **told, "at": utc_text(self.at)}


class NotTakenError(Exception):
    """A channel did not take a message; `refused`: asking again is of no use."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Channel(Protocol):
    """A way to tell people."""

    def send(self, message: Message) -> str:
        """Hand over a message; gives what became of it, which begins with OK, or raises NotTakenError."""


class Secrets:
    """What must stand in no row, log or error: passwords, users in URLs, and the webhook, which is a key.

    Words under four characters are no secrets: texts without them could not be read.
    """

    def __init__(self, settings: AlertSettings) -> None:
        found = {_password(settings.email)} if settings.email else set()
        if settings.webhook:
            found |= {settings.webhook, *_parts(settings.webhook)}
        self._known = sorted((one for one in found if len(one) >= 4), key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Write *** in place of secrets."""
        for secret in self._known:
            text = text.replace(secret, "***")
        return _GIVEN.sub(r"\1=***", _USER_INFO.sub(r"\1***@", text))


def _parts(url: str) -> Iterator[str]:
    """Give the parts of a URL that are secret: its password, as written and as meant, and a long path."""
    try:
        parts = urlsplit(url)
        password = parts.password or ""
    except ValueError:  # it is none, which shows when it is asked
        return
    yield from (password, unquote(password))
    path = url.split(parts.netloc, 1)[1] if parts.netloc else ""
    if len(path) >= _KEY:
        yield path


class Webhook:
    """A URL that takes a JSON document by POST; what it answers is not read, only whether it took it."""

    def __init__(self, url: str, secrets: Secrets, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._secrets = secrets
        self._timeout = timeout

    def send(self, message: Message) -> str:
        """Post a message."""
        told = message.document()
        try:
            with (
                _silenced("httpx"),
                httpx.Client(timeout=self._timeout) as client,
                client.stream("POST", self._url, json=told) as answer,
            ):
                status = answer.status_code
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
            raise NotTakenError(self._reason(error), refused=True) from None
        except (httpx.HTTPError, OSError) as error:
            raise NotTakenError(self._reason(error)) from None
        if not 200 <= status < 300:
            raise NotTakenError(f"HTTP {status}", refused=status < 500)
        return OK

    def _reason(self, error: Exception) -> str:
        return _reason(error, self._secrets)


class Email:
    """An SMTP server; STARTTLS checks its certificate."""

    def __init__(self, settings: EmailSettings, secrets: Secrets, *, timeout: float = TIMEOUT) -> None:
        self._settings = settings
        self._secrets = secrets
        self._timeout = timeout

    def send(self, message: Message) -> str:
        """Send a message to all; those that the server refuses are named where it took others."""
        try:
            refused = self._send(_mail(message, self._settings))
        except smtplib.SMTPRecipientsRefused as error:
            lasting = all(code >= 500 for code, _ in error.recipients.values())
            told = f"all recipients refused: {_codes(error.recipients)}"
            raise NotTakenError(told, refused=lasting) from None
        except smtplib.SMTPResponseException as error:
            raise NotTakenError(self._reason(error), refused=error.smtp_code >= 500) from None
        except (smtplib.SMTPNotSupportedError, ValueError, OverflowError) as error:
            raise NotTakenError(self._reason(error), refused=True) from None
        except OSError as error:
            raise NotTakenError(self._reason(error)) from None
        return f"{OK}, but refused: {_codes(refused)}" if refused else OK

    def _reason(self, error: Exception) -> str:
        return _reason(error, self._secrets)

    def _send(self, mail: EmailMessage) -> Mapping[str, tuple[int, bytes]]:
        host, _, port = self._settings.server.rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=self._timeout) as server:
            if self._settings.starttls:
                server.starttls(context=ssl.create_default_context())
            if self._settings.user:
                server.login(self._settings.user, _password(self._settings))
            return server.send_message(mail)


def channels(settings: AlertSettings, *, timeout: float = TIMEOUT) -> dict[str, Channel]:
    """Give the channels that are set up, by name."""
    secrets = Secrets(settings)
    found: dict[str, Channel] = {}
    if settings.webhook:
        found["webhook"] = Webhook(settings.webhook, secrets, timeout=timeout)
    if settings.email:
        found["email"] = Email(settings.email, secrets, timeout=timeout)
    return found


class Delivery(NamedTuple):
    """What became of a message on a channel, and whether the channel refused it for good."""

    outcome: str
    refused: bool

    @property
    def unreached(self) -> bool:
        """Tell whether the channel could not be asked, or could not take anything just now."""
        return self.outcome.startswith(FAILED) and not self.refused


def deliver(channel: Channel, message: Message, *, tries: int = TRIES, backoff: float = BACKOFF) -> Delivery:
    """Hand a message over, and again after a while where that failed: `backoff` seconds, then twice that."""
    found = Delivery(f"{FAILED}not tried", False)
    for attempt in range(tries):
        if attempt:
            time.sleep(backoff * 2 ** (attempt - 1))
        try:
            return Delivery(channel.send(message), False)
        except NotTakenError as error:
            found = Delivery(f"{FAILED}{error}", error.refused)
            if error.refused:
                break
    return found


def _mail(message: Message, settings: EmailSettings) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = " ".join(f"[armlift] {message.kind}: {message.subject}".split())
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at // 1000, UTC))
    mail["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    details = [f"{name}: {value}" for name, value in message.details.items()]
    end = f"armlift {__version__}, {utc_text(message.at)}"
    mail.set_content("\n".join([message.text, "", *details, "", end]))
    return mail


def _password(settings: EmailSettings) -> str:
    return os.environ.get(PASSWORD) or settings.password.get_secret_value()


def _codes(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address} ({code})" for address, (code, _) in sorted(refused.items()))


def _reason(error: Exception, secrets: Secrets) -> str:
    text = " ".join(secrets.hide(f"{type(error).__name__}: {error}").split())
    return text[:_LONGEST]


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep a library from logging the URL it asks."""
    logger = logging.getLogger(name)

    def nothing(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
