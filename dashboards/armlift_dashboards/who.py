"""Who looks at the pages, and what they may see."""

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import streamlit as st

from armlift.lab import Lab
from armlift.settings import DashboardSettings
from armlift_dashboards import tickets
from armlift_dashboards.source import open_lab

Role = Literal["owner", "viewer"]
TICKET, LEFT = "armlift-ticket", "armlift-left"
"""Where a session keeps its ticket, and that its cookie does not count any more."""
_REVOKED: dict[str, int] = {}
"""Tickets of people who signed out, and when they end anyway (UTC seconds)."""


class Person(NamedTuple):
    """Who looks: `name` is None where nobody signs in."""

    name: str | None
    role: Role


def role_of(settings: DashboardSettings, name: str) -> Role | None:
    """Give the role of a name (of an e-mail address, for oidc), None for somebody in neither list."""
    for role, listed in (("owner", settings.owners), ("viewer", settings.viewers)):
        if _is_one(name, listed, addresses=settings.sign_in == "oidc"):
            return "owner" if role == "owner" else "viewer"
    return None


def _is_one(name: str, listed: Sequence[str], *, addresses: bool) -> bool:
    if not addresses:
        return name in listed
    # An address has one @ and no star, so that `*@example.org` lets in no `a@b@example.org`.
    if name.count("@") != 1 or "*" in name:
        return False
    asked = _lower(name)
    return any(
        asked.endswith(_lower(one)[1:]) if one.startswith("*@") else asked == _lower(one) for one in listed
    )


def _lower(address: str) -> str:
    # Beyond ASCII, letters of different people's addresses may have one lower-case form.
    return address.lower() if address.isascii() else address


def current() -> Person | None:
    """Give who looks at the page that is being made, None where they have not signed in."""
    lab = open_lab()
    match lab.settings.dashboard.sign_in:
        case "none":
            return Person(None, "owner")
        case "password":
            return _by_ticket(lab)
        case "oidc":
            return _by_provider(lab.settings.dashboard)


def binding_of(settings: DashboardSettings, name: str) -> str | None:
    """Give what a name's tickets are bound to: a changed password ends them; None without one."""
    found = settings.passwords.get(name)
    return None if found is None else found.get_secret_value()


def ticket_text(secret: bytes) -> str | None:
    """Give this session's ticket: the one it got when it signed in, else the browser's cookie."""
    own = st.session_state.get(TICKET)
    if own is not None:
        return str(own)
    return None if st.session_state.get(LEFT) else st.context.cookies.get(tickets.cookie_name(secret))


def revoke(text: str, now: float) -> None:
    """Let a ticket count no more in this process, wherever it is kept."""
    for old in [one for one, until in _REVOKED.items() if until <= now]:
        del _REVOKED[old]
    found = tickets.claimed(text)
    if found is not None:
        _REVOKED[text] = found.until


def _by_ticket(lab: Lab) -> Person | None:
    settings, secret = lab.settings.dashboard, tickets.secret_of(lab)
    text = ticket_text(secret)
    claim = None if text is None else tickets.claimed(text)
    binding = None if claim is None else binding_of(settings, claim.name)
    if text is None or claim is None or binding is None or text in _REVOKED:
        return None
    ticket, role = tickets.verify(text, secret, binding, time.time()), role_of(settings, claim.name)
    # A role that has changed since needs a new ticket.
    return Person(ticket.name, role) if ticket and role and role == ticket.role else None


def _by_provider(settings: DashboardSettings) -> Person | None:
    address = provider_address()
    role = None if address is None else role_of(settings, address)
    return None if role is None else Person(address, role)


def provider_address() -> str | None:
    """Give the e-mail address that an OIDC provider vouches for, None where nobody has signed in lately."""
    user = st.user.to_dict()
    address, since = user.get("email"), user.get("iat")
    if user.get("is_logged_in") is not True or not isinstance(address, str):
        return None
    if user.get("email_verified") in (False, "false"):
        return None
    if isinstance(since, int | float) and time.time() - since > tickets.VALID:
        return None
    return address
