"""The commands of the pages: dashboard, password."""

from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import DatabaseOption, LabOption, open_lab, say

if TYPE_CHECKING:
    from armlift.lab import Lab

app = typer.Typer()
SECRETS = ".streamlit/secrets.toml"
"""Where a lab keeps what Streamlit must know of an OIDC provider."""


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
    from armlift.store.database import open_existing

    opened = open_lab(lab, database)
    engine = open_existing(opened, read_only=True)
    if engine is not None:
        engine.dispose()
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise InputError(
            f"--port {port}: {address}:{port} cannot be used: {error.strerror or error}"
        ) from error
    _check_sign_in(opened, address)
    script = find_spec("armlift_dashboards.__main__")
    assert script is not None
    assert script.origin is not None
    # The lab and its database go by the environment, where a password is seen by nobody else.
    environment = {**os.environ, VARIABLE: str(opened.folder.resolve())}
    if database is not None:
        environment[f"{PREFIX}DATABASE_URL"] = opened.settings.database_url
    options = [f"--server.port={port}", f"--server.address={address}"]
    secrets = opened.folder.resolve() / SECRETS
    if secrets.is_file():
        options.append(f"--secrets.files={secrets}")
    sys.stdout.flush()
    # This process becomes another, so that what was written on the command line is in no process list.
    command = [sys.executable, "-m", "armlift_dashboards.supervisor", "run", script.origin, *options]
    os.execve(sys.executable, command, environment)


def _check_sign_in(lab: "Lab", address: str) -> None:
    """Raise InputError where sign-in cannot work, and warn where everybody on the network is an owner."""
    from importlib.util import find_spec
    from ipaddress import ip_address

    from armlift.errors import InputError

    kind = lab.settings.dashboard.sign_in
    if kind == "oidc" and find_spec("authlib") is None:
        raise InputError("dashboard.sign_in: oidc needs Authlib, which `pip install 'armlift[oidc]'` brings")
    try:
        loopback = address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if kind == "none" and not loopback:
        say(f"armlift: --address {address}: whoever reaches it sees everything, as dashboard.sign_in is none")


@app.command()
def password(
    name: Annotated[str, typer.Argument(help="Who signs in by it; stands in owners or viewers, too.")],
) -> None:
    """Ask for a password, twice, and print the line for [dashboard.passwords] that lets its owner sign in.

    Where stdin is not a terminal its first line is the password.
    """
    import json
    import re
    import sys

    from armlift.errors import InputError
    from armlift_dashboards.passwords import LEAST, hash_of

    if not name.strip() or not name.isprintable():
        raise InputError(f"NAME {name!r}: must be one or more printable characters")
    if sys.stdin.isatty():
        given = typer.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if len(given) < LEAST:
        raise InputError(f"the password has {len(given)} characters, must have at least {LEAST}")
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
    say("Put this below [dashboard.passwords] in armlift.toml, and the name into owners or viewers:")
    print(f'{key} = "{hash_of(given)}"')
