"""Channels against real servers: what they get, what becomes of it, and what is never told."""

import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from armlift import __version__
from armlift.lab import Lab, init_lab
from armlift.nightly import AlertSettings, EmailSettings
from armlift_pipelines.channels import Delivery, Message, Secrets, channels, deliver

AT = 1_764_115_200_999
TEXT = "retrain of Größe fehlgeschlagen ✗"
MESSAGE = Message("failure", "nightly/2026-11-26", TEXT, {"step": "retrain"}, AT)
Servers = Callable[..., AbstractContextManager[Any]]


def email(server: str, **chosen: Any) -> AlertSettings:
    told = {"server": server, "sender": "armlift@example.org", "to": ["ada@example.org"]} | chosen
    return AlertSettings(email=EmailSettings.model_validate(told))


def done(settings: AlertSettings, message: Message = MESSAGE, **chosen: Any) -> Delivery:
    (channel,) = channels(settings, timeout=chosen.pop("timeout", 5.0)).values()
    return deliver(channel, message, **{"backoff": 0.01} | chosen)


def test_a_webhook_gets_one_document(webhook: Servers) -> None:
    with webhook(204) as server:
        assert done(AlertSettings(webhook=server.url)) == ("ok", False)
    assert server.got == [
        {
            "armlift": __version__,
            "kind": "failure",
            "subject": "nightly/2026-11-26",
            "text": TEXT,
            "details": {"step": "retrain"},
            "at": "2025-11-26T00:00:00+00:00",
        }
    ]
    assert server.headers[0]["Content-Type"] == "application/json"


def test_a_webhook_that_fails_is_asked_again_and_one_that_refuses_is_not(webhook: Servers) -> None:
    for answers, outcome, asked in (
        ((500, 200), "ok", 2),
        ((503, 502, 500), "failed: HTTP 500", 3),
        ((400, 200), "failed: HTTP 400", 1),
        ((302, 200), "failed: HTTP 302", 1),
    ):
        with webhook(*answers) as server:
            assert done(AlertSettings(webhook=server.url)).outcome == outcome
        assert len(server.got) == asked, answers


def test_it_waits_twice_as_long_each_time(webhook: Servers) -> None:
    with webhook(500, 500, 200) as server:
        start = time.monotonic()
        assert done(AlertSettings(webhook=server.url), backoff=0.1).outcome == "ok"
        assert 0.3 <= time.monotonic() - start < 2


def test_a_webhook_that_hangs_is_given_up(webhook: Servers) -> None:
    with webhook(0) as server:
        found = done(AlertSettings(webhook=server.url), timeout=0.2, tries=2)
    assert found.outcome.startswith("failed: ReadTimeout")
    assert found.unreached
    assert len(server.got) == 2


def test_a_webhook_that_is_not_there_or_no_url_is_a_failure_of_one_line(closed_port: int) -> None:
    gone = done(AlertSettings(webhook=f"http://127.0.0.1:{closed_port}/a"), tries=2)
    assert gone.outcome.startswith("failed: ConnectError")
    for url in ("http://[::1", "https:///"):
        found = done(AlertSettings(webhook=url), backoff=3)
        assert found.outcome.startswith("failed: ")
        assert found.refused, "asking again would be of no use"


def test_a_webhooks_url_is_no_ones_to_read(webhook: Servers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with webhook(200) as server:
        url = server.url.replace("http://", "http://ada:pa55%2Fword@") + "s/T0123/B4567/key"
        settings = AlertSettings(webhook=url)
        assert done(settings).outcome == "ok"
    assert server.headers[0]["Authorization"].startswith("Basic ")
    for secret in ("pa55", "T0123"):
        assert secret not in caplog.text
    hidden = Secrets(settings).hide(f"asked {url} by pa55/word, or /hooks/T0123/B4567/key at host")
    assert hidden == "asked *** by ***, or *** at host"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql+psycopg://ada:pw@db/x is down", "postgresql+psycopg://***@db/x is down"),
        ("s3://key:sec@bucket", "s3://***@bucket"),
        ("host=db password=hunter2 user=ada", "host=db password=*** user=ada"),
        ("https://h/p?token=abc&x=1", "https://h/p?token=***&x=1"),
        ("mail ada@example.org, see http://h/a@b", "mail ada@example.org, see http://h/a@b"),
    ],
)
def test_secrets_of_others_are_hidden_too(text: str, hidden: str) -> None:
    assert Secrets(AlertSettings()).hide(text) == hidden


