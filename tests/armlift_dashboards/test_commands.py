"""`armlift dashboard` and `armlift password` as processes: what they refuse, show, hide and leave behind."""

import io
import os
import pty
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import create_engine, make_url, text

from armlift.cli import run
from armlift.lab import Lab, init_lab
from armlift.store.database import connect, open_database, upgrade
from armlift_dashboards.passwords import right

Command = Callable[..., Any]
SECRET = "hush-hush"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Give the one line of a call that is refused with exit code 2."""
    capsys.readouterr()
    assert run(list(map(str, words))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("armlift: ").strip()


def test_what_cannot_be_shown_is_refused_in_a_line(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "dashboard", "--lab", tmp_path)
    assert line.startswith(f"{tmp_path}: is not a lab")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        line = refused(capsys, "dashboard", "--lab", lab.folder, "--port", str(port))
    assert line == f"--port {port}: 127.0.0.1:{port} cannot be used: Address already in use"
    line = refused(capsys, "dashboard", "--lab", lab.folder, "--address", "not an address")
    assert line.startswith("--port 8501: not an address:8501 cannot be used: ")
    assert refused(capsys, "dashboard", "--lab", lab.folder, "--port", "0").startswith("--port: ")


def test_an_old_schema_and_an_unreachable_database_are_refused_without_the_password(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = connect(lab.settings.database_url, lab.folder)
    upgrade(engine, "0005")
    engine.dispose()
    line = refused(capsys, "dashboard", "--lab", lab.folder)
    assert "has schema 0005" in line
    assert line.endswith("run `armlift db upgrade`")
    for url in (
        f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/none",
        f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:x/none",
        f"postgresql+psycopg://ann@127.0.0.1:1/none?password={SECRET}",
        f"mysql://ann:{SECRET}@127.0.0.1/none",
    ):
        assert SECRET not in refused(capsys, "dashboard", "--lab", lab.folder, "--database", url)


def test_it_starts_without_a_database_fills_when_there_is_one_and_ends_by_ctrl_c(
    lab: Lab, command: Command, page: Page
) -> None:
    before = set(lab.folder.rglob("*"))
    with command(lab.folder) as (address, server, log):
        page.goto(address)
        expect(page.get_by_text("has no database yet")).to_be_visible()
        assert set(lab.folder.rglob("*")) == before
        open_database(lab, create=True).dispose()
        page.wait_for_timeout(10_500)  # the lab is looked at anew every ten seconds
        page.goto(f"{address}/planner")
        expect(page.get_by_text("Plan from")).to_be_visible()
        children = psutil.Process(server.pid).children(recursive=True)
        page.goto("about:blank")  # which would miss its server
        server.send_signal(signal.SIGINT)
        assert server.wait(15) in (0, 130)
        assert not [one for one in children if one.is_running()]
        assert "Traceback" not in log.read_text()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(address.rpartition(":")[2])))


@pytest.mark.parametrize(("address", "warns"), [("0.0.0.0", True), ("localhost", False)])
def test_everybody_on_the_network_is_warned_of_in_a_line(
    lab: Lab, command: Command, address: str, warns: bool
) -> None:
    with command(lab.folder, "--address", address) as (_, _, log):
        said = log.read_text()
    assert said.count("whoever reaches it sees everything, as dashboard.sign_in is none") == warns


def test_postgresql_works_and_its_password_is_in_no_process_list(
    lab: Lab, command: Command, page: Page, postgresql_url: str, postgresql_template: str
) -> None:
    admin = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE looker LOGIN SUPERUSER PASSWORD '{SECRET}'"))
    url = make_url(postgresql_url).set(username="looker", password=SECRET, database=postgresql_template)
    try:
        given = url.render_as_string(hide_password=False)
        with command(lab.folder, "--database", given) as (address, server, log):
            page.goto(f"{address}/planner")
            expect(page.get_by_text("Plan from")).to_be_visible()
            one = psutil.Process(server.pid)
            lines = [" ".join(p.cmdline()) for p in (one, *one.children(recursive=True))]
            assert lines
            assert SECRET not in " ".join(lines) + log.read_text() + page.content()
            page.goto("about:blank")
    finally:
        with admin.connect() as connection:
            connection.execute(text("DROP ROLE looker"))
        admin.dispose()


def test_a_database_that_goes_away_is_a_line_without_the_password(
    lab: Lab, serve: Command, page: Page
) -> None:
    url = f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/none"
    with serve(lab.folder, ARMLIFT_DATABASE_URL=url) as address:
        page.goto(address)
        expect(page.get_by_text("cannot be read")).to_be_visible()
        expect(page.get_by_text("ann:***@127.0.0.1:1/none")).to_be_visible()
        assert SECRET not in page.content()
        page.goto("about:blank")
    logs = [one.read_text() for one in lab.folder.parent.glob("pages-*.log")]
    assert logs
    assert SECRET not in "".join(logs)


def test_a_password_from_stdin_becomes_a_line_of_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "Ann Lee", 'a"b'):
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
        assert run(["password", name]) == 0
        out, err = capsys.readouterr()
        hashes = tomllib.loads(f"[dashboard.passwords]\n{out}")["dashboard"]["passwords"]
        assert right(hashes, name, "correct horse battery")
        assert "horse" not in out + err
    monkeypatch.setattr("sys.stdin", io.StringIO("too short\n"))
    assert refused(capsys, "password", "ann") == "the password has 9 characters, must have at least 12"
    assert refused(capsys, "password", "a\nb").startswith("NAME 'a\\nb': must be ")


def test_a_password_is_asked_for_twice_and_never_shown() -> None:
    leader, follower = pty.openpty()
    code = "from armlift.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "password", "ann"],
        stdin=follower, stdout=subprocess.PIPE, stderr=follower, start_new_session=True,
    ) as asked:  # fmt: skip
        os.close(follower)
        said = ""
        for prompt in ("Password: ", "Again: "):
            while prompt not in said:  # the space comes once what is typed is hidden
                said += os.read(leader, 1000).decode()
            os.write(leader, b"correct horse battery\n")
        assert asked.stdout is not None
        out = asked.stdout.read().decode()
        assert asked.wait(30) == 0
    os.close(leader)
    assert "horse" not in said + out
    hashes = tomllib.loads(out)
    assert right(hashes, "ann", "correct horse battery")
