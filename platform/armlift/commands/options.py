"""What the commands share: their options, and how they write."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.lab import Lab
    from armlift.runs import Run
    from armlift.settings import KafkaSettings
    from armlift.streams.stream import EventStream

LabOption = Annotated[
    Path | None, typer.Option("--lab", help="The lab folder; default: the nearest parent with armlift.toml.")
]
DatabaseOption = Annotated[str | None, typer.Option("--database", help="Instead of database_url.")]
StreamOption = Annotated[str | None, typer.Option("--stream", help="Instead of stream_url.")]
MAX_SEED = 2**63 - 1
"""The largest whole number that every database holds."""
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def open_lab(lab: Path | None, database: str | None = None, stream: str | None = None) -> "Lab":
    """Open the lab a command works in."""
    from armlift.lab import Lab, find_lab

    return Lab(find_lab(lab), database=database, stream=stream)


def open_stream(lab: "Lab") -> "EventStream":
    """Open the lab's event stream, which is made unless it is there."""
    folder = _stream_folder(lab)
    if folder is not None:
        from armlift.streams.embedded import EmbeddedStream

        return EmbeddedStream(folder)
    # Loaded here alone: kafka-python takes a third of a second.
    from armlift.streams.kafka import KafkaStream

    return KafkaStream(lab.settings.stream_url, _kafka(lab))


def open_existing_stream(lab: "Lab", *, seconds: float) -> "EventStream | None":
    """Open the lab's event stream as `open_stream` does; None where it is not there yet.

    Brokers that do not answer are waited for at most so many seconds, now and whenever they are asked.
    """
    folder = _stream_folder(lab)
    if folder is not None:
        from armlift.streams.embedded import EmbeddedStream, is_stream

        return EmbeddedStream(folder) if is_stream(folder) else None
    from armlift.streams.kafka import KafkaStream
    from armlift.streams.kafka_cluster import MissingTopicError

    kafka = _kafka(lab).model_copy(update={"create_topic": False})
    try:
        return KafkaStream(lab.settings.stream_url, kafka, connect_seconds=seconds, wait_seconds=seconds)
    except MissingTopicError:
        return None


def _stream_folder(lab: "Lab") -> Path | None:
    """Give the folder of an embedded stream; None for a topic of Kafka."""
    scheme, _, folder = lab.settings.stream_url.partition("://")
    return lab.folder / folder if scheme == "local" else None


def _kafka(lab: "Lab") -> "KafkaSettings":
    kafka = lab.settings.kafka
    if not kafka.ca_file:
        return kafka
    return kafka.model_copy(update={"ca_file": str(lab.folder / kafka.ca_file)})


def who(by: str | None) -> str:
    """Give who decides: as told by --by, else who is logged in."""
    import getpass

    from armlift.errors import InputError

    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise InputError("--by: nobody is logged in, must name who decides") from error


def now() -> int:
    """Give the time, in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def stored_run(lab: "Lab", engine: "Engine", experiment: str, run: str | None) -> "Run":
    """Give a finished or live run of an experiment, the newest when none is named."""
    from armlift.errors import InputError
    from armlift.runs import latest

    with engine.connect() as connection:
        try:
            found = latest(connection, experiment, run)
        except InputError:
            # What the lab does not know may have runs; where there is none, it is the name that is wrong.
            if run is None:
                lab.experiment(experiment)
            raise
    if not found.finished and not found.live:
        raise InputError(
            f"run {found.run} of {experiment!r} was broken off; start its "
            f"{'replay' if found.replayed else 'simulation' if found.simulated else 'import'} "
            f"again to finish it"
        )
    return found


def check_html(html: Path | None) -> None:
    """Refuse, before any work is done, a file that cannot be written for want of its folder."""
    from armlift.errors import InputError

    if html is not None and not html.parent.is_dir():
        raise InputError(f"--html {html}: there is no folder {html.parent}, must be in one that exists")
    if html is not None and html.is_dir():
        raise InputError(f"--html {html}: is a folder, must be a file")


def say(text: str) -> None:
    """Write a line for people, on stderr."""
    print(text, file=sys.stderr)


def write_json(document: Any) -> None:
    """Write the one document of a command, on stdout."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")