def test_a_short_password_stars_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = email("h:25", password="a")
    assert Secrets(settings).hide("a banana") == "a banana"
    monkeypatch.setenv("ARMLIFT_SMTP_PASSWORD", "banana")
    assert Secrets(settings).hide("a banana") == "a ***"


def test_a_mail_is_whole(mail_server: Servers) -> None:
    with mail_server() as (server, box):
        message = MESSAGE._replace(
            subject="nightly\r\nBcc: eve@example.org", details={"Größe": 3, "list": [1]}
        )
        assert done(email(server, to=["ada@example.org", "bo@example.org"]), message) == ("ok", False)
    (mail,) = box.mails
    assert box.rcpt_tos == [["ada@example.org", "bo@example.org"]]
    assert mail["Subject"] == "[armlift] failure: nightly Bcc: eve@example.org"
    assert mail["Bcc"] is None
    assert (mail["From"], mail["To"]) == ("armlift@example.org", "ada@example.org, bo@example.org")
    assert mail["Date"] == "Wed, 26 Nov 2025 00:00:00 +0000"
    assert mail["Message-ID"].endswith("@example.org>")
    text = mail.get_content()
    assert text.splitlines()[0] == TEXT
    assert "Größe: 3" in text
    assert "list: [1]" in text
    assert f"armlift {__version__}, 2025-11-26T00:00:00+00:00" in text


def test_a_subject_that_is_not_ascii_comes_whole(mail_server: Servers) -> None:
    with mail_server() as (server, box):
        assert done(email(server), MESSAGE._replace(subject="Übung/推荐")).outcome == "ok"
    assert box.mails[0]["Subject"] == "[armlift] failure: Übung/推荐"


def test_refused_recipients_are_named(mail_server: Servers) -> None:
    with mail_server() as (server, box):
        some = done(email(server, to=["nobody@example.org", "ada@example.org"]))
        assert some == ("ok, but refused: nobody@example.org (550)", False)
        none = done(email(server, to=["nobody@example.org"]), backoff=3)
        assert none == ("failed: all recipients refused: nobody@example.org (550)", True)
        busy = done(email(server, to=["busy@example.org"]))
        assert busy == ("failed: all recipients refused: busy@example.org (450)", False)
    assert len(box.mails) == 1


def test_a_mail_server_that_is_not_there_is_a_failure(closed_port: int) -> None:
    gone = done(email(f"127.0.0.1:{closed_port}"))
    assert gone.outcome.startswith("failed: ConnectionRefusedError")
    assert gone.unreached
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = done(email(f"127.0.0.1:{silent.getsockname()[1]}"), timeout=0.2, tries=1)
    assert hangs.outcome.endswith("timed out")
    assert done(email("127.0.0.1:99999"), tries=1).outcome.startswith("failed: ")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", made[0], "-keyout", made[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@contextmanager
def secure_server(mail_server: Servers, certificate: tuple[Path, Path]) -> Iterator[tuple[str, Any]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def knows(_server: object, _session: object, _envelope: object, _way: str, given: Any) -> AuthResult:
        asked = LoginPassword(b"ada", b"hunter2-long")
        right = isinstance(given, LoginPassword) and given == asked
        return AuthResult(success=right, handled=False)

    chosen = {"tls_context": context, "require_starttls": True, "auth_required": True}
    with mail_server(authenticator=knows, **chosen) as found:
        yield found


def test_starttls_and_login(
    mail_server: Servers, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with secure_server(mail_server, certificate) as (server, box):
        untrusted = done(email(server, starttls=True), backoff=3)
        assert untrusted.outcome.startswith("failed: SSLCertVerificationError")
        assert untrusted.refused
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        plain = done(email(server), backoff=3)
        assert plain.outcome.startswith("failed: SMTPSenderRefused: (530")
        wrong = done(email(server, starttls=True, user="ada", password="hunter2-wrong"), backoff=3)
        assert wrong.outcome.startswith("failed: SMTPAuthenticationError: (535")
        assert "hunter2" not in wrong.outcome
        monkeypatch.setenv("ARMLIFT_SMTP_PASSWORD", "hunter2-long")
        assert done(email(server, starttls=True, user="ada", password="hunter2-wrong")).outcome == "ok"
    assert len(box.mails) == 1


def test_the_password_variable_is_no_setting_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_lab(tmp_path / "lab")
    monkeypatch.setenv("ARMLIFT_SMTP_PASSWORD", "x")
    assert Lab(tmp_path / "lab").nightly.alerts.email is None
