"""A PostgreSQL server for tests and benchmarks."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError


class Server:
    """A PostgreSQL with a database of its own, on a free port; `fsync` makes commits durable, and slower."""

    def __init__(self, programs: Path, folder: Path, *, fsync: bool) -> None:
        self._programs, self._folder, self._port = programs, folder, free_port()
        self._user = _other_than_root()
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            shutil.chown(folder, self._user)
        self.url = f"postgresql+psycopg://armlift:secret@127.0.0.1:{self._port}/postgres"
        options = (
            f"fsync={'on' if fsync else 'off'}",
            f"port={self._port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
            "shared_buffers=256MB",
            "max_wal_size=4GB",
        )
        self._settings = [part for option in options for part in ("-c", option)]
        initdb = f"{programs / 'initdb'} -U armlift -A trust -E UTF8 --locale=C --no-sync -D".split()
        command = [*initdb, str(folder / "data")]
        subprocess.run(command, check=True, user=self._user, stdout=subprocess.DEVNULL)

    @property
    def name(self) -> str:
        """Say what runs, for people."""
        asked = [str(self._programs / "postgres"), "--version"]
        words = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
        return f"PostgreSQL {words[2]}"

    @property
    def pid(self) -> int:
        """Give the process that all others of it come from."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again; returns when it serves."""
        log = self._folder / "log"
        with log.open("ab") as file:
            command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *self._settings]
            self._process = subprocess.Popen(command, user=self._user, stdout=file, stderr=file)
        engine = create_engine(self.url)
        for _ in range(600):
            try:
                engine.connect().close()
            except OperationalError as error:
                if self._process.poll() is not None:
                    raise RuntimeError(log.read_text()) from error
                time.sleep(0.05)
            else:
                engine.dispose()
                return
        raise TimeoutError(f"PostgreSQL does not answer: {log.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: at once but cleanly (SIGINT, it waits for no client), or as a crash would (SIGQUIT)."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        """Let none of its processes go on: it takes connections, and answers nobody."""
        self._tell(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        for one in (main, *main.children(recursive=True)):
            one.send_signal(number)


@contextmanager
def postgresql(*, fsync: bool = False) -> Iterator[Server | None]:
    """Run a PostgreSQL for a while; gives None where its programs are not installed."""
    programs = _postgresql_programs()
    if programs is None:
        yield None
        return
    # In a folder of its own: the server refuses to run as root, and nobody else may enter that of a test.
    folder = Path(tempfile.mkdtemp(prefix="armlift-postgresql-"))
    try:
        server = Server(programs, folder, fsync=fsync)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _postgresql_programs() -> Path | None:
    """Find where PostgreSQL's programs lie: on the path, or where Debian puts them, the newest first."""
    on_path = shutil.which("postgres")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def _other_than_root() -> str | None:
    """Name a user to run the server as; None for the present one."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_port() -> int:
    """Give a port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
