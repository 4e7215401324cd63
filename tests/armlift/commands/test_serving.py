"""The command serve: refuses in one line what cannot be served, and with --all runs all that a lab needs."""

import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from databases import free_port
from serving_lab import NAME, Answering, ready, serving, size_of, wait_for
from sqlalchemy import func, select

from armlift.client import Client
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift.store.tables import feedback, scheduled_jobs

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]
SECONDS = 20.0
"""What ending may take, all in all, on a machine that is busy."""


def test_other_machines_are_answered_with_keys_alone(lab: Path, refused: Refused) -> None:
    line = refused("serve", "--lab", lab, "--host", "0.0.0.0")
    assert line == (
        "--host 0.0.0.0: answers other machines, so serve.require_keys must be true in "
        f"{lab / 'armlift.toml'} (make a key with `armlift keys create`)"
    )


def test_an_address_that_is_taken_or_is_none(lab: Path, refused: Refused) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for more in ((), ("--all",)):
            line = refused("serve", "--lab", lab, "--port", port, *more)
            assert line == (f"--host 127.0.0.1 --port {port}: cannot be listened at (Address already in use)")


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.7"])
def test_an_address_of_no_machine_or_another(lab: Path, refused: Refused, edit: Edit, host: str) -> None:
    edit("armlift.toml", "require_keys = false", "require_keys = true")
    assert f"--host {host} --port 8000: cannot be listened at (" in refused(
        "serve", "--lab", lab, "--host", host
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (
            "armlift.toml",
            'default_arm = "popularity"',
            'default_arm = "best"',
            "default_arm: 'best' is not an arm",
        ),
        ("armlift.toml", "budget_ms = 100", "budget_ms = 0", "budget_ms"),
        ("armlift.toml", '# fallback_arm = "popularity"', 'fallback_arm = "best"', "'best' is not an arm"),
    ],
)
def test_settings_that_do_not_fit(
    lab: Path, refused: Refused, edit: Edit, file: str, old: str, new: str, says: str
) -> None:
    edit(file, old, new)
    line = refused("serve", "--lab", lab, "--port", "0")
    assert line.startswith(f"{lab / file}:")
    assert says in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("filters: 3\n", "serving.yaml:1: filters: 3 must be a list"),
        ("hide: [a]\n", "serving.yaml:1: hide: "),
        ("filters: [{name: x, hide: 'rated =='}]\n", "serving.yaml:1: filters.0.hide: "),
        ("caps: {author: 0}\n", "serving.yaml:1: caps.author: 0 "),
        ("{", "serving.yaml:"),
    ],
)
def test_filters_that_are_none(lab: Path, refused: Refused, text: str, says: str) -> None:
    (lab / "serving.yaml").write_text(text)
    assert says in refused("serve", "--lab", lab, "--port", "0")


def test_a_spill_that_cannot_be_written(lab: Path, refused: Refused) -> None:
    (lab / "spill").touch()
    assert refused("serve", "--lab", lab, "--port", "0").startswith(f"{lab / 'spill'}: cannot be written (")


def test_all_that_a_lab_needs_runs_and_ends_together(tmp_path: Path) -> None:
    lab = ready(tmp_path / "lab", size_of(50, 1), users=50, serve={"budget_ms": 20_000})
    port = free_port()
    with serving(lab, "--all", "--dashboard-port", str(port)) as api, Client(api.url) as client:
        click(client, "first")
        wait_for(lambda: clicks(lab) == 1, SECONDS)
        wait_for(lambda: "scheduling; stop with Ctrl-C\n" in api.log, SECONDS)
        jobs = scheduled(lab)
        assert {"nightly", "monitor"} <= jobs, jobs
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/"), SECONDS)
        begun_anew(api, "ingest")
        click(client, "second")
        wait_for(lambda: clicks(lab) == 2, SECONDS)
        everything = psutil.Process(api.process.pid).children(recursive=True)
        assert len(everything) >= 5, "arms, ingester, scheduler, and the pages, which are two"
        check_end(api, everything, signal.SIGTERM, 0)


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    lab = ready(tmp_path / "lab", size_of(50, 1), users=50)
    with serving(lab, "--all", "--dashboard-port", str(free_port())) as api:
        wait_for(lambda: "ingesting; stop with Ctrl-C\n" in api.log, SECONDS)
        everything = psutil.Process(api.process.pid).children(recursive=True)
        check_end(api, everything, signal.SIGINT, 130)
        assert api.log[-1] == "armlift: stopped; start the same command again to go on\n"


def check_end(api: Answering, everything: list[psutil.Process], number: signal.Signals, code: int) -> None:
    """Check that a signal ends it, and leaves no process."""
    began = time.monotonic()
    api.process.send_signal(number)
    assert api.process.wait(60) == code
    took = time.monotonic() - began
    print(f"{number.name}: ended after {took:.1f} s")
    assert took < SECONDS
    assert psutil.wait_procs(everything, 5)[1] == []
    assert not [line for line in api.log if "Traceback" in line], "".join(api.log)


def begun_anew(api: Answering, name: str) -> None:
    """Kill a command that runs beside, and wait until another one is there."""

    def pids() -> list[int]:
        some = psutil.Process(api.process.pid).children()
        with suppress(psutil.NoSuchProcess):
            return [one.pid for one in some if name in one.cmdline()]
        return []

    (first,) = pids()
    psutil.Process(first).kill()
    wait_for(lambda: pids() not in ([], [first]), SECONDS)
    assert f"{name} ended with code -9, begins anew in 1 s\n" in api.log


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def click(client: Client, unit: str) -> None:
    answer = client.recommend(unit, experiment=NAME)
    client.send([client.impression(answer, 0), client.feedback(answer, 0, "click")])


def clicks(lab: Lab) -> int:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = connection.scalar(
            select(func.count()).select_from(feedback).where(feedback.c.kind == "click")
        )
    engine.dispose()
    return found or 0


def scheduled(lab: Lab) -> set[str]:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = {*connection.scalars(select(scheduled_jobs.c.id))}
    engine.dispose()
    return found
