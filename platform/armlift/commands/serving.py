"""The command that answers live units: serve."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import DatabaseOption, LabOption, StreamOption, open_lab, say

if TYPE_CHECKING:
    from armlift.lab import Lab

app = typer.Typer()
PORT = 8000
LOCAL = ("127.0.0.1", "::1", "localhost")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one, which is told.")] = PORT,
    everything: Annotated[
        bool, typer.Option("--all", help="Also ingest, schedule nights, and show the pages.")
    ] = False,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the pages, with --all.")] = 8501,
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
) -> None:
    """Answer live units over HTTP: recommendations, events, assignments; until stopped."""
    opened = open_lab(lab, database, stream)
    _check_host(opened, host)
    from armlift.api.serve import listen
    from armlift.api.serve import serve as serve_api
    from armlift.serving.service import Service
    from armlift.store.database import open_database

    service = Service(opened, open_database(opened, create=True))
    beside = _others(opened, dashboard_port if everything else None)
    with listen(host, port) as listening, _stoppable(), beside:
        serve_api(service, listening, say=say)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the block in order, also before the API has begun to look after it."""
    import signal
    import sys

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_host(lab: "Lab", host: str) -> None:
    """Refuse to answer whoever can reach this machine without asking for a key."""
    from armlift.errors import InputError

    if host not in LOCAL and not lab.settings.serve.require_keys:
        raise InputError(
            f"--host {host}: answers other machines, so serve.require_keys must be true in "
            f"{lab.folder / 'armlift.toml'} (make a key with `armlift keys create`)"
        )


def _others(lab: "Lab", dashboard_port: int | None) -> AbstractContextManager[object]:
    """Run ingester, scheduler and pages beside, where they are asked for."""
    if dashboard_port is None:
        return nullcontext()
    from armlift.serving.children import Children
    from armlift.settings import PREFIX

    here = ["--lab", str(lab.folder)]
    commands = {
        "ingest": ["ingest", *here],
        "schedule": ["schedule", *here],
        "dashboard": ["dashboard", *here, "--port", str(dashboard_port)],
    }
    # By the environment, where a password is seen by nobody else.
    urls = {"DATABASE_URL": lab.settings.database_url, "STREAM_URL": lab.settings.stream_url}
    return Children(commands, {f"{PREFIX}{name}": url for name, url in urls.items()}, say=say)
