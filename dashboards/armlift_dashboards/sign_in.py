"""Sign-in: by name and password, or by an OIDC provider, before anything of the lab is shown."""

import time
from importlib.util import find_spec

import streamlit as st

from armlift.errors import ArmliftError, InputError
from armlift.lab import Lab, find_lab
from armlift_dashboards import parts, passwords, tickets, who
from armlift_dashboards.source import open_lab
from armlift_dashboards.who import LEFT, TICKET, Person

_ATTEMPTS = passwords.Attempts()
_PROTECTED: set[str] = set()
"""Folders of labs that were seen to ask for sign-in."""
_COOKIE = """
export default ({ data }) => {
  document.cookie = data.cookie + (location.protocol === "https:" ? "; Secure" : "");
  if (data.leave) location.assign(location.pathname);
}
"""
_SET = "armlift-set-cookie"
_WRONG = "This name and password do not fit together."


def signed_in_name() -> str | None:
    """Give the name, or the e-mail address, of whoever is signed in; None where nobody needs to."""
    person = who.current()
    return None if person is None else person.name


def admit() -> bool:
    """Tell whether whoever looks may see the lab; else show how to sign in, and nothing else.

    Raises InputError where the settings, or what sign-in needs, are wrong.
    """
    lab = _lab()
    if st.session_state.get(LEFT) == "now":
        st.session_state[LEFT] = "done"
        _cookie(tickets.cookie_name(tickets.secret_of(lab)), "", 0, leave=True)
        return False
    person = who.current()
    if person is None:
        _ask(lab)
        return False
    if person.name is not None:
        _head(lab, person)
    return True


def _lab() -> Lab:
    """Open the lab; where people sign in, nobody who has not is told what is wrong with its settings."""
    folder = str(find_lab(None).resolve())
    try:
        lab = open_lab()
    except ArmliftError as error:
        if folder in _PROTECTED:
            raise InputError("the lab's settings cannot be read: ask whoever runs these pages") from error
        raise
    if lab.settings.dashboard.sign_in != "none":
        _PROTECTED.add(folder)
    return lab


def _ask(lab: Lab) -> None:
    st.title("Sign in", anchor=False)
    if lab.settings.dashboard.sign_in == "oidc":
        _ask_provider()
    else:
        _ask_password(lab)


def _ask_password(lab: Lab) -> None:
    with st.form("sign-in", width=420, enter_to_submit=True):
        name = st.text_input("Name", autocomplete="username", max_chars=200)
        password = st.text_input("Password", type="password", autocomplete="current-password", max_chars=1000)
        asked = st.form_submit_button("Sign in", type="primary")
    if asked:
        complaint = _try(lab, name or "", password or "")
        if complaint is None:
            st.rerun()
        parts.failed(complaint)


def _try(lab: Lab, name: str, password: str) -> str | None:
    """Sign in, or say in a line why not: the same for a wrong name as for a wrong password."""
    settings, secret = lab.settings.dashboard, tickets.secret_of(lab)
    hashes = {one: found.get_secret_value() for one, found in settings.passwords.items()}
    with _ATTEMPTS.lock:
        wait = _ATTEMPTS.wait(name, time.monotonic())
        if wait > 0:
            return f"Too many attempts: try again in {int(wait) + 1} seconds."
        fits = passwords.right(hashes, name, password)
        role = who.role_of(settings, name) if fits else None
        if role is None:
            _ATTEMPTS.failed(name, time.monotonic())
            return _WRONG
        _ATTEMPTS.passed(name)
    ticket = tickets.Ticket(name, role, int(time.time()) + tickets.VALID)
    st.session_state[TICKET] = tickets.sign(ticket, secret, hashes[name])
    st.session_state[_SET] = True
    return None


def _ask_provider() -> None:
    if find_spec("authlib") is None:
        raise InputError("dashboard.sign_in is oidc, which needs Authlib: pip install 'armlift[oidc]'")
    if not provider_is_known():
        raise InputError("dashboard.sign_in is oidc, but no .streamlit/secrets.toml has a part [auth]")
    user = st.user.to_dict()
    address = who.provider_address()
    if address is not None:
        parts.forbidden(f"{address} may not look at this lab. Ask its owners, or sign in as somebody else.")
    elif user.get("is_logged_in") is True:
        parts.stale("Your session has ended, or your e-mail address is not verified: sign in again.")
    if user.get("is_logged_in") is True:
        st.button("Sign out", on_click=st.logout)
    else:
        st.button("Sign in with your organisation's account", type="primary", on_click=st.login)


def provider_is_known() -> bool:
    """Tell whether Streamlit's secrets name an OIDC provider."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False


def _head(lab: Lab, person: Person) -> None:
    """Show who is signed in, small and at the top, with the way out."""
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.text(f"{person.name}, {person.role}", width="content")
        if lab.settings.dashboard.sign_in == "oidc":
            st.button("Sign out", type="tertiary", on_click=st.logout)
        else:
            st.button("Sign out", type="tertiary", on_click=_leave, args=(lab,))
    if st.session_state.pop(_SET, False):
        name = tickets.cookie_name(tickets.secret_of(lab))
        _cookie(name, st.session_state[TICKET], tickets.VALID, leave=False)


def _leave(lab: Lab) -> None:
    text = who.ticket_text(tickets.secret_of(lab))
    if text is not None:
        who.revoke(text, time.time())
    st.session_state.pop(TICKET, None)
    st.session_state[LEFT] = "now"


def _cookie(name: str, value: str, seconds: int, *, leave: bool) -> None:
    """Let the browser keep a cookie, or forget it, and then load the page anew."""
    component = st.components.v2.component("armlift_cookie", html="<span></span>", js=_COOKIE)
    cookie = f"{name}={value}; Max-Age={seconds}; Path=/; SameSite=Strict"
    component(data={"cookie": cookie, "leave": leave}, key="armlift-cookie")
