"""The supervisor ends a server that is to stop, whoever holds it up, and hands on its failure."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from armlift_dashboards.supervisor import GRACE


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "armlift_dashboards.supervisor", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_connection_that_stays_open_holds_nothing_up(tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("import streamlit\nstreamlit.title('here')\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start("run", str(script), f"--server.port={port}", "--server.address=127.0.0.1",
                   "--server.headless=true")  # fmt: skip
    client = None
    for _ in range(300):
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            break
        except OSError:
            time.sleep(0.1)
    assert client is not None
    children = psutil.Process(server.pid).children(recursive=True)
    assert children
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # a request that never ends
    server.send_signal(signal.SIGTERM)
    assert server.wait(GRACE + 20) == 0
    client.close()
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_fails_by_itself_gives_its_code() -> None:
    assert start("run", "none.py").wait(30) not in (0, None)
