"""Opening the event stream of a lab, whichever its `stream_url` names."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from armlift.lab import Lab
    from armlift.settings import KafkaSettings
    from armlift.streams.stream import EventStream

CONNECT_SECONDS = 5.0
"""How long an opener of `stream_opener` lets brokers take to answer at first."""
WAIT_SECONDS = 2.0
"""How long a stream that it opened waits for brokers to confirm."""


def open_stream(lab: "Lab") -> "EventStream":
    """Open the lab's event stream, which is made unless it is there."""
    folder = stream_folder(lab)
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
    folder = stream_folder(lab)
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


def stream_opener(lab: "Lab") -> "Callable[[], EventStream]":
    """Give a function that opens the lab's event stream as `open_stream` does, again and again.

    What it opens waits for brokers for seconds only: for whoever knows what to do while they are away.
    """
    if stream_folder(lab) is not None:
        return lambda: open_stream(lab)
    url, kafka = lab.settings.stream_url, _kafka(lab)

    def opened() -> "EventStream":
        from armlift.streams.kafka import KafkaStream

        return KafkaStream(url, kafka, connect_seconds=CONNECT_SECONDS, wait_seconds=WAIT_SECONDS)

    return opened


def stream_folder(lab: "Lab") -> Path | None:
    """Give the folder of an embedded stream; None for a topic of Kafka."""
    scheme, _, folder = lab.settings.stream_url.partition("://")
    return lab.folder / folder if scheme == "local" else None


def _kafka(lab: "Lab") -> "KafkaSettings":
    kafka = lab.settings.kafka
    if not kafka.ca_file:
        return kafka
    return kafka.model_copy(update={"ca_file": str(lab.folder / kafka.ca_file)})
