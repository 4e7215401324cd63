"""Tickets: who is signed in, as a signed text that a browser keeps."""

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from armlift.errors import InputError
from armlift.lab import Lab
from armlift.settings import PREFIX

SECRET_FILE = ".dashboard-secret"
VALID = 12 * 3600
"""Seconds that a ticket holds."""


class Ticket(NamedTuple):
    """Who is signed in in which role, until when (UTC seconds)."""

    name: str
    role: str
    until: int


def sign(ticket: Ticket, secret: bytes, binding: str) -> str:
    """Write a ticket; `binding` is what it dies with where it changes, such as the password's hash."""
    payload = json.dumps([*ticket, secrets.token_hex(8)], ensure_ascii=False).encode()
    return f"{_text(payload)}.{_text(_seal(payload, secret, binding))}"


def claimed(text: str) -> Ticket | None:
    """Read what a text claims, which is not to be believed yet; None where it is no ticket."""
    try:
        name, role, until, _ = json.loads(_bytes(text.partition(".")[0]))
    except (ValueError, TypeError, binascii.Error):
        return None
    if not (isinstance(name, str) and isinstance(role, str) and isinstance(until, int)):
        return None
    return Ticket(name, role, until)


def verify(text: str, secret: bytes, binding: str, now: float) -> Ticket | None:
    """Give a ticket that was signed with this secret and binding and has not ended at `now`, else None."""
    found = claimed(text)
    payload, _, seal = text.partition(".")
    try:
        right = hmac.compare_digest(_bytes(seal), _seal(_bytes(payload), secret, binding))
    except (ValueError, binascii.Error):
        return None
    return found if right and found is not None and now < found.until else None


def secret_of(lab: Lab) -> bytes:
    """Give the secret of a lab's settings, else the one kept in the lab, which is made where there is none.

    Raises InputError where it can neither be read nor made.
    """
    given = lab.settings.dashboard.secret.get_secret_value()
    if given:
        return given.encode()
    path = lab.folder / SECRET_FILE
    try:
        _make(path)
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{SECRET_FILE}: cannot be kept in the lab, whose folder must be writable, or set "
            f"{PREFIX}DASHBOARD__SECRET"
        ) from error
    if len(found) < 32:
        raise InputError(f"{SECRET_FILE}: is damaged, delete it: everybody signs in again")
    return found.encode()


def _make(path: Path) -> None:
    """Make the secret's file, whole or not at all; one that is there stays."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    try:
        os.link(draft, path)  # refuses where another process was faster
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def cookie_name(secret: bytes) -> str:
    """Name the cookie: browsers keep one jar for all ports, so each lab has a name of its own."""
    return f"armlift_{hashlib.sha256(b'name' + secret).hexdigest()[:12]}"


def _seal(payload: bytes, secret: bytes, binding: str) -> bytes:
    return hmac.digest(secret, payload + b"\0" + binding.encode(), "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
