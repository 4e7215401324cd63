"""Sign-in by password and by a real OIDC provider, in a browser as people do it."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from playwright.sync_api import Browser, BrowserContext, Page, expect
from streamlit.testing.v1 import AppTest

from armlift.lab import VARIABLE, Lab, init_lab
from armlift_dashboards import source, tickets
from armlift_dashboards.passwords import hash_of

PASSWORD = "correct horse battery"
Serve = Callable[..., AbstractContextManager[str]]


def lab_of(folder: Path, text: str) -> Lab:
    init_lab(folder)
    file = folder / "armlift.toml"
    file.write_text(file.read_text().partition("[dashboard]")[0] + "[dashboard]\n" + text)
    return Lab(folder)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    hashed = hash_of(PASSWORD)
    return lab_of(
        tmp_path_factory.mktemp("signed") / "lab",
        'sign_in = "password"\nowners = ["ann"]\nviewers = ["bob"]\n'
        f'[dashboard.passwords]\nann = "{hashed}"\nbob = "{hashed}"\neve = "{hashed}"\n',
    )


@pytest.fixture(scope="module")
def pages(lab: Lab, serve: Serve) -> Iterator[str]:
    with serve(lab.folder) as address:
        yield address


def enter(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def cookies(context: BrowserContext) -> list[Any]:
    return [one for one in context.cookies() if one.get("name", "").startswith("armlift_")]


def test_nothing_is_shown_before_sign_in_and_the_session_survives_a_load(pages: str, page: Page) -> None:
    page.goto(f"{pages}/planner")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("has no database yet")).to_have_count(0)
    expect(page.get_by_role("link", name="Results")).to_have_count(0)
    enter(page, "ann", "wrong wrong wrong")
    wrong = page.get_by_text("This name and password do not fit together.")
    expect(wrong).to_be_visible()
    enter(page, "nobody", PASSWORD)
    expect(wrong).to_be_visible()
    enter(page, "eve", PASSWORD)
    expect(wrong).to_be_visible()
    enter(page, "ann", PASSWORD)
    expect(page.get_by_text("ann, owner")).to_be_visible()
    expect(page.get_by_role("heading", name="Planner")).to_be_visible()
    expect(page.get_by_text("has no database yet")).to_be_visible()
    page.wait_for_function("document.cookie.includes('armlift_')")
    (cookie,) = cookies(page.context)
    assert cookie["sameSite"] == "Strict"
    assert cookie["expires"] == pytest.approx(time.time() + 12 * 3600, abs=120)
    assert PASSWORD not in cookie["value"]
    page.goto(f"{pages}/traffic")
    expect(page.get_by_text("ann, owner")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.wait_for_function("!document.cookie.includes('armlift_')")
    page.context.add_cookies([cookie])  # somebody kept a copy
    page.goto(f"{pages}/traffic")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("how", ["forged", "expired", "risen", "another password"])
def test_a_cookie_that_was_not_given_here_is_refused(
    pages: str, lab: Lab, browser: Browser, how: str
) -> None:
    secret = tickets.secret_of(lab)
    binding = lab.settings.dashboard.passwords["bob"].get_secret_value()
    later = int(time.time()) + 600
    good = tickets.sign(tickets.Ticket("bob", "viewer", later), secret, binding)
    bad = {
        "forged": tickets.sign(tickets.Ticket("bob", "viewer", later), b"x" * 64, binding),
        "expired": tickets.sign(tickets.Ticket("bob", "viewer", later - 700), secret, binding),
        "risen": tickets.sign(tickets.Ticket("bob", "owner", later), secret, binding),
        "another password": tickets.sign(tickets.Ticket("bob", "viewer", later), secret, "old"),
    }[how]
    for value, heading in ((good, "Experiments"), (bad, "Sign in")):
        context = browser.new_context()
        context.add_cookies([{"name": tickets.cookie_name(secret), "value": value, "url": pages}])
        page = context.new_page()
        page.goto(pages)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        context.close()


def form(monkeypatch: pytest.MonkeyPatch, folder: Path) -> AppTest:
    monkeypatch.setenv(VARIABLE, str(folder))
    source.open_lab.clear()
    source.open_source.clear()

    def main() -> None:
        import streamlit as st

        from armlift_dashboards import parts, sign_in

        if sign_in.admit():
            st.markdown(f"{sign_in.signed_in_name()} {parts.may_see_details()}")

    return AppTest.from_function(main, default_timeout=30).run()


def try_name(test: AppTest, name: str, password: str) -> AppTest:
    test.text_input[0].set_value(name)
    test.text_input[1].set_value(password)
    return test.button[0].click().run()


@pytest.mark.parametrize(("name", "details"), [("ann", True), ("bob", False)])
def test_a_role_says_what_may_be_seen(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str, details: bool
) -> None:
    test = try_name(form(monkeypatch, lab.folder), name, PASSWORD)
    assert test.markdown[0].value == f"{name} {details}"
    assert test.text[0].value == f"{name}, {'owner' if details else 'viewer'}"


def test_guessing_has_to_wait_whether_a_name_is_known_or_not(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bob", "guess"):
        test = form(monkeypatch, lab.folder)
        for _ in range(5):
            assert try_name(test, name, "x").error[0].value == "This name and password do not fit together."
        right = try_name(test, name, PASSWORD)
        assert right.error[0].value.startswith("Too many attempts: try again in ")
        assert not right.markdown


def test_without_sign_in_everybody_is_an_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = form(monkeypatch, lab_of(tmp_path / "lab", "").folder)
    assert test.markdown[0].value == "None True"
    assert not test.button


def test_settings_that_break_are_not_told_to_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_of(tmp_path / "lab", 'sign_in = "password"\n')
    assert form(monkeypatch, lab.folder).title[0].value == "Sign in"
    (lab.folder / "armlift.toml").write_text('database_url = "secret-thing"\n')
    told = form(monkeypatch, lab.folder).exception[0].message
    assert told == "the lab's settings cannot be read: ask whoever runs these pages"


def test_oidc_that_is_not_set_up_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_of(tmp_path / "lab", 'sign_in = "oidc"\nowners = ["ann@example.org"]\n')
    monkeypatch.chdir(tmp_path)
    test = form(monkeypatch, lab.folder)
    assert "no .streamlit/secrets.toml has a part [auth]" in test.exception[0].message


class Provider(ThreadingHTTPServer):
    """An OIDC provider that lets everybody choose who they are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = RSAKey.generate_key(2048)
        self.codes: dict[str, dict[str, str]] = {}


class Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        url = self.server.url
        if parts.path == "/.well-known/openid-configuration":
            self.send({
                "issuer": url, "authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token",
                "jwks_uri": f"{url}/jwks", "end_session_endpoint": f"{url}/end",
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            })  # fmt: skip
        elif parts.path == "/jwks":
            public = self.server.key.as_dict(private=False)
            self.send({"keys": [{**public, "kid": "one", "alg": "RS256", "use": "sig"}]})
        elif parts.path == "/authorize":
            links = []
            for who in ("ann@example.org", "carl@example.org", "eve@other.net", "unverified@example.org"):
                code = secrets.token_hex(8)
                self.server.codes[code] = {**query, "email": who}
                back = urlencode({"code": code, "state": query["state"]})
                links.append(f'<p><a href="{query["redirect_uri"]}?{back}">{who}</a></p>')
            self.send("".join(links))
        elif parts.path == "/end":
            self.send_response(302)
            self.send_header("Location", query["post_logout_redirect_uri"])
            self.end_headers()
        else:
            self.send({}, 404)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        asked = self.server.codes.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        now = int(time.time())
        claims = {
            "iss": self.server.url, "sub": asked["email"], "aud": asked["client_id"], "iat": now,
            "exp": now + 600, "nonce": asked["nonce"], "email": asked["email"],
            "email_verified": not asked["email"].startswith("unverified"), "name": "Somebody",
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.server.key)
        self.send({"access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def send(self, body: object, status: int = 200) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/html; charset=utf-8" if isinstance(body, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as found:
        thread = Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_people_sign_in_by_a_provider_and_strangers_are_refused(
    provider: Provider, tmp_path: Path, browser: Browser, command: Callable[..., Any], port: int
) -> None:
    lab = lab_of(
        tmp_path / "lab",
        'sign_in = "oidc"\nowners = ["ann@example.org"]\nviewers = ["*@example.org"]\n',
    )
    (lab.folder / ".streamlit").mkdir()
    (lab.folder / ".streamlit" / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\ncookie_secret = "{"c" * 40}"\n'
        f'client_id = "armlift"\nclient_secret = "client-secret-of-the-lab"\n'
        f'server_metadata_url = "{provider.url}/.well-known/openid-configuration"\n'
    )
    with command(lab.folder, port=port) as (address, _, log):
        for who, role in (("ann@example.org", "owner"), ("carl@example.org", "viewer")):
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{address}/planner")
            expect(page.get_by_text("has no database yet")).to_have_count(0)
            page.get_by_role("button", name="Sign in with").click()
            page.get_by_role("link", name=who).click()
            expect(page.get_by_text(f"{who}, {role}")).to_be_visible()
            expect(page.get_by_text("has no database yet")).to_be_visible()
            page.goto(f"{address}/results")
            expect(page.get_by_text(f"{who}, {role}")).to_be_visible()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            context.close()
        for who, says in (
            ("eve@other.net", "eve@other.net may not look at this lab"),
            ("unverified@example.org", "your e-mail address is not verified"),
        ):
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            page.get_by_role("button", name="Sign in with").click()
            page.get_by_role("link", name=who).click()
            expect(page.get_by_text(says)).to_be_visible()
            expect(page.get_by_text("has no database yet")).to_have_count(0)
            context.close()
        assert "client-secret-of-the-lab" not in log.read_text()
