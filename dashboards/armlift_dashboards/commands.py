"""The commands of the pages: dashboard, password."""

from typing import Annotated

import typer

from armlift.commands.options import DatabaseOption, LabOption, open_lab

app = typer.Typer()


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the pages answer.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Who can reach them: 0.0.0.0 is everybody on the network.")
    ] = "127.0.0.1",
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Show the pages of a lab in the browser, until stopped; nothing they do changes an experiment."""
    import os
    import socket
    import sys
    from importlib.util import find_spec

    from armlift.errors import InputError
    from armlift.lab import VARIABLE
    from armlift.settings import PREFIX

    opened = open_lab(lab, database)
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise InputError(
            f"--port {port}: {address}:{port} cannot be used: {error.strerror or error}"
        ) from error
    script = find_spec("armlift_dashboards.__main__")
    assert script is not None
    assert script.origin is not None
    # The lab and its database go by the environment, where a password is seen by nobody else.
    environment = {**os.environ, VARIABLE: str(opened.folder.resolve())}
    if database is not None:
        environment[f"{PREFIX}DATABASE_URL"] = opened.settings.database_url
    options = [f"--server.port={port}", f"--server.address={address}"]
    sys.stdout.flush()
    command = [sys.executable, "-m", "streamlit", "run", script.origin, *options]
    os.execve(sys.executable, command, environment)
